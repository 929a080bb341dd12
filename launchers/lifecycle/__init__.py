"""From a composed job to its results, and from an intent to a machine confirmed gone.

`machines.py` is the only code that creates anything, `release.py` the only one that destroys; `deadlines.py` keeps the deadline of
each machine, and `stops.py` counts Ctrl-C; `running.py` takes one job through one machine; `scheduler.py` takes the jobs of a
`source.py` to machines, or to what `applications.py` shares among them; `reconnect.py` finds machines and jobs again after a
client died. It knows no provider by name, and neither Hydra nor the command line.
"""
