"""Many jobs as one sweep: which job comes next, what is pruned, what was run before, and what the sweep may cost.

Knows no provider, no machine and nothing of what a job computes: a job is its overrides, the values it reports, and how it
ended. Optuna is imported where a search asks it, and by nothing that a plain list of jobs runs.
"""
