"""Files with a mistake in them: what is legitimate loads, the rest is one error with its line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from odd_tables import workbook

from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.corpus import load_corpus
from nlp_transfer.errors import ExitCode, UserError

Rows = list[tuple[Any, Any]]
ROWS: Rows = [("a fine film", "good"), ("a dull, long one", "bad"), ("what a find", "good")]
LONG = "word " * 420_000  # 2.1 MB
KINDS = ("csv", "tsv", "jsonl")
LINED = {"csv": ",", "tsv": "\t"}


def content(kind: str, rows: Rows = ROWS, header: tuple[str, str] = ("text", "label")) -> bytes:
    """As a careful program writes it."""
    if kind == "jsonl":
        lines = [json.dumps(dict(zip(header, row, strict=True))) for row in rows]
        return "".join(f"{line}\n" for line in lines).encode()
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=LINED[kind], lineterminator="\n")
    writer.writerows([header, *rows])
    return text.getvalue().encode()


def load(folder: Path, train: bytes, kind: str, test: bytes | None = None, **keys: Any) -> Rows:
    """What stands in train afterwards."""
    (folder / f"train.{kind}").write_bytes(train)
    (folder / f"test.{kind}").write_bytes(train if test is None else test)
    files = {"train": f"{folder}/train.{kind}", "validation": f"{folder}/train.{kind}"}
    corpus = load_corpus(DatasetConfig(**files, test=f"{folder}/test.{kind}", **keys), seed=0)
    rows = corpus.splits["train"]
    return [(r["text"], corpus.labels[r["label"]]) for r in rows]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "mistake",
    [
        lambda clean: b"\xef\xbb\xbf" + clean,  # a BOM
        lambda clean: clean.replace(b"\n", b"\r\n"),  # Windows line ends
        lambda clean: b"\xef\xbb\xbf" + clean.replace(b"\n", b"\r\n"),
        lambda clean: clean.replace(b"\n", b"\n\n").rstrip(b"\n"),  # empty lines, none at the end
    ],
)
def test_what_other_programs_add_to_a_file_is_no_part_of_the_data(
    tmp_path: Path, kind: str, mistake: Callable[[bytes], bytes]
) -> None:
    assert load(tmp_path, mistake(content(kind)), kind) == ROWS


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "more",
    [
        [("NA", "bad"), ("null", "good"), ("nan", "bad"), ("fine", "NA")],
        [("2020-01-01", "good"), ("2020-01-02", "bad")],  # not a date
        [(LONG + "end", "bad")],  # one line of 2 MB
        [("one", "1"), ("two", "2")],  # names of labels may be numbers, too
    ],
)
def test_a_text_stays_what_it_is(tmp_path: Path, kind: str, more: Rows) -> None:
    assert load(tmp_path, content(kind, [*ROWS, *more]), kind) == [*ROWS, *more]


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_of_dates_and_numbers_stays_texts(tmp_path: Path, kind: str) -> None:
    rows = [("2020-01-01", "a"), ("2021-12-31", "b")]
    assert load(tmp_path, content(kind, rows), kind) == rows


@dataclass(frozen=True)
class Mistake:
    """A file that cannot be used, and what is said about it."""

    kind: str
    train: bytes
    message: str
    line: int | None = None
    test: bytes | None = None  # where it is that one that is wrong
    keys: dict[str, Any] = field(default_factory=dict)


def mistakes(kind: str) -> Iterator[Mistake]:
    """What may go wrong in every kind of file that has lines."""
    clean = content(kind)
    first = 1 if kind == "jsonl" else 2  # the line of the first row
    next_one = first + len(ROWS)
    no_label = None if kind == "jsonl" else ""
    scores: Rows = [("a", 0.5), ("b", 1.5), ("c", "high"), ("d", 2.5)]
    unknown = content(kind, [*ROWS, ("strange", "ugly")])
    yield Mistake(kind, content(kind, [*ROWS, (None, "good")]), "an empty text", next_one)
    yield Mistake(kind, content(kind, [*ROWS, ("fine", no_label)]), "no label", next_one)
    yield Mistake(kind, clean, "label 'ugly'", next_one, test=unknown)
    yield Mistake(kind, clean + b"ab\0cd\n", "", next_one)
    yield Mistake(kind, clean + b"caf\xe9\n", "UTF-8", next_one)
    yield Mistake(kind, clean.decode().encode("utf-16-le"), "encoding=utf-16-le", 1)
    yield Mistake(kind, b"", "is an empty file")
    yield Mistake(kind, clean, "it has text, label", keys={"text": "body"})
    if kind == "jsonl":
        mixed: Rows = [("a", 1), ("b", 2), ("c", "three")]
        yield Mistake(kind, content(kind, mixed), "where line 1 holds 1", 3)
        yield Mistake(kind, content(kind, scores), "'high'", 3)
        yield Mistake(kind, clean + b'{"text": "cut of', "one JSON object a line", next_one)
        return
    mark = LINED[kind]
    for row in (f'"never{mark}good', f'never{mark}"good'):
        message = f"a quote that opens on line {next_one} is not closed"
        yield Mistake(kind, clean + f"{row}\nx{mark}bad\n".encode(), message, next_one)
    yield Mistake(kind, clean + f'"closed" late{mark}good\n'.encode(), "quote", next_one)
    yield Mistake(kind, clean + f"a{mark}b{mark}c\n".encode(), "found 3", next_one)
    yield Mistake(kind, content(kind, scores), "label 'high'", 4)
    yield Mistake(kind, b"\n" + clean, "names of the columns", 1)
    plain = content(kind, [("fine", "good"), ("dull", "bad")])
    # The header shows the separator; a row that does not fit it is an error.
    yield Mistake(kind, plain.replace(mark.encode(), b";") + b"a;b;c\n", "semicolons", 4)
    other, name = {"csv": ("tsv", "tabs"), "tsv": ("csv", "commas")}[kind]
    wrong = LINED[other].join("abc").encode()
    yield Mistake(kind, content(other) + wrong, name, next_one)


MISTAKES = [mistake for kind in KINDS for mistake in mistakes(kind)]


@pytest.mark.parametrize("made", MISTAKES, ids=[f"{m.kind}-{m.message or 'NUL'}" for m in MISTAKES])
def test_a_mistake_is_one_error_that_names_the_file_and_the_line(
    tmp_path: Path, made: Mistake
) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, made.train, made.kind, made.test, **made.keys)
    message = str(caught.value)
    assert caught.value.code is ExitCode.DATA
    wrong = "train" if made.test is None else "test"
    assert str(tmp_path / f"{wrong}.{made.kind}") in message
    assert made.message in message, message
    assert made.line is None or f"line {made.line}" in message.lower(), message
    assert len(message) < 1000  # no whole file in it


def test_lines_are_counted_over_texts_of_several_lines_and_empty_lines(tmp_path: Path) -> None:
    made = b'text,label\n"one\ntwo\nthree",a\n\n"",b\nfine,a\n,b\n'
    with pytest.raises(UserError, match="an empty text") as caught:
        load(tmp_path, made, "csv")
    assert "line 6, row 2: " in str(caught.value)
    assert "line 8, row 4: " in str(caught.value)


def test_many_empty_cells_are_listed_by_line_and_not_all(tmp_path: Path) -> None:
    rows = [("fine", "a"), *[("", "b")] * 30]
    with pytest.raises(UserError, match="30 of the 31 rows") as caught:
        load(tmp_path, content("csv", rows), "csv")
    assert "and lines 6, 7, 8, " in str(caught.value)
    assert str(caught.value).splitlines()[-2].endswith("22, …")


def test_a_workbook_names_the_rows_of_its_sheet(tmp_path: Path) -> None:
    sheet = [["text", "label"], ["fine", "a"], [], [None, "b"], ["fine too", "b"]]
    (tmp_path / "rows.xlsx").write_bytes(workbook(("other", []), ("rows", sheet)))
    with pytest.raises(UserError) as caught:
        load_corpus(DatasetConfig(train=f"{tmp_path}/rows.xlsx"), seed=0)
    assert "\n  line 4, row 2: " in str(caught.value)


def test_a_file_without_lines_names_its_rows(tmp_path: Path) -> None:
    texts = ["fine", None, "fine too"]
    pq.write_table(pa.table({"text": texts, "label": ["a", "b", "b"]}), tmp_path / "rows.parquet")
    config = DatasetConfig(train=f"{tmp_path}/rows.parquet")
    with pytest.raises(UserError) as caught:
        load_corpus(config, seed=0)
    assert "\n  row 2: " in str(caught.value)
    assert f"1 of the 3 rows of {tmp_path}/rows.parquet (train)" in str(caught.value)
