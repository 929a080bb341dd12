"""An emulated RunPod on loopback: its REST API v2, a real sshd for each pod, faults on demand, and a bill.

By hand: `python -m tests.emulators.runpod` prints the address and what to set; see docs/runpod.md.
"""

from __future__ import annotations

import argparse
import secrets
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


def row(gpu: str, memory: int, secure: float | None, community: float | None = None, **changes: Any) -> dict[str, Any]:
    """A card of the catalog; prices in $ per card and hour."""
    return {
        "id": gpu, "name": gpu.removeprefix("NVIDIA ").removeprefix("GeForce "), "pool": None, "manufacturer": "NVIDIA",
        "memory": memory, "secure": secure is not None, "community": community is not None,
        "price": {"secure": secure or 0.0, "community": community or 0.0}, "maxCount": {"secure": 8, "community": 4},
        "availability": "HIGH",
        "dataCenters": [
            {"id": "US-TX-3", "name": "US Texas 3", "availability": "HIGH"},
            {"id": "EU-RO-1", "name": "EU Romania 1", "availability": "LOW"},
        ],
        "cudaVersions": [{"version": "12.4", "availability": "HIGH"}, {"version": "12.8", "availability": "MEDIUM"}],
    } | changes  # fmt: skip


def default_catalog() -> list[dict[str, Any]]:
    return [
        row("NVIDIA GeForce RTX 4090", 24, 0.44, 0.31),
        row("NVIDIA GeForce RTX 3090", 24, 0.30, 0.22),
        row("NVIDIA L4", 24, 0.43),
        row("NVIDIA A100 80GB PCIe", 80, 1.39, 1.19),
        row("NVIDIA H100 80GB HBM3", 80, 2.69),
    ]


@dataclass
class Pod:
    """One pod: what RunPod knows of it, and the cage that stands for it."""

    id: str
    sold: dict[str, Any]
    body: dict[str, Any]
    cage: Cage
    key: str
    created: float
    status: str = "PROVISIONING"
    ended: float | None = None
    asked: float = 0.0
    """When the request to create it came."""
    answers: float | None = None
    """Since when its ssh answers."""

    @property
    def label(self) -> str:
        return str(self.body["name"])

    @property
    def booting(self) -> bool:
        return self.status in ("PROVISIONING", "STARTING")

    @property
    def rate(self) -> float:
        """$ per hour, now or when it ended."""
        if self.status == "EXITED":
            return 0.0
        return float(self.sold["price"][self.body["cloud"].lower()]) * self.body["gpu"]["count"]

    def as_json(self) -> dict[str, Any]:
        direct = {
            "host": "127.0.0.1",
            "port": self.cage.port,
            "username": "root",
            "command": f"ssh -p {self.cage.port} root@127.0.0.1",
        }
        up = self.status == "RUNNING"
        return {
            "id": self.id, "name": self.label, "image": self.body["image"], "args": "", "disk": self.body["disk"],
            "ports": self.body["ports"], "env": self.body["env"], "registry": None, "status": self.status,
            "actions": ["terminate"], "mounts": {}, "gpu": self.body["gpu"], "cloud": self.body["cloud"],
            "dataCenterId": "US-TX-3", "cudaVersion": "12.8", "ssh": {"proxy": None, "direct": direct if up else None},
            "template": None, "cost": self.rate, "locked": False, "runtime": None, "createdAt": self.created,
            "startedAt": None, "globalNetworking": {"enabled": False},
        }  # fmt: skip


def problem(status: int, title: str, detail: str) -> tuple[int, dict[str, Any]]:
    return status, {"title": title, "status": status, "detail": detail}


@dataclass
class Runpod(Served):
    """The service and its HTTP server. Use as a context manager.

    `boots`: ok, stuck (stays STARTING), capacity (ERROR), exited, silent (no sshd).
    """

    catalog: list[dict[str, Any]] = field(default_factory=default_catalog)
    instances: dict[str, Pod] = field(default_factory=dict)
    history: list[Pod] = field(default_factory=list)
    account_keys: ClassVar[list[dict[str, Any]]] = []
    """Nothing is ever put there: a pod is created with its key."""

    unauthorized = problem(401, "Unauthorized", "invalid bearer token")
    planted: ClassVar[dict[str, Any]] = {"title": "Planted", "detail": "planted"}

    def machines(self) -> list[Pod]:
        return self.history

    def authorized(self, token: str, method: str, path: str) -> bool:
        if token == self.key:
            return True
        # A pod's own key may end that pod and do nothing else.
        own = [pod for pod in self.instances.values() if pod.key == token]
        return bool(own) and method == "DELETE" and path.endswith(f"/{own[0].id}")

    # --- what a test does to the market

    def preempt(self, number: str) -> None:
        """Stop a pod as RunPod does for an empty account: every process dies, the pod stays, without its disk."""
        pod = self.instances[number]
        pod.cage.kill()
        pod.status = "EXITED"

    def lose_host(self, number: str) -> None:
        pod = self.instances[number]
        pod.cage.kill()
        pod.status = "ERROR"

    def bill(self) -> list[dict[str, Any]]:
        """Every pod there ever was; `running` ones cost money now."""
        now = time.time()
        return [
            {
                "id": p.id, "label": p.label, "offer": p.sold["id"], "rate": p.rate, "running": p.ended is None,
                "dollars": ((p.ended or now) - p.created) / 3600 * p.rate,
            }
            for p in self.history
        ]  # fmt: skip

    def billed(self) -> list[str]:
        """Pods that cost money now, or will once somebody starts them again."""
        return sorted(self.instances)

    # --- what the API does

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        version, *parts = [unquote(part) for part in path.split("/") if part]
        if version == "v2":
            match (method, *parts):
                case ("GET", "catalog", "gpus"):
                    return self._gpus(query)
                case ("GET", "pods"):
                    return 200, {"pods": [pod.as_json() for _, pod in self.instances.items()]}
                case ("POST", "pods"):
                    return self._create(body)
                case ("GET", "pods", name) if name in self.instances:
                    return 200, self.instances[name].as_json()
                case ("DELETE", "pods", name) if name in self.instances:
                    self._delete(name)
                    return 204, None
        return problem(404, "Not Found", "resource not found")

    def _gpus(self, query: dict[str, str]) -> tuple[int, Any]:
        if query.get("include") == "AVAILABILITY" and query.get("product") != "POD":
            return problem(422, "Unprocessable Entity", "include=AVAILABILITY requires product")
        return 200, {"gpus": self.catalog}

    def _create(self, body: dict[str, Any]) -> tuple[int, Any]:
        known = {
            "name", "image", "cloud", "gpu", "disk", "ports", "startSsh", "env", "dataCenterIds", "mounts", "args", "registry",
            "startJupyter", "templateId", "globalNetworking",
        }  # fmt: skip
        unknown = sorted(set(body) - known)
        if unknown or not body.get("name") or not body.get("image"):
            status, answer = problem(422, "Unprocessable Entity", "Request validation failed")
            return status, answer | {"errors": [f"$: additional properties {unknown} not allowed"]}
        if self.credit <= 0:
            return problem(402, "Payment Required", "insufficient balance")
        gpu, cloud = body["gpu"], body["cloud"].lower()
        sold = next((row for row in self.catalog if row["id"] == gpu["id"] and row[cloud]), None)
        if sold is None or sold["availability"] == "NONE" or gpu["count"] > sold["maxCount"][cloud]:
            return problem(400, "Bad Request", "There are no instances currently available")
        return 201, self.create(sold, body).as_json()

    def create(self, sold: dict[str, Any], body: dict[str, Any]) -> Pod:
        asked = time.time()
        with self.lock:
            name, key = secrets.token_hex(7), f"pod-{secrets.token_hex(8)}"
            variables = {"RUNPOD_POD_ID": name, "RUNPOD_API_KEY": key, **body.get("env", {})}
            cage = Cage(self.folder / f"pod-{name}", variables, self.disk_mb)
            cage.prepare()
            # What the start script of RunPod's images does.
            cage.authorize(variables.get("PUBLIC_KEY", ""))
            self.furnish(cage)
            if self.gpu_on_machine:
                cage.install("nvidia-smi", f"#!/bin/sh\necho '{self.gpu_on_machine}'\n")
            pod = Pod(name, sold, body, cage, key, time.time(), asked=asked)
            self.instances[name] = pod
            self.history.append(pod)
            how = self.boots.pop(0) if self.boots else "ok"
        threading.Thread(target=self._boot, args=(pod, how), daemon=True).start()
        return pod

    def _boot(self, pod: Pod, how: str) -> None:
        time.sleep(self.delays.loading / 2)
        pod.status = "STARTING"
        time.sleep(self.delays.loading / 2)
        with self.lock:
            if how == "stuck" or pod.status != "STARTING":
                return
            pod.status = {"capacity": "ERROR", "exited": "EXITED"}.get(how, "RUNNING")
        if how == "silent":
            return
        time.sleep(self.delays.sshd)
        with self.lock:
            if pod.ended is None and pod.status == "RUNNING":
                pod.cage.start()
                pod.answers = time.time()

    def _delete(self, name: str) -> None:
        with self.lock:
            pod = self.instances.pop(name)
            pod.ended, pod.status = time.time(), "TERMINATED"
        pod.cage.kill()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.emulators.runpod", description=__doc__)
    parser.add_argument("--port", type=int, default=8789)
    parser.add_argument("--loading", type=float, default=2.0, help="seconds until a pod runs")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="runpod-"))
    with Runpod(folder, port=arguments.port, delays=Delays(loading=arguments.loading, sshd=1.0)) as market:
        print(f"Emulated RunPod at {market.url}; everything rented is under {folder} and ends with this process.")
        print(f"  export RUNPOD_API_KEY={market.key}")
        print(
            f"  python -m summarizer provider=runpod hardware=4090 provider.api_url={market.url} "
            f"provider.remote_root={PRIVATE}/launchers provider.check_gpu=false provider.python=$(which python) "
            "hardware.accelerator=cpu hardware.precision=32-true hardware.compile=false experiment=smoke"
        )
        print(f"  curl {market.url}/bill         what it costs")
        print(f"  curl {market.url}/preempt/POD  stop a pod")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(f"\nStill billed at the end: {market.billed() or 'nothing'}")
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
