"""Offers x need -> plan: which machine to rent, what the job costs on it, and why other offers do not fit. Pure functions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from launchers.errors import NoOffer
from launchers.formats import duration
from launchers.gpus import find_card
from launchers.job import Misfit, Offer
from launchers.ledger.records import Losses
from launchers.providers.base import Need
from launchers.settings import RentalSettings, Timing

SETUP_HOURS = 0.05
"""Boot, ssh and package installation on a machine that has the image; downloads are counted separately."""
SPOT_OVERHEAD = 1.10
"""Expected hours on a spot machine relative to on-demand, before any was seen: work since the last checkpoint is repeated."""
PRIOR_HOURS = 10.0
"""Rented hours with which what a ledger has seen of a kind of machine counts as much as `SPOT_OVERHEAD`."""
REPEATED_HOURS = 0.1
"""Work that a lost machine costs on average: what was done since the last checkpoint that was downloaded."""
NAMED_SUBSTITUTES = 3


@dataclass(frozen=True)
class Forecast:
    """Expected time and transfers of a job: the same object in a dry run, `estimate` and a launch."""

    hours: float
    """Of the job itself, on the card asked for."""
    is_upper_bound: bool
    """The app has no forecast: `hours` is provider.max_hours."""
    download_gb: float
    """Image, packages, models and data that the machine downloads."""
    upload_gb: float = 0.0
    """Results that are downloaded from it."""
    setup_hours: float = SETUP_HOURS
    losses: Mapping[tuple[str, bool], Losses] = field(default_factory=dict)
    """What the ledger has seen of machines, by (provider, whether spot)."""

    def overhead(self, offer: Offer) -> float:
        """Hours that losses of the machine are expected to cost, relative to the hours of training.

        Each loss costs another set-up and download, and the work since the last checkpoint.
        """
        prior = SPOT_OVERHEAD - 1 if offer.spot else 0.0
        seen = self.losses.get((offer.provider, offer.spot), Losses())
        each = self.setup_hours + _transfer_hours(self.download_gb, offer.download_mbps) + REPEATED_HOURS
        return (prior * PRIOR_HOURS + seen.lost * each) / (PRIOR_HOURS + seen.hours)


def forecast(
    hours: float, settings: RentalSettings, losses: Mapping[tuple[str, bool], Losses] | None = None
) -> Forecast:
    """The forecast of a job, from the hours that its app expects and what the ledger has seen of machines."""
    is_bound = hours >= settings.max_hours
    return Forecast(hours, is_bound, settings.expected_download_gb, settings.expected_results_gb, losses=losses or {})


@dataclass(frozen=True)
class Parts:
    """Parts of a job's time on one offer, in hours."""

    setup: float
    download: float
    training: float
    upload: float

    @property
    def hours(self) -> float:
        return self.setup + self.download + self.training + self.upload

    def __str__(self) -> str:
        parts = {"set-up": self.setup, "download": self.download, "training": self.training, "upload": self.upload}
        return ", ".join(f"{name} {duration(hours * 3600)}" for name, hours in parts.items())


@dataclass(frozen=True)
class Candidate:
    """One offer with its price for this job, in $ and hours."""

    offer: Offer
    parts: Parts
    traffic: float
    """$ for what moves over the network."""

    @property
    def hours(self) -> float:
        return self.parts.hours

    @property
    def rent(self) -> float:
        return self.hours * self.offer.price

    @property
    def cost(self) -> float:
        return self.rent + self.traffic


@dataclass(frozen=True)
class Refusal:
    offer: Offer
    misfits: tuple[Misfit, ...]
    """At least one."""

    @property
    def reason(self) -> str:
        return "; ".join(misfit.reason for misfit in self.misfits)


@dataclass(frozen=True)
class Plan:
    """Candidates, cheapest for this job first. Offers of the other kind (spot or on-demand) are shown, never rented."""

    need: Need
    forecast: Forecast
    candidates: tuple[Candidate, ...]
    alternatives: tuple[Candidate, ...]
    """Fitting offers of the other kind (spot or on-demand)."""
    refusals: tuple[Refusal, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Provider -> why it was not asked, or has not answered; of a plan over several."""

    def expectation(self, candidate: Candidate) -> str:
        """Time and cost of the job on an offer, in words: the same in a dry run and in a launch."""
        bound = "at most " if self.forecast.is_upper_bound else ""
        time = duration(candidate.hours * 3600)
        return f"expected: {bound}{time} and ${candidate.cost:.2f} ({candidate.parts})"

    def require(self, max_cost: float | None, balance: float | None) -> tuple[Candidate, ...]:
        """The candidates within the caps.

        Raises:
            NoOffer: none; the text names the nearest offer and what keeps it out.
        """
        if not self.candidates:
            raise NoOffer(self.why_none())
        best = self.candidates[0]
        if balance is not None and not balance >= best.cost:
            raise NoOffer(
                f"The account's balance is ${balance:.2f}, and this job is expected to cost ${best.cost:.2f} "
                f"({best.hours:.1f} h at ${best.offer.price:.3f}/h): add credit, or lower provider.max_hours."
            )
        within = tuple(
            c for c in self.candidates if max_cost is None or self.forecast.is_upper_bound or c.cost <= max_cost
        )
        if not within:
            raise NoOffer(
                f"The cheapest fitting offer costs ${best.cost:.2f} for this job ({best.hours:.1f} h at "
                f"${best.offer.price:.3f}/h), more than provider.max_cost ${max_cost:.2f}: raise it, or make the job smaller."
            )
        return within

    def why_none(self) -> str:
        """Why there is no candidate: how many offers each setting refuses, and what the nearest offer lacks."""
        left_out = "".join(f" {name} is left out: {why}" for name, why in self.left_out.items())
        return f"{self._why_none_fits()}{left_out}"

    def _why_none_fits(self) -> str:
        wanted = f"{self.need.num_gpus} x {self.need.gpu or 'any card'}{' (spot)' if self.need.spot else ''}"
        if not self.refusals:
            return f"No machine with {wanted} is on the market now: choose other hardware, or try again later."
        if all(refusal.offer.substitute for refusal in self.refusals):
            providers = sorted({refusal.offer.provider for refusal in self.refusals})
            names = f"{providers[0]} has" if len(providers) == 1 else f"{' and '.join(providers)} have"
            return f"{names} no {self.need.gpu}: {self._substitutes()}."
        nearest = min(self.refusals, key=lambda r: (len(r.misfits), r.offer.price))
        return (
            f"No offer of {wanted} fits: {self._filters()}. The nearest is {nearest.offer.id} at ${nearest.offer.price:.3f}/h "
            f"in {_place(nearest.offer)}: {nearest.reason}."
        )

    def _filters(self) -> str:
        """The settings that refuse offers, most refusals first."""
        counts = Counter(name for refusal in self.refusals for name in {misfit.setting for misfit in refusal.misfits})
        named = [f"{name} refuses {count}" for name, count in sorted(counts.items(), key=lambda c: (-c[1], c[0]))]
        return f"of {len(self.refusals)} on the market, {', '.join(named)}"

    def _substitutes(self) -> str:
        """The cards with the most similar memory, each at its lowest price."""
        offers = [refusal.offer for refusal in self.refusals]
        free = [offer for offer in offers if offer.num_gpus >= self.need.num_gpus]
        cheapest: dict[str | None, Offer] = {}
        for offer in sorted(free or offers, key=lambda o: o.price, reverse=True):
            cheapest[offer.gpu] = offer
        wanted = find_card(self.need.gpu).memory_gib if self.need.gpu else 0.0
        nearest = sorted(cheapest.values(), key=lambda o: (abs(o.gpu_memory_gib - wanted), o.price))[:NAMED_SUBSTITUTES]
        named = ", ".join(f"{o.gpu} ({o.gpu_memory_gib:.0f} GB) at ${o.price:.2f}/h" for o in nearest)
        return f"the nearest cards there are {named}; choose one with hardware or provider.gpu, or another provider"


@dataclass(frozen=True)
class PlannedJob:
    """A job of a launch that was only planned.

    Attributes:
        number: of the job in its sweep.
        overrides: those of this job.
        provider: `provider.name`.
        plan: offers for this job; None where it needs no rented machine.
        most: $ that the job can cost at most.
        note: where the prices come from, if not from the provider's market.
        refusal: why a launch would be refused; None if it would not.
    """

    number: int
    overrides: tuple[str, ...]
    provider: str
    plan: Plan | None = None
    most: float = 0.0
    note: str = ""
    refusal: str | None = None

    @property
    def best(self) -> Candidate | None:
        """The offer that would be rented first, with its time and cost for this job."""
        return self.plan.candidates[0] if self.plan is not None and self.plan.candidates else None

    @property
    def cost(self) -> float | None:
        """$ of this job on the best offer; None where there is none."""
        if self.plan is None:
            return 0.0
        return self.best.cost if self.best else None


def make_plan(
    need: Need, offers: list[Offer], forecast: Forecast, excluded_hosts: frozenset[str] = frozenset()
) -> Plan:
    """Price every offer for the job, and refuse those that do not fit."""
    fitting: list[Candidate] = []
    refusals = []
    for offer in filter(_is_meant, offers):
        misfits = _misfits(need, offer)
        if offer.host in excluded_hosts:
            misfits.append(Misfit("a failure of this launch", "this host failed before"))
        if misfits:
            refusals.append(Refusal(offer, tuple(misfits)))
        else:
            fitting.append(price(offer, forecast))
    fitting.sort(key=_rank)
    return Plan(
        need=need,
        forecast=forecast,
        candidates=tuple(c for c in fitting if c.offer.spot == need.spot),
        alternatives=tuple(c for c in fitting if c.offer.spot != need.spot),
        refusals=tuple(r for r in refusals if r.offer.spot == need.spot),
    )


def rank_all(
    plans: Mapping[str, Plan], left_out: Mapping[str, str], *, hours_left: float | None = None,
    balances: Mapping[str, float] | None = None,
) -> Plan:  # fmt: skip
    """One plan over several providers, cheapest for the job first. Where one may rent spot, that competes with on-demand.

    Args:
        plans: of each provider that has answered; at least one.
        hours_left: until the job should be done.
        balances: $ on the accounts that know one.
    """
    need, expected = next((plan.need, plan.forecast) for plan in plans.values())
    fitting: list[Candidate] = []
    refusals = [refusal for plan in plans.values() for refusal in plan.refusals]
    for name, plan in plans.items():
        balance = (balances or {}).get(name, math.inf)
        for candidate in (*plan.candidates, *(plan.alternatives if plan.need.spot else ())):
            misfits = []
            if hours_left is not None and candidate.hours > hours_left:
                times = duration(candidate.hours * 3600), duration(max(hours_left, 0.0) * 3600)
                text = "the job is expected to take {} there, and has {}".format(*times)
                misfits.append(Misfit("provider.deadline_hours", text))
            if not balance >= candidate.cost:
                text = f"the account has ${balance:.2f}, and the job is expected to cost ${candidate.cost:.2f}"
                misfits.append(Misfit(f"the balance at {name}", text))
            if misfits:
                refusals.append(Refusal(candidate.offer, tuple(misfits)))
            else:
                fitting.append(candidate)
    return Plan(
        need=replace(need, spot=False),
        forecast=expected,
        candidates=tuple(sorted(fitting, key=_rank)),
        alternatives=tuple(sorted((c for p in plans.values() if not p.need.spot for c in p.alternatives), key=_rank)),
        refusals=tuple(refusals),
        left_out=left_out,
    )


def _rank(candidate: Candidate) -> tuple[float, float, str, str]:
    return candidate.cost, -candidate.offer.reliability, candidate.offer.provider, candidate.offer.id


def price(offer: Offer, forecast: Forecast) -> Candidate:
    """The cost of the job on an offer: rent during set-up, transfers and training, plus the price of the traffic."""
    parts = Parts(
        setup=forecast.setup_hours,
        download=_transfer_hours(forecast.download_gb, offer.download_mbps),
        training=forecast.hours * (1.0 + forecast.overhead(offer)),
        upload=_transfer_hours(forecast.upload_gb, offer.upload_mbps),
    )
    traffic = forecast.download_gb * offer.download_price + forecast.upload_gb * offer.upload_price
    return Candidate(offer, parts, traffic)


def _place(offer: Offer) -> str:
    return {"": "an unknown region", "any": "any region"}.get(offer.region, offer.region)


def _transfer_hours(gigabytes: float, mbps: float) -> float:
    return gigabytes * 8000 / max(mbps, 1) / 3600


def _is_meant(offer: Offer) -> bool:
    """Whether all figures of an offer are finite: NaN would pass every comparison with a cap."""
    numbers = [value for value in vars(offer).values() if isinstance(value, (int, float))]
    return all(math.isfinite(number) for number in numbers) and offer.price >= 0


def most(settings: RentalSettings, timing: Timing, jobs: int) -> float:
    """The most that a launch can cost, in $: each job up to its caps, plus the time to save and download."""
    by_hours = settings.max_price * settings.max_hours
    capped = by_hours if settings.max_cost is None else min(settings.max_cost, by_hours)
    all_jobs = jobs * (capped + settings.max_price * reserve(timing) / 3600)
    return all_jobs if settings.max_total_cost is None else min(all_jobs, settings.max_total_cost)


def reserve(timing: Timing) -> float:
    """Seconds after its cap when a job's machine is destroyed, whatever the machine says."""
    return timing.grace + timing.fetch


def _misfits(need: Need, offer: Offer) -> list[Misfit]:
    """Why an offer does not fit, and the settings that refuse it."""
    found = [Misfit("provider.gpu", f"its card is {offer.gpu}, not {need.gpu}")] if offer.substitute else []
    if need.max_price is not None and offer.price > need.max_price:
        found.append(Misfit("provider.max_price", f"it costs more than provider.max_price ${need.max_price:.2f}/h"))
    if offer.num_gpus != need.num_gpus:
        found.append(Misfit("provider.num_gpus", f"it has {offer.num_gpus} cards, not {need.num_gpus}"))
    if offer.gpu_memory_gib < need.gpu_memory_gib:
        text = f"its card has {offer.gpu_memory_gib:.0f} GiB, less than provider.min_gpu_memory_gib {need.gpu_memory_gib:.0f}"
        found.append(Misfit("provider.min_gpu_memory_gib", text))
    if offer.disk_gb < need.disk_gb:
        text = f"its disk has {offer.disk_gb:.0f} GB free, less than provider.disk_gb {need.disk_gb:.0f}"
        found.append(Misfit("provider.disk_gb", text))
    if offer.download_mbps < need.download_mbps:
        text = f"its {offer.download_mbps:.0f} Mbit/s is below provider.min_download_mbps {need.download_mbps:.0f}"
        found.append(Misfit("provider.min_download_mbps", text))
    if need.region and need.region.lower() not in offer.region.lower():
        text = f"it is in {_place(offer)}, not provider.region {need.region}"
        found.append(Misfit("provider.region", text))
    return [*found, *offer.misfits]
