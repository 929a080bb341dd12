"""From a composed job to its results, and from an intent to a machine confirmed gone.

`scheduler.py` takes the jobs of a `source.py` to leases of `launchers.capacity`, and `running.py` takes one job through one lease.
`after_error.py` alone decides what follows an error; `ended.py` keeps the proof of how a job ended. `release.py` alone destroys;
`deadlines.py` keeps the deadline of each machine, and `stops.py` counts Ctrl-C. `attach.py` finishes a launch whose client is gone, and
`reconnect.py` lets one client at a time hold it. It knows no kind of provider, and neither Hydra nor the command line.
"""
