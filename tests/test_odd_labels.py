"""Label columns as people have them: lists in every form, spellings, words for nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import QUIETLY
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from odd_tables import (
    BITS,
    LABELS,
    LISTS,
    NAMED,
    OF_BITS,
    OF_LISTS,
    TEXTS,
    Odd,
    assert_read,
    assert_refused,
    labelled,
    lines,
    load,
)

from nlp_transfer.cli.main import main
from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.cells import is_blank, label_key
from nlp_transfer.data.corpus import answers_of, load_corpus
from nlp_transfer.data.memory import with_tables
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems.base import shown
from nlp_transfer.quality.checks import labels_of_their_own
from nlp_transfer.quality.spelling import (
    joined_labels,
    spelling,
    texts_of_numbers,
    written_texts,
)
from nlp_transfer.utils.text import shortened

SINGLE = {"problem": "single_label"}
ONE_HOT = [[0, 1, 0], [1, 0, 0], [0, 0, 1]] * 2
OF_ONE_HOT = ["y", "x", "z"] * 2
WORDS = [
    {"text": text, "toxic": "yes" if i % 2 else "No", "insult": " Y" if i % 3 else "f"}
    for i, text in enumerate(TEXTS)
]
OF_WORDS = ["none", "toxic, insult", "insult", "toxic", "insult", "toxic, insult"]
FIELDS = [{"toxic": i % 2, "insult": i % 3 // 2} for i in range(6)]


def written(form: str, rows: list[list[Any]]) -> bytes:
    """Lists in a text, by a template."""
    return labelled([form.format(row) for row in rows])


def joined(separator: str) -> bytes:
    return labelled([separator.join(map(str, row)) for row in BITS])


READ = [
    # a 0 or 1 for each label, as programs write it
    Odd("tensor.jsonl", written("tensor({})", BITS), NAMED, OF_BITS),
    Odd("array.jsonl", written("np.array({}, dtype=int64)", BITS), NAMED, OF_BITS),
    Odd("numpy.jsonl", labelled([str(np.array(row)) for row in BITS]), NAMED, OF_BITS),
    Odd("floats.jsonl", labelled([str(np.array(row, float)) for row in BITS]), NAMED, OF_BITS),
    Odd("bools.jsonl", labelled([str(np.array(row, bool)) for row in BITS]), NAMED, OF_BITS),
    Odd("long.jsonl", labelled([str(np.array(row * 40)) for row in BITS]), rows=None),
    Odd("spaces.jsonl", joined(" "), NAMED, OF_BITS, "a row of 0 and 1"),
    Odd("commas.jsonl", joined(","), NAMED, OF_BITS, "a row of 0 and 1"),
    Odd("semicolons.jsonl", joined("; "), NAMED, OF_BITS, "a row of 0 and 1"),
    Odd("texts.jsonl", labelled([[str(bit) for bit in row] for row in BITS]), NAMED, OF_BITS),
    Odd("delimiter.jsonl", joined("|"), {**NAMED, "delimiter": "|"}, OF_BITS),
    Odd("digits.jsonl", joined(""), rows=["011", "100", "110", "001", "000", "101"], says="list"),
    Odd("one_hot.jsonl", labelled(ONE_HOT), NAMED, OF_ONE_HOT, "exactly one of them"),
    Odd("classes.jsonl", labelled(ONE_HOT), {**NAMED, **SINGLE}, OF_ONE_HOT),
    Odd(
        "fields.jsonl",
        labelled(FIELDS),
        {"label": ["label.toxic", "label.insult"]},
        ["none", "label.toxic", "label.insult", "label.toxic", "none", "label.toxic, label.insult"],
    ),
    Odd("yes.jsonl", lines(WORDS), {"label": ["toxic", "insult"]}, OF_WORDS),
    # lists of labels
    Odd("sets.jsonl", labelled([str(set(row)) if row else "set()" for row in LISTS]), rows=None),
    Odd("index.jsonl", written("Index({}, dtype='object')", LISTS), rows=OF_LISTS),
    Odd("ones.jsonl", labelled([["a"], ["b"]] * 3), rows=["a", "b"] * 3, says="exactly one label"),
    Odd("taken_out.jsonl", labelled([["a"], ["b"]] * 3), SINGLE, ["a", "b"] * 3),
    Odd("identifiers.jsonl", labelled(["9" * 25, "1"] * 3), rows=["9" * 25, "1"] * 3),
    Odd("twice.jsonl", labelled([["a", "a"], ["b"]] * 3), rows=["a", "b"] * 3),
    # names that only look like lists
    Odd(
        "brackets.jsonl", labelled(["[urgent]", "[normal]"] * 3), rows=["[urgent]", "[normal]"] * 3
    ),
    Odd("none.jsonl", labelled(["(none)", "(other)"] * 3), rows=["(none)", "(other)"] * 3),
]
REFUSED = [
    Odd(
        "ja.jsonl",
        lines(
            [{**row, "toxic": "ja", "insult": x} for row, x in zip(WORDS, "10x10 ", strict=True)]
        ),
        {"label": ["toxic", "insult"]},
        says="toxic: 6 of 6 rows (row 1: 'ja', row 2: 'ja', row 3: 'ja', …)\n"
        "  insult: 2 of 6 rows (row 3: 'x', row 6: ' ')",
    ),
    Odd(
        "empty_cell.jsonl",
        labelled(["a, b", "a", "b", "", "b", "a"]),
        says="look like several: dataset.delimiter=',' reads them so, and an empty cell as none",
    ),
    Odd("other_numbers.jsonl", labelled([[-1, 0, 1], [1, 0, 0]] * 3), says="neither a 0 or 1"),
    Odd("twos.jsonl", labelled([[2, 0, 1], [1, 0, 0]] * 3), says="neither a 0 or 1"),
    Odd("words.jsonl", labelled([["yes", "no", "no"], ["no", "yes", "yes"]] * 3), says="neither"),
    Odd("shares.jsonl", labelled([[0.2, 0.8], [0.9, 0.1]] * 3), says="dataset.problem=soft"),
    Odd(
        "more_names.jsonl",
        labelled(BITS),
        {"label_names": dict(zip("0123", "wxyz", strict=True))},
        says="names 4 labels",
    ),
    Odd("gaps.jsonl", labelled([[0, None, 1], [1, 0, 0]] * 3), says="among its labels"),
    Odd("empty.jsonl", labelled([[], *BITS[1:]]), says="0, 3 entries"),
    Odd(
        "dots.jsonl",
        labelled(["[0 1 1 ... 0 1 1]", "[1 0 0 ... 1 0 0]"] * 3),
        says="cannot be read as one",
    ),
    Odd("unquoted.jsonl", labelled(["[a, b]", "[a]"] * 3), says="dataset.delimiter='|'"),
    Odd("braces.jsonl", labelled(["{a,b}", "{a}"] * 3), says="cannot be read as one"),
    Odd("nested.jsonl", labelled(["[['a']]", "[['b']]"] * 3), says="cannot be read as one"),
    Odd("some.jsonl", labelled([*LABELS[:5], "['good', 'bad']"]), says="where others are names"),
    Odd("cut.jsonl", labelled(["['a', 'b'", "['a'"] * 3), says="where others are names"),
    Odd("mixed.jsonl", labelled([["a"], "b"] * 3), says="line 2: 'label' holds 'b'"),
    Odd("several.jsonl", labelled([["a", "b"], ["a"]] * 3), SINGLE, says="not of exactly one"),
    Odd("objects.jsonl", labelled(FIELDS), says="[label.toxic,label.insult]"),
    Odd("object_texts.jsonl", labelled(LABELS, [{"body": t} for t in TEXTS]), says="text.body"),
]


@pytest.mark.parametrize("odd", READ, ids=lambda odd: odd.name)
def test_odd_labels_are_read_as_they_are_meant(odd: Odd, tmp_path: Path) -> None:
    if odd.rows is None:
        assert load(odd, tmp_path).problem.name == "multi_label"
    else:
        assert_read(odd, tmp_path)


@pytest.mark.parametrize("odd", REFUSED, ids=lambda odd: odd.name)
def test_labels_that_cannot_be_meant_are_one_error(odd: Odd, tmp_path: Path) -> None:
    assert_refused(odd, tmp_path)


@pytest.mark.parametrize(
    ("names", "rows", "says"),
    [
        (["no", "yes"], BITS, "neither a 0 or 1"),
        (["x", "y", "z"], [[0, 2], [1], [], [0], [2], [1]], None),
    ],
)
def test_lists_of_a_class_label_hold_its_names_and_not_bits(
    names: list[str], rows: list[list[int]], says: str | None, tmp_path: Path
) -> None:
    features = Features(text=Value("string"), label=Sequence(ClassLabel(names=names)))
    Dataset.from_dict({"text": TEXTS, "label": rows}, features).save_to_disk(str(tmp_path / "d"))
    config = DatasetConfig(train=f"{tmp_path}/d", validation=f"{tmp_path}/d")
    if says is not None:
        with pytest.raises(UserError, match=says):
            load_corpus(config, 0)
        return
    assert answers_of(load_corpus(config, 0), "train") == ["x, z", "y", "none", "x", "z", "y"]


SAME = {
    "case": ("Technical", "technical"),
    "spaces": ("card arrival", " card  arrival "),
    "hard space": ("card arrival", "card\u00a0arrival"),
    "zero width": ("good", "go\u200bod"),
    "mark": ("good", "\ufeffgood"),
    "direction": ("good", "\u202bgood\u202c"),
    "soft hyphen": ("good", "go\u00adod"),
    "composed": ("caf\u00e9", "cafe\u0301"),
    "full width": ("ABC", "ＡＢＣ"),
    "ligature": ("fine", "\ufb01ne"),
    "emoji": ("\u2764\ufe0f", "\u2764"),
}
ALIKE = {
    "underscore": ("card arrival", "card_arrival"),
    "dash": ("on-time", "on\u2013time"),
    "quotes": ("good", "'good'"),
    "full stop": ("good", "good."),
    "entity": ("R&D", "R&amp;D"),
    "decimal point": ("1", "1.0"),
    "accent": ("café", "cafe"),
    "other script": ("bad", "b\u0430d"),
    "a letter less": ("technical", "technicl"),
    "a letter more": ("billing", "billling"),
    "another letter": ("delivery", "delivary"),
}
DIFFERENT = (
    *(("C", "C++"), ("1", "-1"), ("1", "01"), ("class_1", "class_2"), ("sad", "mad")),
    *(("up", "down"), ("10", "100"), ("a", "b"), ("positive", "negative")),
)


def sentences(counts: dict[str, int]) -> str:
    return "\n".join(finding.sentence for finding in spelling(counts))


@pytest.mark.parametrize("name", SAME)
def test_labels_that_differ_in_what_nobody_sees_are_named_with_their_rows(name: str) -> None:
    label, other = SAME[name]
    assert label_key(label) == label_key(other)
    sentence = sentences({label: 40, "something else": 30, other: 3})
    assert f"{other!r} (3 rows) and {label!r} (40 rows). dataset.clean_labels=true" in sentence


@pytest.mark.parametrize("name", ALIKE)
def test_labels_that_are_nearly_the_same_are_named(name: str) -> None:
    label, other = ALIKE[name]
    sentence = sentences({label: 40, "something else": 30, other: 1})
    assert f"nearly the same: {other!r} (1 row) and {label!r} (40 rows)" in sentence


@pytest.mark.parametrize(("label", "other"), DIFFERENT)
def test_labels_that_are_different_are_not_called_alike(label: str, other: str) -> None:
    assert sentences({label: 40, other: 3}) == ""


@pytest.mark.parametrize("sign", "|;,/+&")
def test_labels_that_look_like_several_in_one_cell_are_named(sign: str) -> None:
    sentence = "\n".join(f.sentence for f in joined_labels({f"a{sign}b": 2, "a": 9, "b": 9}))
    assert f"'a{sign}b' (2 rows). dataset.delimiter='{sign}'" in sentence
    names = {f"sport{sign}tennis": 9, f"sport{sign}golf": 9, "R&D": 4, "Science, Technology": 9}
    assert list(joined_labels(names)) == []


@pytest.mark.parametrize(("split", "hint"), [("Good ", "dataset.clean_labels=true reads 'Good '"),
                                             ("goood", "'good' is near to 'goood'"),
                                             ("other", "Correct or remove them.$")])  # fmt: skip
def test_the_label_of_train_that_an_unknown_one_may_mean_is_named(
    split: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / "train.jsonl").write_bytes(labelled(LABELS))
    (tmp_path / "test.jsonl").write_bytes(labelled([split], ["a b"]))
    config = DatasetConfig(train=f"{tmp_path}/train.jsonl", test=f"{tmp_path}/test.jsonl")
    with pytest.raises(UserError, match=hint):
        load_corpus(config, 0)


def test_a_message_lists_some_of_many_labels(tmp_path: Path) -> None:
    rows = [(f"{i} text", f"label {i}") for i in range(900)]
    (tmp_path / "train.jsonl").write_bytes(labelled([y for _, y in rows], [t for t, _ in rows]))
    (tmp_path / "test.jsonl").write_bytes(labelled(["other"], ["a b"]))
    config = DatasetConfig(train=f"{tmp_path}/train.jsonl", test=f"{tmp_path}/test.jsonl")
    with pytest.raises(UserError, match="and 880 more") as caught:
        load_corpus(config, 0)
    assert len(str(caught.value)) < 1000


def test_columns_that_are_not_what_they_should_be_are_named() -> None:
    numbers = Dataset.from_dict(
        {"text": ["1", "2024-01-02", "3,5 €", "a film"], "label": [0, 1] * 2}
    )
    train = {"train": numbers, "validation": numbers}
    corpus = load_corpus(with_tables(Config(), train).dataset, 0, tables=train)
    (finding,) = texts_of_numbers(corpus)
    assert finding.sentence.startswith("3 of the 4 texts of train are only numbers or dates")
    own = {f"label {i}": 1 for i in range(30)}
    assert "30 labels for 30 rows" in "".join(f.sentence for f in labels_of_their_own(own))
    assert not list(labels_of_their_own({"a": 20, "b": 3}))


def test_a_column_of_other_values_is_no_column_of_labels(tmp_path: Path) -> None:
    texts = [f"a film {i}" for i in range(40)]
    file = tmp_path / "train.jsonl"
    config = DatasetConfig(train=str(file), test_fraction=0.0, validation_fraction=0.0)
    file.write_bytes(labelled([f"T-{i}" for i in range(40)], texts))
    with pytest.raises(UserError, match="rows of train have a label that no other row has"):
        load_corpus(config, 0)
    file.write_bytes(labelled([f"T-{i // 2}" for i in range(40)], texts))
    assert len(load_corpus(config, 0).labels) == 20
    many = [f"T-{i // 2}" for i in range(80)]
    file.write_bytes(labelled(many, [f"a film {i}" for i in range(80)]))
    part = replace(config, limit=40)  # one row of each
    assert len(load_corpus(part, 0).splits["train"]) == 40
    file.write_bytes(labelled(["a", "b", "c"], texts[:3]))  # one row a label: few, but labels
    assert len(load_corpus(config, 0).labels) == 3


def test_words_for_nothing_are_named_as_labels() -> None:
    assert "'nan' (3) for a missing value" in sentences({"good": 9, "bad": 9, "nan": 3})
    assert sentences({"yes": 9, "no": 9}) == ""


WRITTEN = {
    "written by Python": ["b'fine film'", "['fine', 'film']", "{'text': 'fine'}", 'b"x"'],
    "a word for a missing value": ["nan", "None", "NULL", "N/A", "#N/A", "-"],
    "wrong encoding": ["fine film Â£9", "Ã¼ber", "itâ€™s", "bad \ufffd sign"],
}
HONEST = ["[removed]", "nan bread is good", "naïve café, Ångström, São Paulo", "b'day", "{sic} x"]


@pytest.mark.parametrize("words", WRITTEN)
def test_texts_that_a_program_spoilt_are_counted_with_their_places(
    words: str, tmp_path: Path
) -> None:
    spoilt = WRITTEN[words]
    texts = [*HONEST, *spoilt]
    labels = ["a", "b"] * len(texts)
    corpus = load(Odd("rows.jsonl", labelled(labels[: len(texts)], texts)), tmp_path)
    (finding,) = written_texts(corpus)
    assert words in finding.sentence
    count = 2 * len(spoilt)  # in train and in validation
    assert finding.sentence.startswith(f"{count} texts ")
    assert len(finding.rows) == count
    assert f"row {len(HONEST) + 1} of" in finding.rows[0]


def test_honest_texts_are_nothing_to_find(tmp_path: Path) -> None:
    corpus = load(Odd("rows.jsonl", labelled(["a", "b", "a", "b", "a"], HONEST)), tmp_path)
    assert list(written_texts(corpus)) == []


@pytest.mark.parametrize("text", ["", " \t", "\u200b\u200d", "\ufeff", "\x01\x02", "\u2800\u3164",
                                  "\ufe0f", "\U000e0041\U000e0042", "\u00ad"])  # fmt: skip
def test_a_text_in_which_nobody_sees_anything_is_empty(text: str) -> None:
    assert is_blank(text)
    assert not is_blank(f"{text}.")


def test_check_names_all_of_it_at_once(
    checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"text": f"{text} {i}", "label": label}
        for i in range(12)
        for text, label in zip(TEXTS, LABELS, strict=True)
    ]
    rows += [{"text": "b'fine'", "label": "Good "}, {"text": "soup", "label": "nan"}]
    Path("rows.jsonl").write_bytes(lines(rows))
    words = ("+task=classify", f"checkpoint.name={checkpoints['bert']}", *QUIETLY)
    main(["check", *words, "dataset.train=rows.jsonl", "evaluation.folds=4"])
    output = " ".join(capsys.readouterr().out.split())  # lines of 80 columns
    for part in ("'Good ' (1 row) and 'good' (36 rows)", "'nan' (1)", "One text is written by"):
        assert part in output, output
    assert "No text of  is" not in output
    # A row that cannot be used does not hide what else there is.
    empty = {"text": " ", "label": "good"}
    Path("rows.jsonl").write_bytes(lines([*rows, empty]))
    with pytest.raises(SystemExit) as refused:
        main(["check", *words, "dataset.train=rows.jsonl", "evaluation.folds=4"])
    shown = capsys.readouterr()
    assert refused.value.code == ExitCode.DATA
    assert "'nan' (1)" in shown.out
    assert "No text and no label is empty" not in shown.out
    assert f"1 of the {len(rows) + 1} rows of rows.jsonl (train) has an empty text" in shown.err
    Path("rows.jsonl").write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(SystemExit) as refused:
        main(["check", *words, "dataset.train=rows.jsonl"])
    assert refused.value.code == ExitCode.DATA


def test_a_label_of_two_lines_takes_one_in_tables_and_messages() -> None:
    assert shortened("go\nod\t\u200b") == "go\\nod\\t\\u200b"
    assert shown("good\n") == "'good\\n'"
    assert shown("très bon") == "très bon"
