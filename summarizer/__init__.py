"""The science: a composed config in, a trained and measured summarizer out.

Holds data, models, training, evaluation, prediction and the report of a run. It must not know clouds, rented
machines or the package `launchers`: a job that was shipped runs here exactly as one that was not.
Importing this package is cheap: nothing under it imports torch before a task needs it.
"""

__version__ = "0.1.0"
