"""Hashed dropout: how much it drops, that its masks look independent, and that a seed decides them."""

import pytest
import torch

from summarizer.packing.dropout import dropout, fixed_numbers, layer_seeds

ROWS, COLUMNS, SHARE = 2000, 1500, 0.1


def mask(seed, site=0, layer=0):
    seeds = layer_seeds(torch.tensor(seed, dtype=torch.int32), 2)[layer]
    masks = fixed_numbers(ROWS, COLUMNS, torch.device("cpu"))
    return (dropout(torch.ones(ROWS, COLUMNS), SHARE, seeds, site, masks) == 0).float()


def test_what_is_kept_is_scaled_and_the_share_is_dropped_in_every_row_and_column():
    seeds, masks = (
        layer_seeds(torch.tensor(1, dtype=torch.int32), 1)[0],
        fixed_numbers(ROWS, COLUMNS, torch.device("cpu")),
    )
    out = dropout(torch.full((ROWS, COLUMNS), 3.0), SHARE, seeds, 0, masks)
    assert out.unique().tolist() == pytest.approx([0.0, 3.0 / 0.9])
    dropped = (out == 0).float()
    assert abs(dropped.mean() - SHARE) < 0.001
    for along, number in ((0, ROWS), (1, COLUMNS)):
        # shares of single rows and columns spread as those of independent draws do
        deviation = (SHARE * (1 - SHARE) / number) ** 0.5
        assert abs(dropped.mean(along).std() / deviation - 1) < 0.15


@pytest.mark.parametrize("pair", ["neighboring rows", "neighboring columns", "steps", "places", "layers"])
def test_two_elements_are_dropped_together_as_often_as_by_chance(pair):
    one = mask(5)
    other = {
        "neighboring rows": one.roll(1, 0),
        "neighboring columns": one.roll(1, 1),
        "steps": mask(6),
        "places": mask(5, site=1),
        "layers": mask(5, layer=1),
    }[pair]
    assert abs((one * other).mean() - SHARE**2) < 0.001


def test_a_seed_decides_the_mask():
    assert torch.equal(mask(5), mask(5))
    assert not torch.equal(mask(5), mask(6))
