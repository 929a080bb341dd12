"""Modal through its official client: `prices.py` and `checks.py` are pure, `provider.py` makes and ends applications,
`host.py` follows jobs and reads their results, `worker.py` runs in the container.
"""
