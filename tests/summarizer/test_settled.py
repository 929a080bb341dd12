"""What a job is started with: a named job's settings, this machine's hardware, and a log of the job's own news."""

import io
import logging
import warnings

import pytest
from omegaconf import OmegaConf

from summarizer.checks import check
from summarizer.run import Run
from summarizer.tasks import quiet_libraries, settle
from tests.summarizer.composition import composed


def settled(*arguments):
    return settle(composed(*arguments), list(arguments))


@pytest.fixture
def from_a_card(tmp_path):
    """Folder of a job that was trained on several cards."""

    def trained(*arguments):
        folder = tmp_path / "job"
        folder.mkdir()
        Run(folder).write_config(composed("hardware=h100", *arguments), [])
        return folder

    return trained


@pytest.mark.parametrize("task", [["task=evaluate"], ["task=predict", "input=-"]])
@pytest.mark.parametrize(
    "trained", [["model=tiny"], ["model=led", "trainer=fsdp", "trainer.devices=8"], ["model=llm_lora", "trainer=ddp"]]
)
def test_a_model_from_a_card_is_used_on_whatever_this_machine_has(task, trained, from_a_card):
    folder = from_a_card(*trained)
    config = settled(*task, f"run={folder}")
    check(config)
    assert (config.hardware.name, config.hardware.accelerator) == ("auto", "auto")
    assert (config.provider.name, config.trainer.devices, config.trainer.strategy) == ("local", 1, "auto")
    assert config.model == Run(folder).load_config().model


def test_hardware_that_the_command_names_is_taken(from_a_card):
    folder = from_a_card()
    assert settled("task=evaluate", f"run={folder}", "hardware=cpu").hardware.name == "cpu"
    assert settled("task=evaluate", f"run={folder}", "hardware.generation_tokens=77").hardware.generation_tokens == 77


def test_a_training_is_continued_with_the_hardware_settings_it_had(from_a_card):
    folder = from_a_card()
    saved = OmegaConf.create(OmegaConf.to_yaml(Run(folder).load_config().hardware))
    assert OmegaConf.create(OmegaConf.to_yaml(settled(f"resume={folder}").hardware)) == saved


@pytest.mark.parametrize("library", ["httpx", "httpx2", "httpcore.connection", "urllib3.connectionpool", "matplotlib"])
def test_what_libraries_do_is_not_shown_and_their_warnings_are(library):
    shown = io.StringIO()
    handler = logging.StreamHandler(shown)
    root, before = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        quiet_libraries()
        logging.getLogger(library).info("HTTP Request: GET")
        logging.getLogger(library).warning("certificate expired")
        logging.getLogger("summarizer.data").info("tokenizing")
        logging.getLogger("launchers.local").info("job 0")
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
    assert shown.getvalue().splitlines() == ["certificate expired", "tokenizing", "job 0"]


@pytest.mark.parametrize(
    ("category", "shown"),
    [(FutureWarning, False), (DeprecationWarning, False), (PendingDeprecationWarning, False), (UserWarning, True)],
)
def test_what_libraries_tell_programmers_is_not_shown_and_what_they_tell_users_is(category, shown, monkeypatch):
    monkeypatch.setattr("sys.warnoptions", [])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        quiet_libraries()
        warnings.warn("it will change", category, stacklevel=1)
    assert bool(caught) == shown


def test_warnings_that_are_asked_for_are_shown(monkeypatch):
    monkeypatch.setattr("sys.warnoptions", ["always"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        quiet_libraries()
        warnings.warn("it will change", FutureWarning, stacklevel=1)
    assert caught
