"""The data report: what it finds, what it leaves alone, and what is done about leaks."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FILLING, NASTY, NICE, QUIETLY, THINGS, make_rows, write_csv
from tiny_models import make_tokenizer

from nlp_transfer import compose
from nlp_transfer.cli.main import main
from nlp_transfer.config.choices import LongText, OnLeak
from nlp_transfer.config.sections.checkpoint import CheckpointConfig
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.config.sections.tokenization import TokenizationConfig
from nlp_transfer.data.corpus import Corpus, load_corpus
from nlp_transfer.data.near_duplicates import (
    ALIKE,
    are_alike,
    jaccard,
    near_pairs,
    near_partners,
    normalised,
)
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.loading import EMBEDDED, load_pretrained, load_tokenizer
from nlp_transfer.quality import report as data_report
from nlp_transfer.runs.folder import open_run
from nlp_transfer.utils.distributed import join

TOKENIZER = make_tokenizer("bert")
WORDS = NICE + NASTY + THINGS + FILLING


def sentence(seed: int, words: int = 18) -> str:
    """Long enough that one letter more or less leaves a near duplicate."""
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def distinct(count: int, first: int = 0) -> list[tuple[str, str]]:
    """Rows that have nothing to do with one another."""
    return [(sentence(i), "ab"[i % 2]) for i in range(first, first + count)]


def corpus_of(folder: Path, **splits: Any) -> Corpus:
    """From rows by split, and further keys of the dataset."""
    keys = {
        key: str(write_csv(folder / f"{key}.csv", value)) if isinstance(value, list) else value
        for key, value in splits.items()
    }
    return load_corpus(DatasetConfig(**keys), seed=0)


def report_on(corpus: Corpus, max_tokens: int = 64, **tokenization: Any) -> dict[str, Any]:
    return data_report.make(corpus, TOKENIZER, max_tokens, TokenizationConfig(**tokenization))


def finding_of(report: dict[str, Any], check: str) -> dict[str, Any]:
    """The one finding of a check."""
    [finding] = [one for one in report["findings"] if one["check"] == check]
    return finding


def levels(report: dict[str, Any]) -> dict[str, str]:
    return {finding["check"]: finding["level"] for finding in report["findings"]}


# Texts that are the same, and nearly --------------------------------------------------------------


def test_case_spaces_and_punctuation_do_not_make_another_text() -> None:
    same = ["What a find!", "  what a FIND ", "what, a\tfind…", "«What a find»", "what-a-find"]
    assert set(normalised(same)) == {"what a find"}
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert len(set(normalised([composed, decomposed, "cafe"]))) == 2
    # What carries meaning stays: letters of any script, digits, signs, and faces.
    different = [
        "C",
        "C++",
        "5 €",
        "5 $",
        "great 😀",
        "great 😡",
        "日本",
        "日本語",
        "!!!",
        "???",
        ":)",
    ]
    assert len(set(normalised(different))) == len(different)


def test_every_near_duplicate_is_found_and_nothing_else() -> None:
    generator = random.Random(0)
    texts = [sentence(i, generator.randint(3, 40)) for i in range(300)]
    for text in texts[:150]:
        words = text.split()
        words[generator.randrange(len(words))] = generator.choice(WORDS)
        texts.append(" ".join(words))
    keys = sorted(set(texts))
    truth = {
        (i, k) for k in range(len(keys)) for i in range(k) if jaccard(keys[i], keys[k]) >= ALIKE
    }
    assert len(truth) > 60
    pairs = near_pairs(keys)
    assert truth <= {(min(pair), max(pair)) for pair in pairs.tolist()}
    partners = near_partners(keys, pairs)
    assert set(partners) == {i for pair in truth for i in pair}
    assert all((min(pair), max(pair)) in truth for pair in partners.items())


def test_jaccard_is_the_share_of_common_shingles() -> None:
    assert jaccard("abcdef", "abcdefg") == 2 / 3
    assert jaccard("abcdef", "abcdef") == 1
    assert jaccard("abcd", "abcd") == 0  # too short to have any
    # Of a pair both texts must be alike: one premise has many hypotheses.
    premise = sentence(1)
    assert are_alike(f"{premise}\x1fthe cat", f"{premise}s\x1fthe cat")
    assert not are_alike(f"{premise}\x1fthe cat", f"{premise}\x1fthe dog")


def test_texts_without_a_shingle_are_no_near_duplicates() -> None:
    for keys in ([], ["a", "b", "abcd"], ["abcde"]):
        assert near_pairs(keys).shape == (0, 2)


def test_a_template_with_thousands_of_texts_stays_quick() -> None:
    keys = [f"{sentence(0, 30)} number {i}" for i in range(3000)]
    pairs = near_pairs(keys)
    assert len(pairs) < 25 * len(keys)  # not its square
    assert len(near_partners(keys, pairs)) == len(keys)


# What is found ------------------------------------------------------------------------------------


def test_clean_data_have_nothing_but_good_findings(tmp_path: Path) -> None:
    rows = distinct(60)
    corpus = corpus_of(tmp_path, train=rows[:40], validation=rows[40:50], test=rows[50:])
    report = report_on(corpus)
    assert set(levels(report)) == {
        "empty", "leak", "contradictions", "duplicates", "labels", "cut", "unknown"
    }  # fmt: skip
    assert set(levels(report).values()) == {"good"}
    about = report["splits"]["train"]
    assert about["rows"] == 40
    assert about["labels"] == {"a": {"rows": 20, "share": 0.5}, "b": {"rows": 20, "share": 0.5}}
    assert about["tokens"]["p50"] == about["tokens"]["longest"] == 20  # 18 words and two specials
    assert about["tokens"]["total"] == 800


def test_leaks_are_named_by_row_in_each_held_out_split(tmp_path: Path) -> None:
    rows = distinct(60)
    again = (rows[3][0].upper() + "!", "b")
    nearly = (rows[5][0] + "s", rows[5][1])
    corpus = corpus_of(
        tmp_path, train=rows[:40], validation=rows[40:50], test=[*rows[50:], again, nearly]
    )
    report = report_on(corpus)
    leak = finding_of(report, "leak")
    assert leak["level"] == "problem"
    assert "1 of the 12 rows of test (8.3%) are in train, too" in leak["sentence"]
    place = f"test: row 11 of {tmp_path / 'test.csv'} = train: row 4 of {tmp_path / 'train.csv'}"
    assert leak["rows"] == [place]
    assert leak["examples"][0].split(" = ")[0][:20] == again[0][:20]
    near = finding_of(report, "near leak")
    assert near["level"] == "warning"
    assert near["rows"][0].startswith("test: row 12")
    assert near["rows"][0].endswith(f"train: row 6 of {tmp_path / 'train.csv'}")
    assert len(near["rows"]) == 1
    assert levels(report)["contradictions"] == "good"


def test_a_leak_stands_beside_the_figures_of_its_split(
    typed: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = write_csv(tmp_path / "test.csv", [*make_rows(101)[:10], *make_rows(33, seed=2)])
    words = typed(f"dataset.test={test}", "strategy=feature_extraction", "run_dir=run")
    main(["train", *words])
    sentence = "10 of the 43 rows of test (23.3%) are in train, too: these figures measure memory."
    assert f"test: {sentence}" in " ".join(capsys.readouterr().out.split())
    for file in ("report.md", "report.html", "model/README.md"):
        assert sentence in Path("run", file).read_text(encoding="utf-8")


def test_the_same_text_with_different_labels_is_a_contradiction_in_any_splits(
    tmp_path: Path,
) -> None:
    rows = distinct(30)
    other = [(rows[4][0].upper(), "b"), (rows[6][0], "a"), (rows[9][0], "a")]
    corpus = corpus_of(tmp_path, train=[*rows, *other[:2]], validation=[*distinct(5, 50), other[2]])
    contradictions = finding_of(report_on(corpus), "contradictions")
    assert contradictions["level"] == "problem"
    assert "In 4 rows the same text has different labels (2 texts)" in contradictions["sentence"]
    train, validation = (tmp_path / f"{split}.csv" for split in ("train", "validation"))
    assert contradictions["rows"] == [
        f"train: row 5 of {train}: a",
        f"train: row 31 of {train}: b",
        f"train: row 10 of {train}: b",
        f"validation: row 6 of {validation}: a",
    ]


def test_duplicates_of_one_split_are_no_leaks(tmp_path: Path) -> None:
    rows = distinct(60)
    train = [*rows[:40], rows[2], rows[2], (f"{rows[7][0]}x", "b")]
    report = report_on(corpus_of(tmp_path, train=train, validation=rows[40:]))
    assert levels(report)["leak"] == "good"
    duplicates = finding_of(report, "duplicates")
    assert "2 of the 43 rows of train (4.7%) repeat an earlier one" in duplicates["sentence"]
    assert [row.split(" of ")[0] for row in duplicates["rows"]] == [
        "train: row 41",
        "train: row 42",
    ]
    assert all(" = train: row 3 of " in row for row in duplicates["rows"])
    near = finding_of(report, "near duplicates")
    assert "2 of the 43 rows" in near["sentence"]
    assert [row.split(" of ")[0] for row in near["rows"]] == ["train: row 8", "train: row 43"]


def test_rows_of_several_files_and_of_splits_that_are_cut_keep_their_places(
    tmp_path: Path,
) -> None:
    rows = distinct(200)
    write_csv(tmp_path / "part-1.csv", rows[:120])
    write_csv(tmp_path / "part-2.csv", [*rows[120:], *rows[:60]])
    corpus = load_corpus(DatasetConfig(train=str(tmp_path / "part-*.csv")), seed=0)
    rows_by_file = {f"{tmp_path / f'part-{n}.csv'}": [] for n in (1, 2)}
    rows_by_file[f"{tmp_path / 'part-1.csv'}"] = rows[:120]
    rows_by_file[f"{tmp_path / 'part-2.csv'}"] = [*rows[120:], *rows[:60]]
    for split in corpus.splits.values():
        for row in split:
            assert rows_by_file[row["source"]][row["row"] - 1][0] == row["text"]
    assert levels(report_on(corpus))["leak"] == "problem"


def test_texts_that_are_cut_are_counted_with_what_they_lose(tmp_path: Path) -> None:
    rows = [*distinct(30), (sentence(100, 98), "a"), (sentence(101, 198), "b")]
    corpus = corpus_of(tmp_path, train=rows, validation=distinct(10, 200))
    report = report_on(corpus, max_length=50)
    cut = finding_of(report, "cut")
    total = 40 * 20 + 100 + 200
    assert cut["level"] == "warning"
    assert "2 of 42 texts (4.8%) are longer than 50 tokens and lose their end" in cut["sentence"]
    assert f"together {100 * (50 + 150) / total:.1f}% of all tokens" in cut["sentence"]
    assert "tokenization.max_length=64, or tokenization.long_text=windows" in cut["sentence"]
    assert "reads more than 64 tokens" in cut["sentence"]
    assert [row.split(" of ")[0] for row in cut["rows"]] == ["train: row 31", "train: row 32"]
    assert all(len(example) <= 200 for example in cut["examples"])
    tokens = report["splits"]["train"]["tokens"]
    assert (tokens["longer"], tokens["beyond"], tokens["max_length"]) == (2, 200, 50)
    ends = finding_of(report_on(corpus, max_length=50, long_text=LongText.head_tail), "cut")
    assert "lose their middle" in ends["sentence"]
    whole = finding_of(report_on(corpus, max_length=50, long_text=LongText.windows), "cut")
    assert (whole["level"], whole["rows"]) == ("good", [])
    assert "2 texts longer than 50 tokens: read in windows" in whole["sentence"]


def test_texts_the_tokenizer_cannot_read_are_named(tmp_path: Path) -> None:
    rows = [*distinct(20), ("völlig fremde wörter", "a"), ("the film völlig", "b")]
    unknown = finding_of(report_on(corpus_of(tmp_path, train=rows, validation=rows[:4])), "unknown")
    assert unknown["level"] == "warning"
    assert unknown["rows"] == [f"train: row 21 of {tmp_path / 'train.csv'}"]
    assert unknown["examples"] == ["völlig fremde wörter"]


@pytest.mark.parametrize(
    ("text", "finely"),
    [
        ("My invoice of the third of March is wrong, and nobody answers the phone.", False),
        ("Die Rechnung vom März ist falsch, und die Kündigung wurde nicht bestätigt.", True),
        ("我的发票是错的，没有人接电话。", False),
    ],
)
def test_words_of_another_language_are_named(text: str, finely: bool, tmp_path: Path) -> None:
    rows = [(f"{text} {label * number}", label) for number in range(1, 12) for label in "ab"]
    tokenizer, max_tokens = load_tokenizer(CheckpointConfig(EMBEDDED))
    corpus = corpus_of(tmp_path, train=rows, validation=rows[:4])
    report = data_report.make(corpus, tokenizer, max_tokens, TokenizationConfig())
    found = [f["sentence"] for f in report["findings"] if f["check"] == "pieces"]
    assert bool(found) is finely
    assert all("into 2." in sentence and "checkpoint=xlm_roberta" in sentence for sentence in found)


def test_rare_labels_and_labels_of_two_kinds_are_named(tmp_path: Path) -> None:
    labels = ["a"] * 20 + ["b"] * 9 + ["7"]
    rows = [(text, label) for (text, _), label in zip(distinct(30), labels, strict=True)]
    report = report_on(corpus_of(tmp_path, train=rows, validation=distinct(4, 50)))
    sentences = [one["sentence"] for one in report["findings"] if one["check"] == "labels"]
    assert sentences == [
        "Fewer than 10 rows of train have the label 7 (1), b (9).",
        "Some labels are numbers (7), others are names.",
    ]


def test_findings_stay_small_on_a_split_that_repeats_itself(tmp_path: Path) -> None:
    rows = distinct(20) * 100
    report = report_on(corpus_of(tmp_path, train=rows, validation=distinct(4, 50)))
    duplicates = finding_of(report, "duplicates")
    assert "1,980 of the 2,000 rows" in duplicates["sentence"]
    assert len(duplicates["rows"]) == 1000
    assert len(duplicates["examples"]) == 5
    assert [one["level"] for one in report["findings"]] == sorted(
        [one["level"] for one in report["findings"]], key=["problem", "warning", "good"].index
    )


# Every shape --------------------------------------------------------------------------------------


def test_of_pairs_both_texts_count(tmp_path: Path) -> None:
    rows = [(sentence(i), sentence(1000 + i), "ab"[i % 2]) for i in range(30)]
    one_premise = (rows[0][0], sentence(5000), "a")
    swapped = (rows[1][1], rows[1][0], "b")
    again = (rows[2][0], rows[2][1].upper(), "b")
    for name, part in (("train", [*rows, one_premise]), ("test", [swapped, again])):
        lines = ["first,second,label", *(",".join(row) for row in part)]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    keys = {"train": str(tmp_path / "train.csv"), "validation": str(tmp_path / "test.csv")}
    config = DatasetConfig(**keys, text="first", text_pair="second")
    report = report_on(load_corpus(config, 0))
    leak = finding_of(report, "leak")
    assert "1 of the 2 rows of validation" in leak["sentence"]
    assert leak["rows"][0].startswith("validation: row 2 ")
    assert " | " in leak["examples"][0]
    assert levels(report)["duplicates"] == "good"
    assert "contradictions" in levels(report)
    long = finding_of(report_on(load_corpus(config, 0), max_length=30), "cut")
    assert "windows" not in long["sentence"]  # pairs have none


def test_several_labels_are_counted_one_by_one(tmp_path: Path) -> None:
    rows = [(sentence(i), "x|y" if i % 3 else "") for i in range(30)]
    rows.append((rows[1][0], "x"))
    corpus = corpus_of(tmp_path, train=rows, validation=rows[3:8], delimiter="|")
    report = report_on(corpus)
    assert report["splits"]["train"]["labels"]["x"] == {"rows": 21, "share": 0.6774}
    assert "x, y" in " ".join(finding_of(report, "contradictions")["rows"])
    assert "none" not in report["splits"]["train"]["labels"]


def test_scores_have_a_range_and_contradict_where_they_are_far_apart(tmp_path: Path) -> None:
    rows = [(sentence(i), str(i / 10)) for i in range(40)]
    same, other = (rows[4][0], "0.5"), (rows[5][0], "3.5")
    corpus = corpus_of(tmp_path, train=[*rows, same, other], validation=[(sentence(99), "1.25")])
    report = report_on(corpus)
    assert report["splits"]["train"]["labels"] == {}
    assert report["splits"]["train"]["scores"]["highest"] == 3.9
    assert "labels" not in levels(report)
    assert finding_of(report, "contradictions")["sentence"].startswith(
        "In 2 rows the same text has different scores (one text)"
    )
    assert any("scores from 0 to 3.9" in line for line in data_report.table(report))


# dataset.on_leak ----------------------------------------------------------------------------------


def leaking() -> dict[str, Any]:
    rows = distinct(60)
    again = [(rows[i][0].title(), rows[i][1]) for i in (0, 9)]
    nearly = (f"{rows[5][0]}s", rows[5][1])
    splits = {"train": rows[:40], "validation": [*rows[40:50], again[0]]}
    return {**splits, "test": [*rows[50:], again[1], nearly]}


def test_leaks_are_dropped_from_train_and_make_it_another_corpus(tmp_path: Path) -> None:
    splits = leaking()
    warned = corpus_of(tmp_path, **splits)
    dropped = corpus_of(tmp_path, **splits, on_leak=OnLeak.drop)
    assert len(warned.splits["train"]) == 40
    remaining = [row for i, row in enumerate(warned.splits["train"]["text"]) if i not in (0, 9)]
    assert list(dropped.splits["train"]["text"]) == remaining
    for split in ("validation", "test"):
        assert list(dropped.splits[split]["text"]) == list(warned.splits[split]["text"])
    assert dropped.fingerprint != warned.fingerprint
    assert any("2 of the 40 rows of train" in note for note in dropped.notes)
    report = report_on(dropped)
    assert "leak" not in [f["check"] for f in report["findings"] if f["level"] == "problem"]
    assert levels(report)["near leak"] == "warning"  # only the same text is dropped
    assert any("left out of train" in note for note in report["notes"])


def test_without_leaks_the_options_make_no_other_corpus(tmp_path: Path) -> None:
    splits = {"train": distinct(40), "validation": distinct(10, 50)}
    prints = {corpus_of(tmp_path, **splits, on_leak=on_leak).fingerprint for on_leak in OnLeak}
    assert len(prints) == 1


def test_a_limit_is_met_after_leaks_are_dropped(tmp_path: Path) -> None:
    keys = {**leaking(), "on_leak": OnLeak.drop, "limit": 30}
    assert len(corpus_of(tmp_path, **keys).splits["train"]) == 30


def test_leaks_are_refused_where_that_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        corpus_of(tmp_path, **leaking(), on_leak=OnLeak.error)
    assert caught.value.code is ExitCode.DATA
    message = str(caught.value)
    assert "2 of the 40 rows of train" in message
    assert f"row 10 of {tmp_path / 'train.csv'}" in message
    rows = distinct(20)
    with pytest.raises(UserError, match="leaves nothing to train on"):
        corpus_of(tmp_path, train=rows, validation=rows, on_leak=OnLeak.drop)


# Commands -----------------------------------------------------------------------------------------


def test_check_prints_the_report_and_needs_no_weights(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weightless = shutil.copytree(checkpoints["bert"], tmp_path / "weightless")
    (weightless / "model.safetensors").unlink()
    rows = distinct(60)
    files = {"train": rows[:40], "validation": rows[40:]}
    typed = ["+task=classify", "dataset=files", f"checkpoint.name={weightless}", *QUIETLY]
    typed += [
        f"dataset.{split}={write_csv(tmp_path / f'{split}.csv', part)}"
        for split, part in files.items()
    ]
    main(["check", *typed])
    output = capsys.readouterr().out
    assert "a 50.0%, b 50.0%" in output
    assert "good     No text of validation is in train, too, or nearly so." in output
    assert "problem" not in output
    write_csv(tmp_path / "validation.csv", [*rows[40:], rows[7]])
    with pytest.raises(SystemExit) as exit_info:
        main(["check", *typed])
    assert exit_info.value.code == ExitCode.DATA
    out, err = capsys.readouterr()
    assert "problem  1 of the 21 rows of validation (4.8%) are in train, too" in out
    flat = " ".join(out.split())
    assert f"validation: row 21 of {tmp_path / 'validation.csv'} = train: row 8 of" in flat
    assert err.endswith("Error: The data have one problem: see above.\n")
    assert list(Path.cwd().iterdir()) == []  # it leaves nothing behind
    with pytest.raises(SystemExit) as exit_info:
        main(["check", *typed, "dataset.on_leek=drop"])
    assert exit_info.value.code == ExitCode.CONFIG
    assert "the nearest one is dataset.on_leak" in capsys.readouterr().err


def test_check_shows_some_rows_of_each_finding_and_writes_all(
    checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = distinct(40)
    rows += [(rows[i][0], "ba"[i % 2]) for i in range(7)]
    rows += [(rows[0][0], "a")] * 8
    write_csv(Path("t.csv"), rows)
    words = ["+task=classify", f"checkpoint.name={checkpoints['bert']}", "dataset.train=t.csv"]
    with pytest.raises(SystemExit):
        main(["check", *words])
    out = capsys.readouterr().out
    assert all(len(line) <= 80 for line in out.splitlines())
    _, problem = out.split("problem  In 22 rows the same text has different labels (7 texts):")
    problem = problem[: problem.index("\nwarning")]
    # Both sides of five texts; of the first text more rows, the other label before them.
    assert problem.split("\n")[2:6] == [
        "           train: row 1 of t.csv: a",
        "           train: row 41 of t.csv: b",
        "           train: row 48 of t.csv: a",
        "           train: row 49 of t.csv: a",
    ]
    places = [line.strip() for line in problem.split("\n") if line.startswith("           train")]
    assert places[4:6] == ["train: row 2 of t.csv: b", "train: row 42 of t.csv: a"]
    assert len(places) == 4 + 2 * 4
    assert problem.endswith("           and 10 more")
    assert out.endswith("\nAdd --out FILE.json for all rows of each finding.\n")
    with pytest.raises(SystemExit):
        main(["check", *words, "--out", "all.json"])
    assert capsys.readouterr().out.endswith("\nEvery finding, with its rows: all.json\n")
    written = json.loads(Path("all.json").read_text())
    assert len(finding_of(written, "contradictions")["rows"]) == 22
    assert len(finding_of(written, "duplicates")["rows"]) == 15
    with pytest.raises(SystemExit):
        main(["check", *words, "--out", "all.json"])
    assert "all.json is there already. Add --force" in capsys.readouterr().err


def test_check_of_a_split_without_a_label_of_train_names_its_rows(
    typed: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for word in typed() if not word.startswith("dataset.validation=")]
    write_csv(tmp_path / "other.csv", distinct(5))
    with pytest.raises(SystemExit) as exit_info:
        main(["check", *words, f"dataset.validation={tmp_path / 'other.csv'}"])
    assert exit_info.value.code == ExitCode.DATA
    error = capsys.readouterr().err
    assert "Error: 5 of the 5 rows of" in error
    assert error.endswith("No row of the validation split is left.\n")


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert"])
def test_the_tokenizer_alone_knows_how_long_an_input_may_be(
    checkpoints: dict[str, Path], architecture: str
) -> None:
    config = compose(
        "+task=classify", "dataset.train=x.csv", f"checkpoint.name={checkpoints[architecture]}"
    ).checkpoint
    tokenizer, longest = load_tokenizer(config)
    whole = load_pretrained(config, ("a", "b"), seed=0)
    assert longest == whole.max_tokens
    assert tokenizer("the film")["input_ids"] == whole.tokenizer("the film")["input_ids"]


def test_a_run_that_goes_on_keeps_its_report(typed: Callable[..., list[str]]) -> None:
    config = compose(*typed("run_dir=run"))
    corpus, process = load_corpus(config.dataset, config.seed), join(config.training)
    arguments = (corpus, TOKENIZER, 64, config.tokenization)
    for _ in range(2):
        with open_run(config, corpus.fingerprint, process) as folder:
            data_report.keep(folder, *arguments)
            stamp = folder.data_report.stat().st_mtime_ns
            written = json.loads(folder.data_report.read_text())
            data_report.keep(folder, *arguments)
            assert folder.data_report.stat().st_mtime_ns == stamp
    assert written == json.loads(json.dumps(data_report.make(*arguments)))
    config = compose(*typed("run_dir=run", "overwrite=true"))
    with open_run(config, corpus.fingerprint, process) as folder:
        assert not folder.data_report.exists()


def test_short_texts_of_the_tiny_corpus_are_checked_in_all_splits(tmp_path: Path) -> None:
    rows = make_rows(100)
    report = report_on(corpus_of(tmp_path, train=rows[:60], validation=rows[60:80], test=rows[80:]))
    assert set(report["splits"]) == {"train", "validation", "test"}
    lengths = [len(text.split()) + 2 for text, _ in rows[:60]]
    assert report["splits"]["train"]["tokens"]["p95"] == np.percentile(lengths, 95)


def test_near_duplicates_are_sought_among_some_of_many_texts_and_the_report_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = distinct(60)
    rows[30:40] = [(f"{text} soup", label) for text, label in rows[:10]]
    corpus = corpus_of(tmp_path, train=rows, validation=[(f"{rows[50][0]} lamp", "a")])
    by_check = {f["check"]: f for f in report_on(corpus)["findings"]}
    assert "sampled" not in by_check
    assert by_check["near duplicates"]["sentence"].startswith("20 of the 60 rows")
    monkeypatch.setattr("nlp_transfer.quality.checks.MOST_COMPARED", 30)
    by_check = {f["check"]: f for f in report_on(corpus)["findings"]}
    assert "among 30 of 61 different texts" in by_check["sampled"]["sentence"]
    # Of the drawn texts alone, both of a pair in about a quarter of the cases.
    count = int(by_check["near duplicates"]["sentence"].split()[0])
    assert 0 < count < 20
