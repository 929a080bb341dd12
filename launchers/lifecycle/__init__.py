"""From a composed job to its results, and from an intent to a machine confirmed gone.

`rental.py` is the only code that creates anything, `ending.py` the only one that destroys; `monitor.py` keeps the deadline of each
machine, and `stops.py` counts Ctrl-C; `running.py` takes one job through one machine; `scheduler.py`
spreads the jobs of a launch over machines, or over what `applications.py` shares among them; `takeover.py` finds machines
and jobs again after a client died.
"""
