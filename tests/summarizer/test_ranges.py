"""Every number of the schema: it has a range, and nothing outside the range gets past the checks."""

import functools
import pickle
import time

import omegaconf.base
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from summarizer.checks import check
from summarizer.composition_errors import sentence
from summarizer.config import Config
from summarizer.errors import ConfigError
from summarizer.fields import Choice, ReadBy, Text, fields_of
from summarizer.paths import config_dir
from summarizer.ranges import numbers_of
from tests.summarizer.composition import composed

NUMBERS = {number.key: number for number in numbers_of(Config)}
GROUPS = sorted(path.name for path in config_dir().iterdir() if path.is_dir() and path.name != "task")
ODD = [
    "-1",
    "0",
    "nan",
    ".nan",
    "inf",
    "-inf",
    "1e400",
    "1e300",
    "9" * 30,
    "",
    "many",
    "true",
    "[1]",
    "{a: 1}",
    "null",
    "1.5",
]
HUGE = "x" * 100_000
FIELDS = {field.key: field for field in fields_of(Config)}
OTHERS = [key for key, field in FIELDS.items() if key not in NUMBERS and field.group is None and key != "provider"]
"""Leaves; at a group's place the command line takes the name of an option."""
composed_once = functools.cache(composed)


@pytest.fixture(autouse=True, scope="module")
def interpolations_are_parsed_once():
    """A walk reads the same ones thousands of times, and parsing is most of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(omegaconf.base, "parse", functools.cache(omegaconf.base.parse))
        yield


ANSWERS = {}
PICKLED = {}


def pickled(config):
    if id(config) not in PICKLED:
        PICKLED[id(config)] = pickle.dumps(config)
    return PICKLED[id(config)]


def judged(config, key, text):
    """None where the value is taken, else the sentence that refuses it; an answer takes less than a second of the processor."""
    asked = id(config), key, text  # the configs of `composed_once` live as long as the process
    if asked not in ANSWERS:
        took = []
        while not took or (took[-1] >= 1 and len(took) < 5):  # a collection of garbage may fall into one of them
            began = time.process_time()
            ANSWERS[asked] = answer(config, key, text)
            took.append(time.process_time() - began)
        assert min(took) < 1, f"{key}={text[:40]}"
    return ANSWERS[asked]


def answer(config, key, text):
    try:
        value = OverridesParser.create().parse_override(f"{key}={text}").value()
        config = pickle.loads(pickled(config))  # a seventh of the time of a deep copy
        OmegaConf.update(config, key, value, merge=False)
        check(config)
    except ConfigError as error:
        return str(error)
    except Exception as error:
        return sentence(error) or f"{key}={text}: no sentence for\n{error!r}"
    return None


def base_of(key):
    """A job of a kind that reads the field."""
    rule = FIELDS[key].extra(ReadBy)
    if rule and key.startswith("data."):
        files = ["data.train_file=a.csv", "data.validation_file=b.csv", "data.test_file=c.csv"]
        return composed_once(
            *{"files": ["data=files", *files], "hub": ["data=samsum"], "debsum": ["data=debsum"]}[rule.kinds[0]]
        )
    if (rule and key.startswith("model.")) or ".lora" in key:
        return composed_once(
            {"copy_transformer": "model=tiny", "seq2seq": "model=t5_small"}.get(
                rule and rule.kinds[0], "model=llm_lora"
            )
        )
    return composed_once("model=tiny")


@pytest.mark.parametrize("key", OTHERS)
def test_a_field_that_is_no_number_gives_a_result_or_one_sentence_that_names_it(key):
    config, field = base_of(key), FIELDS[key]
    for text in ["-1", "0", "9" * 30, "", "many", "[1]", "{a: 1}", "null", HUGE]:
        said = judged(config, key, text)
        if said is not None:
            assert "\n" not in said
            assert len(said) < 1000
            assert key in said or key.rpartition(".")[2] in said, said
    if str in field.types or field.extra(Choice):
        assert judged(config, key, HUGE) is not None or (field.extra(Text) and field.extra(Text).most >= len(HUGE))
        if field.extra(Text) is None and not {list, dict} & field.types:
            assert judged(config, key, "") is not None, "nothing is no text"
    if bool in field.types:
        assert judged(config, key, "many") is not None
        assert judged(config, key, "-1") is not None or judged(config, key, "[1]") is not None
    if field.types and object not in field.types and not field.optional and key not in ("provider", "task"):
        assert judged(config, key, "null") is not None


@pytest.mark.parametrize("key", [key for key, field in FIELDS.items() if field.extra(Choice)])
def test_a_choice_takes_its_values_and_names_them_to_who_gives_another(key):
    choice = FIELDS[key].extra(Choice)
    for given in choice.values:
        said = judged(composed_once("model=tiny"), key, given)
        assert said is None or "is not known" not in said
    said = judged(composed_once("model=tiny"), key, choice.values[0] + "x")
    assert "is not known" in said
    assert choice.values[0] in said


@pytest.mark.parametrize("key", [key for key in OTHERS if FIELDS[key].extra(ReadBy)])
def test_what_a_kind_does_not_read_is_refused_and_what_says_nothing_is_not(key):
    rule, group = FIELDS[key].extra(ReadBy), key.partition(".")[0]
    models = {"copy_transformer": "model=tiny", "seq2seq": "model=t5_small", "causal_lora": "model=llm_lora"}
    options = models if group == "model" else {"debsum": "data=debsum", "hub": "data=samsum", "auto": "data=auto"}
    for kind, option in options.items():
        config = composed_once(option)
        if kind in rule.kinds:
            check(config)
            continue
        given = {"model.shape": "{d_model: 8}", "model.lora": "{r: 8}"}.get(
            key, "true" if bool in FIELDS[key].types else "other"
        )
        assert "unused with" in judged(config, key, given)
        nothing = {None: "null", False: "false"}.get(rule.nothing, rule.nothing)
        assert judged(config, key, nothing) is None


def test_every_number_has_a_range():
    assert len(NUMBERS) > 60
    assert [key for key, number in NUMBERS.items() if number.range is None] == []


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_is_taken_or_refused_in_one_sentence_that_names_it(key):
    number = NUMBERS[key]
    config = composed_once("model=llm_lora" if ".lora." in key else "model=tiny")
    for text in ODD:
        said = judged(config, key, f"[{text},{text}]" if number.listed and text in ODD[:9] else text)
        if said is None:
            continue
        assert "\n" not in said
        assert key in said or key.rpartition(".")[2] in said, said
    for text in ["nan", ".nan", "inf", "-inf", "1e400", "1e300", "9" * 30]:
        said = judged(config, key, f"[{text},{text}]" if number.listed else text)
        assert said is not None, f"{key}={text} is taken"
        if text in ("nan", "inf", "1e300") and "is out of range" in said:
            assert str(number.range) in said
    for text in ["many", "true", "", "{a: 1}"]:
        assert judged(config, key, text) is not None, f"{key}={text} is taken"
    assert (judged(config, key, "null") is None) == number.optional


@pytest.mark.parametrize("key", NUMBERS)
def test_both_ends_of_a_range_are_what_it_says(key):
    given = NUMBERS[key].range
    assert given.holds(given.least) != given.above
    assert given.holds(given.most) != given.below
    assert not given.holds(given.least - 1) or given.also == given.least - 1
    assert not given.holds(given.most * 2 + 1)


@pytest.mark.parametrize(
    "option", sorted(f"{group}={path.stem}" for group in GROUPS for path in (config_dir() / group).glob("*.yaml"))
)
def test_the_values_of_every_option_are_within_their_ranges(option):
    needs_card = option.startswith("provider=") or option in ("model=led", "experiment=long_documents")
    fsdp = ["hardware=4090", "optim.ema_decay=null"] * (option == "trainer=fsdp")
    files = ["data.train_file=a.csv", "data.validation_file=b.csv", "data.test_file=c.csv"]
    check(composed(option, *["hardware=4090"] * needs_card, *files * (option == "data=files"), *fsdp))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["optim.gradient_clip_norm=-1"], ["optim.gradient_clip_norm=-1", "above 0", "or null"]),
        (["seed=4294967296"], ["seed=4294967296", "at most 4294967295"]),
        (["optim.betas=[0.9]"], ["optim.betas=[0.9]", "takes 2"]),
        (["optim.betas=[0.9,1]"], ["optim.betas", "below 1"]),
        (["trainer.max_steps=-2"], ["trainer.max_steps=-2", "or -1"]),
        (["model.shape.num_heads=3"], ["model.shape.d_model=128", "model.shape.num_heads=3"]),
        (["generation.min_new_tokens=40"], ["generation.min_new_tokens=40", "generation.max_new_tokens=32"]),
        (["model=bart_base", "generation.max_new_tokens=1500"], ["generation.max_new_tokens=1500", "1024"]),
        # a key that this model or this data does not read
        (["model.pretrained=true"], ["model.pretrained", "unused with model=tiny"]),
        (["model.hub_id=google-t5/t5-small"], ["model.hub_id", "unused with model=tiny"]),
        (["model.gradient_checkpointing=true"], ["model.gradient_checkpointing", "unused"]),
        (["data.test_file=mine.csv"], ["data.test_file=mine.csv", "unused with data=auto", "data=files"]),
        (["data=samsum", "data.mirror=https://deb.debian.org/debian"], ["data.mirror", "unused with data=samsum"]),
        # what the end of the job would fail on
        (["evaluation.splits=[dev]"], ["evaluation.splits=[dev]", "train, validation, test"]),
        (["evaluation.splits=[valdation]"], ["did you mean validation?"]),
        (["evaluation.splits=[test,test]"], ["each once"]),
        (["data=samsum", "data.test_split=null"], ["no test split", "data.test_split"]),
        (["callbacks.monitor=validation/rouge_l"], ["did you mean validation/rougeL?", "validation/loss"]),
        (["callbacks.monitor=validation/rougeL"], ["callbacks.mode=min", "worst", "callbacks.mode=max"]),
        (["export.push_to_hub='me/bad name!'"], ["me/bad name!", "user/name"]),
        (["provider=vast", "hardware=4090", "evaluation.bertscore=true"], ["bert-score", "not installed on rented"]),
        (["provider=vast", "hardware=4090", "export.push_to_hub=me/x"], ["HF_TOKEN"]),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_meant_are_refused_on_the_client(arguments, words, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(ConfigError) as raised:
        check(composed(*arguments))
    assert all(word in str(raised.value) for word in words), str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_token_in_the_environment_is_taken_along(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_something")
    check(composed("provider=vast", "hardware=4090", "export.push_to_hub=me/x"))


def test_settings_that_continue_a_job_are_judged_with_that_job_s_own(monkeypatch):
    config = composed(
        "run=somewhere", "task=evaluate", "data.test_file=mine.jsonl", "callbacks.monitor=validation/rougeL"
    )
    check(config)  # which data and mode the job has is not known here
    with pytest.raises(ConfigError, match=r"data\.test_file"):
        check(config, settled=True)
