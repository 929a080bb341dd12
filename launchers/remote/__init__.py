"""What runs on the rented machine: the standard library only, any Python from 3.8 on, nothing imported from the rest.

The client copies this folder there and runs `python3 agent.py`; each question is one small act (`acts.py`), and `messages.py` says
what may be asked and answered, on both sides. The supervisor is the parent of a job and writes what became of it to files, so
that nobody has to be connected; the watchdog ends the machine when its time is over or nobody comes for the results.

    ROOT/blobs/DIGEST          content-addressed files, as they came
    ROOT/trees/DIGEST/         a working tree made of them; jobs run in it
    ROOT/env/DIGEST/           a virtual environment
    ROOT/jobs/JOB/status.json  what became of the job; log, heartbeat and the job's output folder beside it
    ROOT/lease.json            until when the machine may live; ROOT/contact: when the client last spoke
"""
