"""From a composed job to its results, and from an intent to a machine confirmed gone.

`rental.py` is the only code that creates or destroys anything; `running.py` takes one job through one machine; `fleet.py`
spreads the jobs of a launch over machines, and takes them up again after this process died.
"""
