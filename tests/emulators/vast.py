"""An emulated Vast.ai on loopback: its REST API, a real sshd for each instance, faults on demand, and a bill.

By hand: `python -m tests.emulators.vast` prints the address and what to set; see docs/launching.md.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.emulators.cage import PRIVATE, Cage
from tests.emulators.market import default_market, matches
from tests.emulators.served import Delays, Served


@dataclass
class Instance:
    """One contract: what Vast knows of it, and the cage that stands for the machine."""

    id: int
    offer: dict[str, Any]
    label: str
    bid: float | None
    disk: float
    cage: Cage
    key: str
    created: float
    actual: str | None = None
    state: str = "running"
    message: str = ""
    ended: float | None = None
    asked: float = 0.0
    """When the request to rent came."""
    answers: float | None = None
    """Since when its ssh answers."""

    @property
    def booting(self) -> bool:
        return self.actual == "loading"

    @property
    def rate(self) -> float:
        return self.bid if self.bid is not None else float(self.offer["dph_total"])

    def row(self) -> dict[str, Any]:
        up = self.actual == "running"
        ports = {"22/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(self.cage.port)}]} if up else None
        return {
            "id": self.id, "actual_status": self.actual, "intended_status": self.state, "cur_state": self.state,
            "next_state": self.state, "status_msg": self.message, "label": self.label, "is_bid": self.bid is not None,
            "dph_total": self.rate, "min_bid": self.offer["min_bid"], "machine_id": self.offer["machine_id"],
            "gpu_name": self.offer["gpu_name"], "gpu_ram": self.offer["gpu_ram"], "num_gpus": self.offer["num_gpus"],
            "ssh_host": "127.0.0.1", "ssh_port": self.cage.port, "public_ipaddr": "127.0.0.1", "ports": ports,
            "start_date": self.created, "extra_env": [],
        }  # fmt: skip


@dataclass
class Vast(Served):
    """The market and its HTTP server. Use as a context manager.

    `boots`: ok, stuck, oci, exited, offline, silent (no sshd), ondemand (spot asked, not given).
    """

    offers: list[dict[str, Any]] = field(default_factory=default_market)
    lemons: list[dict[str, Any]] = field(default_factory=list)
    """How the next machines differ from what was offered: gpu_on_machine, shm_mb."""
    account_keys: list[dict[str, Any]] = field(default_factory=list)
    instances: dict[int, Instance] = field(default_factory=dict)
    history: list[Instance] = field(default_factory=list)
    _next: int = 7000

    def machines(self) -> list[Instance]:
        return self.history

    def authorized(self, token: str, method: str, path: str) -> bool:
        if token == self.key:
            return True
        # A container's own key may end that container and do nothing else.
        own = [i for i in self.instances.values() if i.key == token]
        return bool(own) and method == "DELETE" and path.rstrip("/").endswith(f"/{own[0].id}")

    # --- what a test does to the market

    def preempt(self, number: int, message: str = "outbid") -> None:
        """Take a machine away as a higher bid does: every process dies, the contract stays, stopped."""
        instance = self.instances[number]
        instance.cage.kill()
        instance.actual, instance.state, instance.message = "exited", "stopped", message

    def lose_host(self, number: int) -> None:
        instance = self.instances[number]
        instance.cage.kill()
        instance.actual, instance.message = "offline", "host lost"

    def bill(self) -> list[dict[str, Any]]:
        """Every contract there ever was; `running` ones cost money now."""
        now = time.time()
        return [
            {
                "id": i.id, "label": i.label, "offer": i.offer["id"], "rate": i.rate, "running": i.ended is None,
                "dollars": ((i.ended or now) - i.created) / 3600 * i.rate,
            }
            for i in self.history
        ]  # fmt: skip

    def billed(self) -> list[int]:
        """Instances that cost money now."""
        return sorted(self.instances)

    # --- what the API does

    def create(self, offer: dict[str, Any], body: dict[str, Any], number: int | None = None) -> Instance:
        asked = time.time()
        with self.lock:
            self._next += 1
            number = number or self._next
            key = f"container-{secrets.token_hex(8)}"
            variables = {"CONTAINER_ID": str(number), "CONTAINER_API_KEY": key}
            lemon = self.lemons.pop(0) if self.lemons else {}
            cage = Cage(self.folder / f"instance-{number}", variables, self.disk_mb, lemon.get("shm_mb"))
            cage.prepare()
            for known in self.account_keys:
                cage.authorize(known["public_key"])
            self.furnish(cage)
            gpu_on_machine = lemon.get("gpu_on_machine", self.gpu_on_machine)
            if gpu_on_machine:
                cage.install("nvidia-smi", f"#!/bin/sh\necho '{gpu_on_machine}'\n")
            bid = body.get("price")
            boot = self.boots.pop(0) if self.boots else "ok"
            instance = Instance(
                number, offer, body.get("label") or "", None if boot == "ondemand" else bid, body.get("disk", 10), cage,
                key, time.time(), asked=asked,
            )  # fmt: skip
            offer["rented"] = True
            self.instances[number] = instance
            self.history.append(instance)
        threading.Thread(target=self._boot, args=(instance, boot), daemon=True).start()
        return instance

    def _boot(self, instance: Instance, how: str) -> None:
        time.sleep(self.delays.loading / 2)
        if how == "oci":
            instance.actual, instance.message = "created", "OCI runtime create failed"
            return
        instance.actual = "loading"
        if how == "stuck":
            return
        time.sleep(self.delays.loading / 2)
        if how in ("exited", "offline"):
            instance.actual = how
            return
        instance.actual = "running"
        if how == "silent":
            return
        time.sleep(self.delays.sshd)
        with self.lock:
            if instance.ended is None and instance.state == "running":
                instance.cage.start()
                instance.answers = time.time()

    def destroy(self, number: int) -> None:
        with self.lock:
            instance = self.instances.pop(number)
            instance.ended = time.time()
            instance.offer["rented"] = False
        instance.cage.kill()

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """One authenticated request."""
        parts = [unquote(part) for part in path.split("/") if part][2:]
        match (method, *parts):
            case ("POST", "bundles"):
                return 200, {"offers": self._search(body)}
            case ("PUT", "asks", number):
                return self._rent(int(number), body)
            case ("GET", "instances") if path.startswith("/api/v1/"):
                return 200, self._page(query)
            case ("GET", "instances", number):
                instance = self.instances.get(int(number))
                return 200, {"instances": instance.row() if instance else None}
            case ("PUT", "instances", number) if number.isdigit():
                return self._change(int(number), body)
            case ("DELETE", "instances", number):
                if int(number) not in self.instances:
                    return 404, {"success": False, "error": "no_such_instance"}
                self.destroy(int(number))
                return 200, {"success": True}
            case ("GET", "ssh"):
                return 200, self.account_keys  # type: ignore[return-value]
            case ("POST", "ssh"):
                known = {"id": len(self.account_keys) + 1, "key": body["ssh_key"], "public_key": body["ssh_key"]}
                self.account_keys.append(known)
                return 200, {"success": True, "key": known}
            case ("DELETE", "ssh", number):
                self.account_keys = [key for key in self.account_keys if str(key["id"]) != number]
                return 200, {"success": True}
            case ("POST", "instances", number, "ssh"):
                self.instances[int(number)].cage.authorize(body["ssh_key"])
                return 200, {"success": True}
            case ("GET", "users", "current"):
                return 200, {"id": 1, "email": "a@example.org", "credit": self.credit, "balance": 0.0}
        return 404, {"success": False, "error": "no_such_endpoint", "msg": f"{method} {path}"}

    def _search(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        rows = [row for row in self.offers if matches(row, body)]
        for name, direction in reversed(body.get("order") or []):
            rows.sort(key=lambda row: row.get(name) or 0, reverse=direction == "desc")
        return rows[: body.get("limit") or 64]

    def _rent(self, number: int, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        with self.lock:
            offer = next((o for o in self.offers if o["id"] == number and not o["rented"]), None)
            if offer is None:
                return 404, {"success": False, "error": "no_such_ask", "msg": "offer is gone"}
            if self.credit <= 0:
                return 400, {"success": False, "error": "insufficient_credit", "msg": "Insufficient credits"}
            if body.get("price") is not None and body["price"] < offer["min_bid"]:
                instance = self.create(offer, body)
                instance.actual, instance.state = "stopped", "stopped"
                return 400, {
                    "success": False,
                    "error": "invalid_price",
                    "msg": "bid too low",
                    "new_contract": instance.id,
                }
            return 200, {"success": True, "new_contract": self.create(offer, body).id}

    def _change(self, number: int, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        instance = self.instances.get(number)
        if instance is None:
            return 404, {"success": False, "error": "no_such_instance"}
        if "label" in body:
            instance.label = body["label"]
        if body.get("state") == "stopped":
            self.preempt(number, "stopped by its owner")
        return 200, {"success": True}

    def _page(self, query: dict[str, str]) -> dict[str, Any]:
        filters = json.loads(query.get("select_filters", "{}"))
        rows = [i.row() for _, i in sorted(self.instances.items()) if matches(i.row(), filters)]
        limit, after = int(query.get("limit", "25")), int(query.get("after_token", "0"))
        page = [row for row in rows if row["id"] > after][:limit]
        more = bool(page) and page[-1]["id"] != rows[-1]["id"]
        return {"instances": page, "next_token": str(page[-1]["id"]) if more else None}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.emulators.vast", description=__doc__)
    parser.add_argument("--port", type=int, default=8787)
    parser.add_argument("--loading", type=float, default=2.0, help="seconds until an instance runs")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="vast-"))
    with Vast(folder, port=arguments.port, delays=Delays(loading=arguments.loading, sshd=1.0)) as market:
        print(f"Emulated Vast.ai at {market.url}; everything rented is under {folder} and ends with this process.")
        print(f"  export VAST_API_KEY={market.key}")
        print(
            f"  python -m summarizer provider=vast hardware=4090 provider.api_url={market.url} "
            f"provider.remote_root={PRIVATE}/launchers provider.check_gpu=false provider.python=$(which python) "
            "hardware.accelerator=cpu hardware.precision=32-true hardware.compile=false experiment=smoke"
        )
        print(f"  curl {market.url}/bill              what it costs")
        print(f"  curl {market.url}/preempt/INSTANCE  take a machine away")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(f"\nStill billed at the end: {market.billed() or 'nothing'}")
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
