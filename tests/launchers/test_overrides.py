"""Values that a command hands to a job in the grammar of Hydra."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    "text",
    [
        "/data/o'brien.csv",
        "a b",
        "back\\slash",
        "before\\'quote",
        "end\\",
        "two\\\\",
        "${home}/x",
        "a,b=[c]{d}",
        "é #%",
        '"',
        "",
    ],
)
def test_any_path_survives_the_grammar_of_overrides(text: str):
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    from launchers.remote_job import quoted

    override = OverridesParser.create().parse_override(f"key={quoted(text)}")
    config = OmegaConf.create({"key": None})
    OmegaConf.update(config, "key", override.value())
    assert config.key == text
