"""Fitting: the Lightning module, optimizer, exact resume, callbacks and loggers.

Must not know where data comes from, how a summary is judged in detail, or that a launcher exists.
"""
