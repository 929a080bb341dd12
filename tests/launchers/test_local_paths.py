"""Which values of a job's config are files of this machine that have to travel with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from launchers.dispatch import ComposedJob
from launchers.errors import MendInput
from launchers.remote_job import local_paths_of
from launchers.settings import RentalSettings


def found(name: str, value: str | None) -> dict[str, Path]:
    job = ComposedJob(0, (), OmegaConf.create({"model": {"source": value}}), frozenset())
    return local_paths_of(job, RentalSettings(local_paths=[name]))


@pytest.mark.parametrize("name", ["model.source", "model.source?"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_here_travels(name: str, kind: str, tmp_path: Path):
    path = tmp_path / "weights"
    path.mkdir() if kind == "folder" else path.write_text("")
    assert found(name, str(path)) == {"model.source": path}


@pytest.mark.parametrize("name", ["model.source", "model.source?"])
@pytest.mark.parametrize("value", [None, "-", "s3://bucket/weights"])
def test_what_is_no_path_stays(name: str, value: str | None):
    assert found(name, value) == {}


def test_what_is_not_here_is_refused_unless_it_may_be_something_else():
    with pytest.raises(MendInput, match=r"model\.source names somebody/model, which is not here"):
        found("model.source", "somebody/model")
    assert found("model.source?", "somebody/model") == {}
