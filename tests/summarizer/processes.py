"""Functions run by two processes joined over gloo: what tests of several devices share."""

import multiprocessing
import os
import socket
import traceback

import torch


def _run(function, rank, port, arguments, results):
    try:
        torch.set_num_threads(1)
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
        results.put((rank, function(*arguments), None))
        torch.distributed.destroy_process_group()
    except BaseException:
        results.put((rank, None, traceback.format_exc()))


def on_two_processes(function, *arguments, timeout=120):
    """[2] what `function(*arguments)` returned on each rank; numbers, arrays and lists of them, not tensors."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["summarizer.training.fit", "tests.summarizer.packing.tiny"])
    results = context.Queue()
    processes = [
        context.Process(target=_run, args=(function, rank, port, arguments, results), daemon=True) for rank in range(2)
    ]
    for process in processes:
        process.start()
    try:
        found = {}
        for _ in processes:
            rank, value, error = results.get(timeout=timeout)
            assert error is None, f"rank {rank}:\n{error}"
            found[rank] = value
        return [found[0], found[1]]
    finally:
        for process in processes:
            process.join(timeout=1)
            process.kill()
