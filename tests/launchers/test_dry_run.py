"""A dry run shows what a job would cost: without an account where prices are published, and with one question to the provider."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


def home(tmp_path: Path) -> dict[str, str]:
    """A user without any key, and a ledger of its own."""
    return {
        "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "LAUNCHERS_HOME": str(tmp_path / "ledger"), "COLUMNS": "200",
        "MODAL_CONFIG_PATH": str(tmp_path / "none"),
    }  # fmt: skip


@pytest.mark.parametrize(("provider", "price"), [("modal", "2.42"), ("jarvis", "0.89")], ids=["modal", "jarvis"])
def test_published_prices_are_shown_without_an_account(descent: Run, tmp_path: Path, provider: str, price: str):
    done = descent(
        f"provider={provider}", "provider.gpu=A100", "provider.max_price=9", "provider.dry_run=true", **home(tmp_path)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert price in said
    assert " list prices of " in said
    assert "whether a card is free is not known" in said
    assert "training 1 h" in said


def test_a_provider_without_published_prices_asks_for_the_key(descent: Run, tmp_path: Path):
    done = descent("provider=vast", "provider.dry_run=true", **home(tmp_path))
    assert done.returncode == 1
    assert "No Vast.ai key: set VAST_API_KEY" in done.stderr


def test_a_launch_needs_the_account_all_the_same(descent: Run, tmp_path: Path):
    done = descent("provider=modal", **home(tmp_path))
    assert done.returncode == 1
    assert "No Modal token" in done.stderr


@pytest.mark.parametrize(("provider", "variable"), [("vast", "VAST_API_KEY"), ("runpod", "RUNPOD_API_KEY")])
def test_an_unreachable_provider_is_asked_once(descent: Run, tmp_path: Path, provider: str, variable: str):
    nobody = {variable: "emulated-" + "0" * 8} | home(tmp_path)
    done = descent(
        f"provider={provider}", "provider.dry_run=true", "provider.api_url=http://127.0.0.1:9",
        "hydra.launcher.timing.retry_total=600", **nobody,
    )  # fmt: skip
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "Retrying for up to" not in done.stdout + done.stderr


@pytest.mark.parametrize("key", ["image", "max_price"])
def test_a_setting_that_an_app_left_out_is_named_in_one_sentence(descent, project, tmp_path, key):
    file = project / "descent" / "conf" / "provider" / "vast.yaml"
    file.write_text(
        "".join(line for line in file.read_text().splitlines(True) if not line.strip().startswith(f"{key}:"))
    )
    done = descent("provider=vast", "provider.dry_run=true", LAUNCHERS_HOME=str(tmp_path / "home"))
    assert done.returncode == 1
    assert f"Missing settings: provider.{key}. Set them in the config." in done.stderr
    assert "Traceback" not in done.stderr
