"""An emulated Modal on loopback that the real client talks to, and that really runs the client's own container entrypoint.

`state.py` holds the nouns, `storage.py` the bytes (Volumes, mounts, blobs) and their HTTP server, `containers.py` runs tasks.
`control.py` answers the RPCs: a client's on images, Volumes and calls are in `images.py`, `volumes.py` and `calls.py`, those of
containers in `schedule.py`. `server.py` puts it all together. By hand: `python -m tests.emulators.modal`.
"""
