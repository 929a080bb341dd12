"""What a job reads of the machine it was given."""

from __future__ import annotations

import json

import pytest

from summarizer.rental import VARIABLE, read_rental

FACTS = {"provider": "vast", "price": 0.36, "gpu": "RTX 4090", "region": "SE", "spot": True, "restarts": 2, "cost": 0.5}


def test_dollars_grow_with_the_hours_on_top_of_what_earlier_starts_cost() -> None:
    rental = read_rental({VARIABLE: json.dumps(FACTS)}, now=1000.0)
    assert rental.dollars(1000.0) == 0.5
    assert rental.dollars(1000.0 + 3600) == pytest.approx(0.86)
    assert rental.dollars(0.0) == 0.5, "a clock that was set back refunds nothing"
    assert rental.settings() == {name: value for name, value in FACTS.items() if name != "cost"}


@pytest.mark.parametrize(
    "text", [None, "", "not json", "[1]", '{"price": "x", "cost": NaN, "gpu": {}}', '{"price": -3}']
)
def test_a_job_without_readable_facts_is_local_and_costs_nothing(text: str | None) -> None:
    rental = read_rental({} if text is None else {VARIABLE: text}, now=0.0)
    assert rental.dollars(7200.0) == 0.0
    assert rental.settings()["provider"] == "local"
