"""An emulated Modal on loopback that the real client talks to, and that really runs the client's own container entrypoint.

`state.py` holds the nouns, `storage.py` the bytes (Volumes, mounts, blobs) and their HTTP server, `containers.py` runs tasks,
`control.py` answers the RPCs, `server.py` puts them together. By hand: `python -m tests.emulators.modal`.
"""
