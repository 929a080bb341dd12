"""Fakes of everything that a launch meets outside this process, on the real protocols: a market, its machines, and time.

For tests of the launch core, and for whoever adds a provider: `contract` holds the assertions that every provider passes. It
must not be imported by anything that launches, and imports no test framework.
"""
