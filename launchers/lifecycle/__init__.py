"""From a composed job to its results, and from an intent to a machine confirmed gone.

`rental.py` is the only code that creates or destroys anything; `running.py` takes one job through one machine; `fleet.py`
spreads the jobs of a launch over machines, or over what `applications.py` shares among them; `takeover.py` finds machines
and jobs again after a client died.
"""
