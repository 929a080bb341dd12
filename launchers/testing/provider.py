"""A market with faults, on the protocols of `launchers.providers.base`: machines, machines that pause, and no machines at all."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from launchers.clock import Clock
from launchers.errors import CredentialError, OfferTaken, RetryLater, Unreachable
from launchers.job import Address, Charging, MachineState, MachineStatus, Offer
from launchers.providers.base import CreateRequest, JobHandles, Need, SelfDestructRequest
from launchers.testing.faults import Faults
from launchers.testing.jobs import FakeJob, Script

if TYPE_CHECKING:
    from launchers.host import Host
    from launchers.settings import RentalSettings

log = logging.getLogger(__name__)
CALL_S = 0.1
"""What a request takes."""
BOOT_S = 4.0
LOGIN_S = 1.0
LIST_LAG_S = 30.0
SPEAKING_S = 60.0


def fake_offer(number: int, price: float = 0.4, spot: bool = False, **changes: Any) -> Offer:
    """A machine with one RTX 4090."""
    offer = Offer(
        provider="fake", id=f"offer-{number}", host=f"host-{number}", gpu="RTX 4090", num_gpus=1, gpu_memory_gib=24.0,
        price=price, spot=spot, disk_gb=200.0, download_mbps=800.0, upload_mbps=800.0, reliability=0.99, region="Sweden, SE",
    )  # fmt: skip
    return replace(offer, **changes)


@dataclass
class FakeMachine:
    """A rented machine, or an application where there are none."""

    id: str
    label: str
    offer: Offer
    created: float
    price: float
    state: MachineState = MachineState.pending
    """As it was when it last changed by a fault; time alone makes `pending` into `running`."""
    spot: bool = False
    ended: float | None = None
    stopped: float | None = None
    never_boots: bool = False
    jobs: dict[str, FakeJob] = field(default_factory=dict)
    disks: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Files of each job that were put there, or that outlived a pause."""
    tree: set[str] = field(default_factory=set)
    contact: float = 0.0
    lease: dict[str, Any] | None = None
    lease_ends: float = 0.0
    destroy_asked: float | None = None
    """When its end was first asked for, whatever the answer was."""
    silent_until: float = 0.0
    hidden_until: float = 0.0
    """Until when the provider's list does not show it yet."""
    running_since: float = 0.0
    started: list[tuple[str, float, int]] = field(default_factory=list)
    """Job, time and first step of each start."""

    def is_up(self, now: float) -> bool:
        return self.state is MachineState.running and now >= self.running_since

    def settle(self, now: float) -> None:
        """Let its own watchdog act as the real one does, up to now; see `launchers/remote/watchdog.py`."""
        if self.ended is not None or self.lease is None:
            return
        idle = self.lease["idle"]
        for job in self.jobs.values():
            if now >= self.lease_ends and job.started <= self.lease_ends < job.ended_at():
                job.ask(self.lease_ends, "the machine's time is over")
        if any(job.is_running(now) for job in self.jobs.values()):
            return
        quiet = max([self.contact, *(job.ended_at() for job in self.jobs.values())])
        over = max(self.lease_ends, min(max(quiet, self.contact + min(SPEAKING_S, idle)), self.lease_ends + idle))
        end = min(quiet + idle, over)
        if now >= end and self.lease["destruct"] is not None:
            self.end(end)

    def end(self, now: float) -> None:
        if self.ended is None:
            self.ended, self.state = now, MachineState.gone
            for job in self.jobs.values():
                job.kill(now)

    def pause(self, now: float) -> None:
        """Taken away: its disk stays, its jobs and their supervisors do not."""
        if self.ended is None and self.is_up(now):
            self.state, self.stopped = MachineState.stopped, now
            for name, job in self.jobs.items():
                self.disks[name] = job.files(now)
                job.kill(now)

    def billed_s(self, now: float) -> float:
        return (now if self.ended is None else self.ended) - self.created


class FakeProvider:
    """A market for machines. `machines` is the truth that a test compares the ledger with."""

    name = "fake"
    account = "fake-account"
    first_id = 7000
    knows_ends = True
    """Whether it says of a machine that is gone when it ended."""

    def __init__(self, clock: Clock, faults: Faults, offers: list[Offer] | None = None) -> None:
        self.clock, self.faults = clock, faults
        self.market = offers if offers is not None else [fake_offer(n, 0.30 + 0.02 * n) for n in range(8)]
        self.machines: list[FakeMachine] = []
        self.credit = 100.0
        self.scripts: dict[str, Script] = {}
        """What each job does, by its id."""

    # --- the verbs

    def offers(self, need: Need) -> list[Offer]:
        self._enter("offers")
        taken = {m.offer.id for m in self.living() if not m.offer.many}
        return [offer for offer in self.market if offer.id not in taken]

    def create(self, request: CreateRequest) -> str:
        kind = self._enter("create", acts=("lost", "never boots", "dearer"))
        if kind == "taken" or any(m.offer.id == request.offer.id and not m.offer.many for m in self.living()):
            raise OfferTaken(f"offer {request.offer.id} is gone")
        now = self.clock.now()
        machine = FakeMachine(
            id=str(self.first_id + len(self.machines)), label=request.label, offer=request.offer, created=now,
            price=request.offer.price * (2 if kind == "dearer" else 1), spot=request.offer.spot,
            state=MachineState.running, running_since=now + BOOT_S, never_boots=kind == "never boots",
        )  # fmt: skip
        self.machines.append(machine)
        if kind == "lost":
            machine.hidden_until = now + LIST_LAG_S if self.faults.lasts("list lags") else now
            raise Unreachable("no answer to the create call")
        return machine.id

    def status(self, instance: str) -> MachineStatus:
        self._enter("status")
        self.living()  # those whose own watchdogs have ended them are gone
        machine = next((m for m in self.machines if m.id == instance), None)
        if machine is None or machine.ended is not None:
            ended = machine.ended if machine is not None and self.knows_ends else None
            return MachineStatus(instance, "", MachineState.gone, "not known", 0.0, False, None, "", ended=ended)
        return self._status(machine)

    def destroy(self, instance: str) -> None:
        machine = next((m for m in self.machines if m.id == instance), None)
        if machine is not None and machine.destroy_asked is None:
            machine.destroy_asked = self.clock.now()
        kind = self._enter("destroy", acts=("lost", "ignored"))
        if machine is not None and kind != "ignored":
            machine.end(self.clock.now())
        if kind == "lost":
            raise RetryLater("no answer to the destroy call")

    def list_mine(self) -> list[MachineStatus]:
        self._enter("list")
        now = self.clock.now()
        return [self._status(machine) for machine in self.living() if now >= machine.hidden_until]

    # --- abilities

    def balance(self) -> float:
        self._enter("balance")
        return self.credit

    def floor(self, instance: str) -> float | None:
        return None

    def self_destruct(self) -> SelfDestructRequest:
        return SelfDestructRequest("DELETE", "https://fake/instances/{ID}", {"Authorization": "Bearer {KEY}"})

    # --- for tests

    def living(self) -> list[FakeMachine]:
        """What is billed now."""
        for machine in self.machines:
            machine.settle(self.clock.now())
        return [machine for machine in self.machines if machine.ended is None]

    def _enter(self, verb: str, acts: tuple[str, ...] = ()) -> str | None:
        """The call travels, and may not arrive; returns the fault that is the verb's own business."""
        self.clock.sleep(CALL_S)
        kind = self.faults.strike(verb)
        if self.faults.lasts("provider down"):
            raise RetryLater("the market answers 503")
        if kind in ("retry", "lost") and kind not in acts:
            raise RetryLater("the market answers 500")
        if kind == "not done":
            error = RetryLater("the market answers 429")
            error.may_have_acted = False
            raise error
        if kind == "refused":
            raise CredentialError("the market refuses the key: make a new one")
        return kind

    def _status(self, machine: FakeMachine) -> MachineStatus:
        now, state = self.clock.now(), machine.state
        if state is MachineState.running and (machine.never_boots or now < machine.running_since):
            state = MachineState.pending
        addresses = (Address("203.0.113.1", 22, "root"),) if state is MachineState.running else ()
        return MachineStatus(
            machine.id, machine.label, state, state.value, machine.price, machine.spot, machine.offer.gpu,
            machine.offer.host, addresses,
        )  # fmt: skip


class FakePausingProvider(FakeProvider):
    """A market whose machines keep their disk when they are taken away, and can be asked for again."""

    def resume(self, instance: str, spot: bool) -> str:
        kind = self._enter("resume", acts=("lost",))
        machine = next(m for m in self.living() if m.id == instance)
        if kind == "taken":
            raise OfferTaken("no card is free for it")
        machine.id = f"{machine.id}r"
        machine.state, machine.running_since = MachineState.running, self.clock.now() + BOOT_S
        if kind == "lost":
            raise Unreachable("no answer to the resume call")
        return machine.id


class FakeSecondProvider(FakePausingProvider):
    """Another market, where each machine costs a little more than the one before it on the first."""

    name = "second"
    first_id = 8000

    def __init__(self, clock: Clock, faults: Faults, offers: list[Offer] | None = None) -> None:
        own = [fake_offer(n, 0.31 + 0.02 * n, provider="second", host=f"second-{n}") for n in range(8)]
        super().__init__(clock, faults, own if offers is None else offers)


class FakeServerless(FakeProvider):
    """No machines: an application runs all jobs at once, and their results outlive it."""

    def __init__(self, clock: Clock, faults: Faults, offers: list[Offer] | None = None) -> None:
        super().__init__(clock, faults, offers or [fake_offer(0, charging=Charging.job, many=True)])

    def host(self, instance: str, settings: RentalSettings, handles: JobHandles) -> Host:
        from launchers.testing.host import FakeHost

        application = next(m for m in self.machines if m.id == instance)
        return FakeHost(self, application)


MARKETS: dict[str, tuple[type[FakeProvider], ...]] = {
    "machines": (FakeProvider,), "pausing": (FakePausingProvider,), "serverless": (FakeServerless,),
    "anywhere": (FakeProvider, FakeSecondProvider),
}  # fmt: skip
"""What a launch may rent at, by name; at several providers, the cheapest of all."""
