"""What jobs run on, behind one interface: rented machines, serverless containers, and whatever comes next, such as a queue.

`base.py` holds the interface (`Capacity`) and what a job holds of it (`Lease`); `machines.py` and `serverless.py` implement it, and
`capacity_for` chooses by what a provider can do. `anywhere.py` makes one of several. Only this folder asks which kind a provider is;
the rest of the launch core works with the interface. It knows no provider by name, and neither Hydra nor the command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from launchers.capacity.base import Capacity
    from launchers.capacity.machines import OpenHost
    from launchers.providers.base import Provider


def capacity_for(provider: Provider, open_host: OpenHost | None = None) -> Capacity:
    """The capacity of a provider, for one launch. `open_host` replaces ssh to its machines."""
    from launchers.capacity.machines import MachineCapacity
    from launchers.capacity.serverless import ServerlessCapacity
    from launchers.providers.base import Serverless

    if isinstance(provider, Serverless):
        return ServerlessCapacity()
    return MachineCapacity() if open_host is None else MachineCapacity(open_host)
