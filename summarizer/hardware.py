"""What this machine has, and which hardware option that is."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass

from omegaconf import DictConfig, open_dict

from summarizer.errors import HardwareError
from summarizer.paths import config_dir, option_settings

CARDS = (  # (part of the driver's name, at least GiB, option), the first match counts
    ("H200", 0, "h200"), ("H100", 0, "h100"), ("A100", 60, "a100_80gb"), ("A100", 0, "a100"),
    ("4090", 0, "4090"), ("3090", 0, "3090"), ("L4", 0, "l4"), ("T4", 0, "t4"),
)  # fmt: skip
BY_MEMORY = ((130, "h200"), (75, "h100"), (38, "a100"), (20, "4090"), (0, "t4"))  # at least GiB -> option


@dataclass(frozen=True)
class Device:
    """One kind of accelerator of this machine; `memory_gib` is of one card and 0 where it is not known."""

    accelerator: str
    name: str
    count: int
    memory_gib: float


def usable_cores() -> int:
    """Cores this process may run on, which in a container or under taskset are fewer than the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def devices() -> list[Device]:
    """The accelerators that torch can use here, the fastest first; the processor is always the last."""
    import torch

    found = []
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found.append(Device("cuda", properties.name, torch.cuda.device_count(), properties.total_memory / 2**30))
    if torch.backends.mps.is_available():
        found.append(Device("mps", "Apple GPU", 1, 0.0))
    found.append(Device("cpu", platform.processor() or platform.machine(), usable_cores(), 0.0))
    return found


def option_of(device: Device) -> str:
    """The hardware option that fits a device: by the card's name, else by its memory."""
    if device.accelerator != "cuda":
        return device.accelerator
    words = device.name.upper().replace("-", " ").split()
    for part, least, option in CARDS:
        if part in words and device.memory_gib >= least:
            return option
    return next(option for least, option in BY_MEMORY if device.memory_gib >= least)


def world_size_of(config: DictConfig) -> int:
    """Processes that train together, on all machines."""
    return int(config.trainer.devices * config.hardware.nodes)


def resolve(config: DictConfig, overrides: list[str]) -> Device:
    """Check that the hardware asked for is here; `hardware=auto` takes the option of what is (settings named on the
    command line stay).

    Raises:
        HardwareError: the device is not on this machine, or fewer of them than asked for.
    """
    present = devices()
    if config.hardware.accelerator == "auto":
        chosen = option_settings(config_dir() / "hardware" / f"{option_of(present[0])}.yaml")
        named = {o.lstrip("+~").partition("=")[0].removeprefix("hardware.") for o in overrides if "hardware." in o}
        with open_dict(config):
            for key, setting in chosen.items():
                if key not in named:
                    config.hardware[key] = setting
    wanted = config.hardware.accelerator
    here = ", ".join(f"{d.accelerator} ({d.name})" if d.name else d.accelerator for d in present)
    for device in present:
        if device.accelerator == wanted:
            if wanted == "cuda" and config.trainer.devices > device.count:
                raise HardwareError(
                    f"trainer.devices={config.trainer.devices}, but this machine has {device.count} x {device.name}: lower it."
                )
            if wanted == "cuda":
                avoid_plans_by_shape()
            if config.hardware.precision == "auto":
                with open_dict(config):
                    config.hardware.precision = "bf16-mixed" if multiplies_bfloat16(device) else "32-true"
            return device
    raise HardwareError(
        f"hardware={config.hardware.name} needs {wanted}, but this machine has {here}: choose hardware=auto, or rent a card "
        "with provider=."
    )


def multiplies_bfloat16(device: Device) -> bool:
    """Whether a device has instructions for products of bfloat16: without them they are slower than those of float32."""
    import torch

    if device.accelerator == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.accelerator == "mps" or not hasattr(torch.cpu, "get_capabilities"):  # since torch 2.10
        return False
    has = torch.cpu.get_capabilities()
    return any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def avoid_plans_by_shape() -> None:
    """Keep PyTorch's attention from cuDNN, which plans anew for each shape, while batches of documents differ in shape.

    Seen on an H200 with torch 2.11: the host spent 60 % of its time in the attention calls of the default model.
    """
    import torch

    torch.backends.cuda.enable_cudnn_sdp(False)


def keep_freed_memory() -> None:
    """Let glibc keep what a training step frees for the next one: given back, each step pays for fetching it anew.

    Does nothing where there is no such allocator.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:  # mallopt(3): M_MMAP_THRESHOLD, the most that it takes; M_TRIM_THRESHOLD; M_TOP_PAD
        for option, size in ((-3, 32 << 20), (-1, 1 << 30), (-2, 64 << 20)):
            set_option(option, size)


def set_threads(threads: int | None, processes: int = 1) -> int:
    """Give torch `threads` CPU threads, by default the usable cores divided among the processes; returns their number."""
    import torch

    number = threads or max(1, usable_cores() // processes)
    torch.set_num_threads(number)
    return number
