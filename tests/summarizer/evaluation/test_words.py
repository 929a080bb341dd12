"""Text in any script is scored by words that it has, and the tables say how; English stays as `rouge_score` counts it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from summarizer.evaluation.baselines import baselines, sentences
from summarizer.evaluation.evaluate import score_split
from summarizer.evaluation.minimum_bayes_risk import least_risk
from summarizer.evaluation.report import closing_report
from summarizer.evaluation.rouge import ROUGE, score_rows
from summarizer.evaluation.words import PUBLISHED, UNICODE, choose, first_words, looks_english, notices, unicode_words
from summarizer.run import Run
from tests.summarizer.jobs import TINY, job_folder, made_up_pairs, summarizer

PAIRS = {
    "Chinese": ("这个程序是快速的音乐编辑器。它与地图书籍一起工作。", "快速的音乐编辑器"),
    "Japanese": ("このプログラムは高速な音楽エディタです。地図と動作します。", "高速な音楽エディタ"),
    "Russian": ("Эта программа — быстрый редактор музыки. Она работает с картами.", "быстрый редактор музыки"),
    "Thai": ("โปรแกรมนี้เป็นโปรแกรมแก้ไขเพลงที่รวดเร็ว ทำงานกับแผนที่", "โปรแกรมแก้ไขเพลงที่รวดเร็ว"),
    "Hindi": ("यह प्रोग्राम एक तेज़ संगीत संपादक है। यह मानचित्रों के साथ काम करता है।", "एक तेज़ संगीत संपादक"),
    "Arabic": ("هذا البرنامج محرر موسيقى سريع. يعمل مع الخرائط.", "محرر موسيقى سريع"),
    "Greek": ("Το πρόγραμμα είναι ένας γρήγορος επεξεργαστής μουσικής. Δουλεύει.", "γρήγορος επεξεργαστής μουσικής"),
    "German": (
        "Das Programm ist ein schöner Übersetzer für Bücher. Es läuft überall.",
        "schöner Übersetzer für Bücher",
    ),
}
MIXED = [*PAIRS.values(), ("This is a fast editor. It works.", "fast editor")]


class Split:
    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def document(self, i: int) -> str:
        return self.pairs[i][0]

    def summary(self, i: int) -> str:
        return self.pairs[i][1]

    def id(self, i: int) -> str:
        return str(i)


@pytest.fixture
def config(tmp_path: Path) -> SimpleNamespace:
    measured = SimpleNamespace(bootstrap_samples=20, bertscore=False, bertscore_model=None, splits=["test"])
    return SimpleNamespace(evaluation=measured, data=SimpleNamespace(cache_dir=str(tmp_path / "cache")), seed=1)


@pytest.mark.parametrize("language", [*PAIRS, "mixed"])
def test_summaries_that_are_their_references_score_100_in_any_script(language: str, config: SimpleNamespace) -> None:
    pairs = MIXED if language == "mixed" else [PAIRS[language]] * 12
    report = score_split("test", Split(pairs), [reference for _, reference in pairs], config, 1.0)
    assert [report.metrics[f"test/{key}"] for key in ROUGE] == [100.0] * 4
    assert report.metrics["test/oracle/rougeL"] > 30
    assert report.metrics["test/empty"] == 0
    assert report.facts == {"test/rouge_tokenizer": UNICODE}
    assert report.language is None


def test_english_is_counted_and_scored_as_the_package_does() -> None:
    package = RougeScorer(list(ROUGE), use_stemmer=True)
    documents, references = zip(*((row["document"], row["summary"]) for row in made_up_pairs(30, seed=0)), strict=True)
    tokenizer = choose(references)
    assert tokenizer == PUBLISHED
    scores = score_rows(documents, references, tokenizer)
    for i, (document, reference) in enumerate(zip(documents, references, strict=True)):
        expected = package.score(reference, document)
        assert [scores[key][i] for key in ROUGE] == [expected[key].fmeasure for key in ROUGE]


def test_the_choice_is_made_by_the_share_of_letters_outside_a_to_z() -> None:
    english = ["the quick brown fox jumps over the lazy dog"] * 100
    assert choose([*english, "a naïve café in Zürich"]) == PUBLISHED, "some foreign names are English still"
    assert choose(["le café est fermé depuis l'été"] * 3) == UNICODE
    assert choose(["2024", "...", ""]) == PUBLISHED
    assert choose([]) == PUBLISHED


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("快速的 编辑器, v2。", ["快", "速", "的", "编", "辑", "器", "v2"]),
        ("ｶﾞｽ コーヒー", ["ガ", "ス", "コ", "ー", "ヒ", "ー"]),
        ("ง่าย", ["ง่", "า", "ย"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("E\u0301te\u0301 été", ["été", "été"]),
        ("می\u200cخواهم ١٢", ["میخواهم", "١٢"]),
        ("한국어 텍스트", ["한국어", "텍스트"]),
        ("a_b don't — 🙂", ["a", "b", "don", "t"]),
    ],
)
def test_words_by_unicode(text: str, words: list[str]) -> None:
    assert unicode_words(text) == words


@given(st.text(max_size=80), st.text(max_size=80))
def test_words_of_two_lines_are_those_of_each(one: str, other: str) -> None:
    assert unicode_words(f"{one}\n{other}") == unicode_words(one) + unicode_words(other)


@given(st.text(max_size=80))
def test_the_first_words_are_the_beginning(text: str) -> None:
    assert unicode_words(first_words(text, 10**6, UNICODE)) == unicode_words(text)
    assert first_words(first_words(text, 8, UNICODE), 3, UNICODE) == first_words(text, 3, UNICODE)


def test_sentences_end_where_other_scripts_end_them_and_english_ones_where_they_did() -> None:
    assert sentences("你好。“再见！”他说。好", UNICODE) == ["你好。", "“再见！”", "他说。", "好"]
    assert sentences("यह है। वह है। Ok? Yes.", UNICODE) == ["यह है।", "वह है।", "Ok?", "Yes."]
    assert sentences("Version 1.5 of x.y is out! See 你好。再见", UNICODE) == [
        "Version 1.5 of x.y is out!",
        "See 你好。",
        "再见",
    ]
    assert sentences("One。Two. Three") == ["One。Two.", "Three"]


def test_the_first_words_of_a_text_without_spaces_are_its_first_characters() -> None:
    assert first_words("这个程序是，快速的", 6, UNICODE) == "这个程序是，快"
    assert first_words("Эта программа — быстрый редактор", 3, UNICODE) == "Эта программа — быстрый"
    assert baselines(["One two three four five six"], ["x"])["first5"] == ["One two three four five"]


def test_of_beams_in_any_script_the_one_that_the_others_agree_with_is_chosen() -> None:
    assert least_risk(["完全不同", "快速的音乐编辑器", "快速音乐编辑器", "快的音乐编辑器"]) > 0
    assert least_risk(["совсем другое", *["быстрый редактор музыки", "быстрый редактор"] * 2], UNICODE) > 0


def test_rows_that_can_only_score_0_are_named_beforehand() -> None:
    (notice,) = notices("test", ["a fast editor for many texts"] * 200 + ["编辑器", "🙂"])
    assert "test: 2 of 202 references have no word that ROUGE counts (tokenizer rouge_score)" in notice
    unicode_notice, silent = notices("test", ["编辑器", "🙂"])
    assert "outside a-z" in unicode_notice
    assert "1 of 2 references" in silent
    assert notices("test", ["a fast editor"]) == []


def test_english_is_told_from_other_languages_of_the_same_letters() -> None:
    english = [row["document"] for row in made_up_pairs(20, seed=0)]
    assert looks_english(english, PUBLISHED)
    assert not looks_english(["Program ini adalah penyunting musik yang cepat untuk peta dan buku."] * 9, PUBLISHED)
    assert not looks_english(["Dit programma is een snelle editor voor muziek en werkt met kaarten."] * 9, PUBLISHED)
    assert not looks_english([], PUBLISHED)


@pytest.mark.parametrize(
    ("reference", "said"), [("快速的音乐编辑器", "unicode (words"), ("fast editor", "rouge_score (runs")]
)
def test_the_table_names_the_tokenizer(
    reference: str, said: str, config: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = score_split("test", Split([(reference, reference)]), [reference], config, 1.0)
    closing_report(Run(tmp_path), config, report.metrics | report.facts)
    assert f"ROUGE's tokenizer: {said}" in capsys.readouterr().out


def write_pairs(folder: Path, pairs: list[tuple[str, str]], counts: dict[str, int]) -> list[str]:
    overrides = []
    for split, count in counts.items():
        rows = [
            {"id": f"{split}{i}", "document": f"{i} {document}", "summary": summary}
            for i, (document, summary) in enumerate((pairs * count)[:count])
        ]
        path = folder / f"{split}.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        overrides.append(f"data.{split}_file={path}")
    return overrides


@pytest.mark.slow
def test_a_job_on_chinese_text_has_scores_a_named_tokenizer_and_no_card_in_english(tmp_path: Path) -> None:
    corpus = write_pairs(tmp_path, [PAIRS["Chinese"]], {"train": 48, "validation": 6, "test": 6})
    done = summarizer(*TINY, *corpus, "trainer.max_epochs=8", "generation.reranking=mbr", "logger=all", cwd=tmp_path,
                      WANDB_MODE="offline")  # fmt: skip
    folder = job_folder(done)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test/rouge_tokenizer"] == UNICODE
    assert metrics["test/lead1/rougeL"] > 30
    assert metrics["validation/rougeL"] > 0
    assert "outside a-z" in done.stdout.split("This job")[0], "said before the training"
    assert "ROUGE's tokenizer: unicode" in done.stdout
    assert "language:" not in (folder / "model" / "README.md").read_text().split("---")[1]
    again = summarizer("task=evaluate", f"run={folder}", cwd=tmp_path)
    repeated = json.loads((job_folder(again) / "metrics.json").read_text())
    assert repeated["test/rouge_tokenizer"] == UNICODE
    assert repeated["test/rougeL"] == metrics["test/rougeL"]
