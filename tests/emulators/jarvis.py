"""An emulated JarvisLabs on loopback: its REST API by region, a real sshd for each instance, faults on demand, and a bill.

By hand: `python -m tests.emulators.jarvis` prints the address and what to set; see docs/jarvis.md.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import unquote

from tests.emulators.cage import PRIVATE, Cage
from tests.emulators.served import Delays, Served

REGIONS = {"in1": "india-chennai-01", "in2": "india-noida-01", "eu1": "europe-01"}
CENTRAL = "in2"
"""Where requests go that are about no region."""
STORAGE_PER_GB_HOUR = 0.10 / 730


def row(gpu: str, region: str, price: float, spot: float | None = None, **changes: Any) -> dict[str, Any]:
    """A row of the catalog; prices in $ per card and hour."""
    return {
        "gpu_type": gpu, "region": REGIONS[region], "num_free_devices": 2, "effective_num_free_devices": 4,
        "spot_num_free_devices": 2 if spot else 0, "price_per_hour": price, "spot_price": spot, "vram": "24",
        "cpus_per_gpu": 8, "ram_per_gpu": 32, "arc": "Ada", "workload_type": "container",
    } | changes  # fmt: skip


def default_catalog() -> list[dict[str, Any]]:
    return [
        row("L4", "in2", 0.46, 0.24),
        row("L4", "in1", 0.44, 0.22),
        row("L4", "in1", 0.20, None, workload_type="vm"),
        row("A30", "in2", 0.41, num_free_devices=0, effective_num_free_devices=0),
        row("A100", "in2", 0.89, 0.45, vram="40"),
        row("A100-80GB", "in2", 1.49, 0.75, vram="80"),
        row("H100", "eu1", 2.69, vram="80", num_free_devices=8),
        row("H100", "in2", 2.99, 1.60, vram="80"),
    ]


@dataclass
class Instance:
    """One machine: what JarvisLabs knows of it, and the cage that stands for it. A resume changes its id and its cage."""

    id: int
    sold: dict[str, Any]
    label: str
    spot: bool
    num_gpus: int
    disk: int
    template: str
    cage: Cage
    created: float
    status: str = "Creating"
    error: str = "None"
    ended: float | None = None
    resumes: int = 0
    paid: float = 0.0
    """$ until the last change of the rate."""
    changed: float = 0.0

    @property
    def booting(self) -> bool:
        return self.status == "Creating"

    @property
    def rate(self) -> float:
        """$ per hour now."""
        storage = self.disk * STORAGE_PER_GB_HOUR
        if self.status in ("Paused", "Pausing", "Failed"):
            return storage
        return float(self.sold["spot_price"] if self.spot else self.sold["price_per_hour"]) * self.num_gpus + storage

    def settle(self) -> None:
        """Add what it cost since the rate last changed; to be called before that changes."""
        now = time.time()
        self.paid += (now - (self.changed or self.created)) / 3600 * self.rate
        self.changed = now

    def row(self) -> dict[str, Any]:
        return {
            "machine_id": self.id, "status": self.status, "framework": self.template, "gpu_type": self.sold["gpu_type"],
            "num_gpus": self.num_gpus, "hdd": f"{self.disk}GB", "instance_name": self.label, "is_spot": self.spot,
            "region": self.sold["region"], "cost": round(self.paid, 4), "fs_id": None,
            "ssh_str": f"ssh -o StrictHostKeyChecking=no -p {self.cage.port} root@127.0.0.1",
        }  # fmt: skip


@dataclass
class Jarvis(Served):
    """The service and its HTTP server. Use as a context manager.

    `boots`: ok, stuck (stays Creating), capacity (Failed), silent (no sshd), ondemand (spot asked, not given).
    """

    catalog: list[dict[str, Any]] = field(default_factory=default_catalog)
    rupees: bool = False
    account_keys: list[dict[str, Any]] = field(default_factory=list)
    instances: dict[int, Instance] = field(default_factory=dict)
    history: list[Instance] = field(default_factory=list)
    lag: float = 0.0
    """Seconds that a new machine is missing from all answers."""
    _next: int = 5000

    unauthorized = (401, {"detail": "Invalid token"})
    planted: ClassVar[dict[str, Any]] = {"success": False, "detail": "planted"}

    def machines(self) -> list[Instance]:
        return self.history

    # --- what a test does to the market

    def preempt(self, number: int) -> None:
        """Pause a machine as JarvisLabs does for a better paying user: every process dies, the files below /home stay."""
        with self.lock:
            instance = self.instances[number]
            instance.settle()
            instance.cage.kill()
            instance.status = "Paused"

    def lose_host(self, number: int) -> None:
        instance = self.instances[number]
        instance.cage.kill()
        instance.status, instance.error = "Failed", "node lost"

    def bill(self) -> list[dict[str, Any]]:
        """Every machine there ever was; `running` ones cost money now, paused ones for their disk."""
        for instance in self.instances.values():
            instance.settle()
        return [
            {
                "id": i.id, "label": i.label, "offer": f"{i.sold['region']}/{i.sold['gpu_type']}", "rate": i.rate,
                "running": i.ended is None, "dollars": i.paid,
            }
            for i in self.history
        ]  # fmt: skip

    def billed(self) -> list[int]:
        """Instances that cost money now, paused ones too."""
        return sorted(self.instances)

    # --- what the API does

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        region, *parts = [unquote(part) for part in path.split("/") if part]
        if region not in REGIONS:
            return 404, {"detail": "no such host"}
        match (method, *parts):
            case ("POST", "templates", template, "create"):
                return self._create(region, template, body)
            case ("POST", "templates", _, "resume"):
                return self._resume(region, body)
            case ("POST", "misc", "destroy"):
                return self._destroy(region, int(query["machine_id"]))
            case ("POST", "misc", "pause"):
                return self._pause(region, int(query["machine_id"]))
            case ("GET", "misc", "status"):
                instance = self._here(region, int(query["machine_id"]))
                if instance is None:
                    return 404, {"detail": "no status yet"}
                return 200, {"status": instance.status, "error": instance.error, "code": "None"}
        if region != CENTRAL:
            return 404, {"detail": f"{region} answers only for its machines"}
        return self._account(method, parts, body)

    def _account(self, method: str, parts: list[str], body: dict[str, Any]) -> tuple[int, Any]:
        match (method, *parts):
            case ("GET", "users", "fetch"):
                return 200, {"success": True, "instances": [i.row() for i in self._listed().values()]}
            case ("GET", "users", "fetch", number):
                instance = self._listed().get(int(number))
                return 200, {"success": True, "instance": instance.row()} if instance else {"success": False}
            case ("GET", "users", "balance"):
                return 200, {"balance": self.credit, "grants": 0.0}
            case ("GET", "misc", "server_meta"):
                return 200, {"server_meta": self.catalog, "cpu_meta": {}}
            case ("GET", "misc"):
                return 200, {"success": self.rupees}
            case ("GET", "ssh"):
                return 200, self.account_keys
            case ("POST", "ssh"):
                self.account_keys.append(body | {"key_id": f"k{time.monotonic_ns()}"})
                return 200, {"success": True}
            case ("DELETE", "ssh", number):
                self.account_keys = [key for key in self.account_keys if key["key_id"] != number]
                return 200, {"success": True}
        return 404, {"detail": f"{method} /{'/'.join(parts)} is not emulated"}

    def _listed(self) -> dict[int, Instance]:
        return {n: i for n, i in list(self.instances.items()) if time.time() - i.created >= self.lag}

    def _here(self, region: str, number: int) -> Instance | None:
        instance = self.instances.get(number)
        return instance if instance is not None and instance.sold["region"] == REGIONS[region] else None

    def _sold(self, region: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The row that a create or resume means, with enough free cards."""
        count = "spot_num_free_devices" if body.get("is_spot") else "effective_num_free_devices"
        for sold in self.catalog:
            wanted = (body["gpu_type"], REGIONS[region], "container")
            if (sold["gpu_type"], sold["region"], sold["workload_type"]) == wanted and sold[count] >= body["num_gpus"]:
                return sold
        return None

    def _create(self, region: str, template: str, body: dict[str, Any]) -> tuple[int, Any]:
        sold = self._sold(region, body)
        if self.credit <= 0:
            return 403, {"detail": "Insufficient balance to launch the instance"}
        if sold is None or body["region"] != REGIONS[region]:
            return 400, {"detail": "No GPU available"}
        return 200, {"machine_id": self.create(sold, body, template).id}

    def create(self, sold: dict[str, Any], body: dict[str, Any], template: str = "pytorch") -> Instance:
        with self.lock:
            self._next += 1
            instance = Instance(
                self._next, sold, body["name"], bool(body.get("is_spot")), body.get("num_gpus", 1), body.get("hdd", 20),
                template, self._cage(self._next), time.time(),
            )  # fmt: skip
            self.instances[instance.id] = instance
            self.history.append(instance)
        self._boot(instance)
        return instance

    def _cage(self, number: int) -> Cage:
        cage = Cage(self.folder / f"instance-{number}", disk_mb=self.disk_mb)
        cage.prepare()
        for known in self.account_keys:
            cage.authorize(known["ssh_key"])
        self.furnish(cage)
        if self.gpu_on_machine:
            cage.install("nvidia-smi", f"#!/bin/sh\necho '{self.gpu_on_machine}'\n")
        return cage

    def _boot(self, instance: Instance) -> None:
        how = self.boots.pop(0) if self.boots else "ok"
        if how == "ondemand":
            instance.spot = False
        number = instance.id

        def come_up() -> None:
            time.sleep(self.delays.loading)
            if how == "stuck" or instance.id != number or instance.ended:
                return
            if how == "capacity":
                instance.status, instance.error = "Failed", "Requested GPU capacity is not available"
                return
            with self.lock:
                if instance.status in ("Creating", "Resuming"):
                    instance.status = "Running"
            if how == "silent":
                return
            time.sleep(self.delays.sshd)
            with self.lock:
                if instance.ended is None and instance.status == "Running":
                    instance.cage.start()

        threading.Thread(target=come_up, daemon=True).start()

    def _pause(self, region: str, number: int) -> tuple[int, Any]:
        if self._here(region, number) is None:
            return 404, {"detail": "Instance not found"}
        self.preempt(number)
        return 200, {"success": True}

    def _resume(self, region: str, body: dict[str, Any]) -> tuple[int, Any]:
        """The same files under a new id, host key and port."""
        with self.lock:
            instance = self._here(region, int(body["machine_id"]))
            if instance is None or instance.status != "Paused":
                return 404, {"detail": "No paused instance"}
            if self.credit <= 0:
                return 403, {"detail": "Insufficient balance to resume the instance"}
            sold = self._sold(region, body)
            if sold is None:
                return 400, {"detail": "No GPU available"}
            instance.settle()
            self._next += 1
            kept = instance.cage.folder / "private"
            cage = self._cage(self._next)
            shutil.rmtree(cage.folder / "private")
            kept.rename(cage.folder / "private")
            del self.instances[instance.id]
            instance.id, instance.cage, instance.sold = self._next, cage, sold
            instance.spot, instance.status, instance.resumes = bool(body["is_spot"]), "Resuming", instance.resumes + 1
            self.instances[instance.id] = instance
        self._boot(instance)
        return 200, {"machine_id": instance.id}

    def _destroy(self, region: str, number: int) -> tuple[int, Any]:
        with self.lock:
            instance = self._here(region, number)
            if instance is None:
                return 404, {"detail": "Instance not found"}
            instance.settle()
            del self.instances[number]
            instance.ended = time.time()
        instance.cage.kill()
        return 200, {"success": True}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.emulators.jarvis", description=__doc__)
    parser.add_argument("--port", type=int, default=8788)
    parser.add_argument("--loading", type=float, default=2.0, help="seconds until an instance runs")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="jarvis-"))
    with Jarvis(folder, port=arguments.port, delays=Delays(loading=arguments.loading, sshd=1.0)) as market:
        print(f"Emulated JarvisLabs at {market.url}; everything rented is under {folder} and ends with this process.")
        print(f"  export JL_API_KEY={market.key}")
        print(
            f"  python -m summarizer provider=jarvis hardware=a100 provider.max_price=1 provider.api_url={market.url} "
            f"provider.remote_root={PRIVATE}/launchers provider.check_gpu=false provider.python=$(which python) "
            "hardware.accelerator=cpu hardware.precision=32-true hardware.compile=false experiment=smoke"
        )
        print(f"  curl {market.url}/bill              what it costs")
        print(f"  curl {market.url}/preempt/INSTANCE  pause a machine")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(f"\nStill billed at the end: {market.billed() or 'nothing'}")
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
