"""Speaks with the client. `python3 agent.py ROOT MARK serve` answers questions, one JSON line each, until the client hangs up;
bytes in bulk go through a process of their own: `receive`, `send JOB PATH ...`, `follow JOB OFFSET`.

Each begins its output with a line that holds MARK alone: what the machine's shell printed before that is not ours.
"""

import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

# What only one of the commands needs is imported by it: a log is followed by a process that starts while the job does.
from files import CHUNK, job_folder, status_of, touch_contact

FIRST_LOOK_S = 0.01
LOOK_S = 0.05
"""Between two looks at a log; the first ones come closer."""


def send(root, job, path, offset, size, digest):
    """`size` bytes, less the first `offset`, of an output file as the manifest described it."""
    from checked import decode
    from messages import Wanted
    from results import read

    wanted = decode(Wanted, {"path": path, "offset": int(offset), "size": int(size), "digest": digest})
    for chunk in read(root, job, wanted.path, wanted.offset, wanted.size, wanted.digest):
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def follow(root, job, offset):
    """The job's log from a byte offset on, as it grows, until the job has ended and all of it was sent."""
    log = os.path.join(job_folder(root, job), "log")
    out = sys.stdout.buffer
    while not os.path.exists(log):
        if status_of(root, job)["state"] in ("ended", "lost"):
            return
        time.sleep(FIRST_LOOK_S)
    last_touch, pause = 0.0, FIRST_LOOK_S
    with open(log, "rb") as file:
        file.seek(offset)
        while True:
            ended = status_of(root, job)["state"] in ("ended", "lost")
            chunk = file.read(CHUNK)
            pause = FIRST_LOOK_S if chunk else min(pause * 1.1, LOOK_S)
            while chunk:
                out.write(chunk)
                chunk = file.read(CHUNK)
            out.flush()
            if ended:
                return
            if time.time() - last_touch > 5:
                last_touch = time.time()
                touch_contact(root)
            time.sleep(pause)


def serve(root):
    """Answer questions until standard input ends. A failed act is an answer too."""
    from acts import ACTS
    from checked import decode
    from messages import QUESTIONS, Done, Failed, Hello, Question

    _say(Hello(sys.executable))
    for line in iter(sys.stdin.buffer.readline, b""):
        touch_contact(root)
        try:
            question = decode(Question, json.loads(line))
            request = decode(QUESTIONS[question.act], question.request)
            answer = Done(ACTS[question.act](root, request))
        except Exception as error:
            answer = Failed(f"{type(error).__name__}: {error}"[:2000])
        _say(answer)


def _say(message):
    sys.stdout.write(json.dumps(message, default=vars) + "\n")
    sys.stdout.flush()


def main(arguments):
    root, mark, command, rest = arguments[0], arguments[1], arguments[2], arguments[3:]
    sys.stdout.write("\n" + mark + "\n")
    sys.stdout.flush()
    os.makedirs(root, mode=0o700, exist_ok=True)
    touch_contact(root)
    if command == "receive":
        from blobs import receive

        receive(root, sys.stdin.buffer)
    elif command == "follow":
        follow(root, rest[0], int(rest[1]))
    elif command == "send":
        send(root, *rest)
    else:
        serve(root)


if __name__ == "__main__":
    main(sys.argv[1:])
