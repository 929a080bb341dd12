"""Tables of offers, plans and estimates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from launchers.cli.tables import Sheet
from launchers.formats import count, duration
from launchers.job import Offer
from launchers.planning import Candidate, Plan
from launchers.providers import sign_up

_OFFER_COLUMNS = ("provider", "offer", "card", "gib", "kind", "$/h")
_PLACE_COLUMNS = ("mbit/s", "reliability", "region")
_FIGURES = frozenset(
    {"$/h", "hours", "$_job", "mbit/s", "gib", "reliability", "setup", "download", "training", "upload"}
)
_HEADERS = {
    "gib": "GiB",
    "mbit/s": "Mbit/s",
    "hours": "time",
    "$_job": "$ job",
    "setup": "set-up",
    "reliability": "reliable",
}


def _of_hours(hours: float) -> str:
    return duration(hours * 3600)


_PARTS = ("setup", "download", "training", "upload")
_FORMATS: Mapping[str, Callable[[Any], str]] = dict.fromkeys(("hours", *_PARTS), _of_hours) | {
    "reliability": "{:.3f}".format
}


def offers_table(rows: list[dict[str, Any]], note: str) -> Sheet:
    return _sheet("Offers", (*_OFFER_COLUMNS, *_PLACE_COLUMNS), rows, note)


def plan_table(plan: Plan, most: int = 12) -> Sheet:
    """The plan: the offer that would be rented first, then the rest, spot and on-demand side by side."""
    ranked = sorted([*plan.candidates, *plan.alternatives], key=lambda c: c.cost)[:most]
    chosen = plan.candidates[0] if plan.candidates else None
    rows = [candidate_row(c) | {"chosen": c is chosen} for c in ranked]
    for row in rows:
        row["offer"] = f"{row['offer']} *" if row["chosen"] else row["offer"]
    notes = []
    if chosen:
        notes.append(f"* selected ({'spot' if chosen.offer.spot else 'on-demand'}).")
    if plan.refusals:
        notes.append(f"{count(len(plan.refusals), 'offer')} did not match the requirements.")
    if plan.forecast.is_upper_bound:
        notes.append("No time estimate is available: the time is the upper bound provider.max_hours.")
    if not all(c.offer.charging.while_idle for c in ranked):
        notes.append("Containers are billed while a job runs; the price is from a dated list.")
    notes = [" ".join(notes), *(f"{name} is left out: {why}" for name, why in plan.left_out.items())]
    return _sheet("Plan", (*_OFFER_COLUMNS, "hours", "$_job", *_PLACE_COLUMNS), rows, "\n".join(filter(None, notes)))


def estimate_table(rows: list[dict[str, Any]], notes: list[str]) -> Sheet:
    """What stands beside a row is a word; a reason why there is none stands below the table."""
    columns = ("hardware", "provider", "card", "kind", "$/h", "$_job", "hours", *_PARTS)
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["note"]:
            reasons.setdefault((row["provider"], row["note"]), []).append(str(row["hardware"]))
    below = [f"{provider}, {'/'.join(dict.fromkeys(of))}: {note}" for (provider, note), of in reasons.items()]
    return _sheet("Estimate", columns, rows, "\n".join([*below, *notes]))


def _sheet(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]], note: str) -> Sheet:
    return Sheet(title, columns, rows, note, _FIGURES, _HEADERS, _FORMATS)


def offer_row(offer: Offer) -> dict[str, Any]:
    return {
        "provider": offer.provider, "offer": offer.id, "card": f"{offer.num_gpus} x {offer.gpu}", "gib": round(offer.gpu_memory_gib),
        "kind": "spot" if offer.spot else "on-demand", "$/h": offer.price,
        "mbit/s": round(offer.download_mbps), "reliability": offer.reliability or None, "region": offer.region,
    }  # fmt: skip


def candidate_row(candidate: Candidate) -> dict[str, Any]:
    """The offer and what the job costs on it; times in hours."""
    return (
        offer_row(candidate.offer)
        | {"hours": candidate.hours, "$_job": candidate.cost}
        | dataclasses.asdict(candidate.parts)
    )


def estimate_rows(plan: Plan, hardware: str | None, provider: str, note: str = "") -> list[dict[str, Any]]:
    """The cheapest offer of each kind for a job, or why there is none."""
    bound = ["No forecast: the time is the upper bound provider.max_hours."] if plan.forecast.is_upper_bound else []
    notes = " ".join([*bound, *([note] if note else [])])
    rows = [
        candidate_row(c) | {"hardware": hardware, "note": notes or None}
        for best in (plan.candidates[:1], plan.alternatives[:1])
        for c in best
    ]
    if not rows:
        rows.append({"hardware": hardware, "provider": provider, "card": plan.need.gpu, "note": plan.why_none()})
    return rows


def price_sources(names: Iterable[str]) -> str:
    """Where the prices of a table come from, by provider."""
    sources = "; ".join(f"{name}: {sign_up(name).prices}" for name in sorted(set(names)))
    return f"Prices: {sources}." if sources else ""
