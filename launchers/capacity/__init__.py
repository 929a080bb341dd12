"""What jobs run on, behind one interface: rented machines, serverless containers, and whatever comes next, such as a queue.

`base.py` holds the interface (`Capacity`) and what a job holds of it (`Lease`); `machines.py` and `serverless.py` implement it, and
`capacity_for` chooses by what a provider can do. Only this folder asks which kind a provider is; the rest of the launch core works
with the interface. It knows no provider by name, and neither Hydra nor the command line.
"""
