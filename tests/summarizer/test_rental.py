"""What a job reads of the machine it was given."""

from __future__ import annotations

import json

import pytest

from summarizer.rental import NAMES, VARIABLE, read_rental

FACTS = {"provider": "vast", "price": 0.36, "gpu": "RTX 4090", "region": "SE", "spot": True, "restarts": 2, "cost": 0.5}


def test_dollars_grow_with_the_hours_on_top_of_what_earlier_starts_cost() -> None:
    rental = read_rental({VARIABLE: json.dumps(FACTS)}, now=1000.0)
    assert rental.dollars(1000.0) == 0.5
    assert rental.dollars(1000.0 + 3600) == pytest.approx(0.86)
    assert rental.dollars(0.0) == 0.5, "a clock that was set back refunds nothing"
    assert rental.settings() == {**{name: value for name, value in FACTS.items() if name != "cost"}, "num_gpus": 0}


def test_gpu_hours_count_every_card_and_what_earlier_starts_had() -> None:
    rental = read_rental({VARIABLE: json.dumps({**FACTS, "num_gpus": 2, "cost": 0.72})}, now=0.0)
    assert rental.gpu_hours(0.0) == pytest.approx(4.0), "0.72 dollars at 0.36 per hour, on two cards"
    assert rental.gpu_hours(1800.0) == pytest.approx(5.0)


def test_what_the_job_knows_itself_fills_what_nobody_told() -> None:
    rental = read_rental({VARIABLE: json.dumps(FACTS)}, now=0.0).or_else(gpu="cpu", num_gpus=4, restarts=9)
    assert (rental.settings()["gpu"], rental.settings()["num_gpus"], rental.settings()["restarts"]) == (
        "RTX 4090",
        4,
        2,
    )


@pytest.mark.parametrize(
    "text", [None, "", "not json", "[1]", '{"price": "x", "cost": NaN, "gpu": {}}', '{"price": -3}']
)
def test_a_job_without_readable_facts_is_local_and_costs_nothing(text: str | None) -> None:
    rental = read_rental({} if text is None else {VARIABLE: text}, now=0.0)
    assert rental.dollars(7200.0) == 0.0
    assert set(rental.settings()) == {*NAMES, "price"}, "no panel may find a name missing"
    assert rental.settings()["provider"] == "local"
