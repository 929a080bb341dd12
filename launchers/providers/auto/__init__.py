"""`provider=auto`: every provider whose key is here, as one. Holds its settings and its descriptor.

How a launch chooses among them is `launchers.capacity.anywhere`; nothing here knows a provider by name.
"""
