"""Columns of every type and several files at once, as people have them."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from odd_tables import (
    BITS,
    CSV,
    LABELS,
    LISTS,
    OF_BITS,
    OF_LISTS,
    ROWS,
    TEXTS,
    Odd,
    arrow_stream,
    assert_read,
    assert_refused,
    labelled,
    lines,
    parquet,
    zipped,
)

from nlp_transfer import compose
from nlp_transfer.config.choices import OnUnusable
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.corpus import Corpus, answers_of, load_corpus
from nlp_transfer.errors import UserError
from nlp_transfer.quality.spelling import spelling

LARGE = "w" * 1_000_000  # signs of one word
IDS = [Decimal("12345678901234567890"), Decimal("12345678901234567891")]
FINE_SHARES = [Decimal("12345678901234567.25"), Decimal("12345678901234567.50")]
TWO = ["a", "b"] * 3
TWO_OBJECTS = [{"kind": {"name": "a"}}, {"kind": {"name": "b"}}] * 3
UNUSED = pa.DictionaryArray.from_arrays(
    pa.array([1, 1, 1, 0, 0, 0], pa.int8()), ["bad", "good", "never"]
)
NUMBERED = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 3, pa.int8()), [10, 20])
MISSING = pa.DictionaryArray.from_arrays(pa.array([0, 0, 0, 1, 1, 1], pa.int8()), ["good", None])
DROP = {"on_unlabeled": OnUnusable.drop, "on_empty": OnUnusable.drop}


def csv(labels: list[str], header: str = "text,label", texts: list[str] | None = None) -> bytes:
    rows = zip(texts or TEXTS, labels, strict=True)
    return (header + "\n" + "".join(f"{text},{label}\n" for text, label in rows)).encode()


def stream(**columns: Any) -> bytes:
    return arrow_stream(pa.table(columns))


READ = [
    # categories
    Odd(
        "text.parquet", parquet(text=pa.array(TEXTS).dictionary_encode(), label=LABELS), {}, LABELS
    ),
    Odd("unused.parquet", parquet(text=TEXTS, label=UNUSED), {}, LABELS),
    Odd("numbered.parquet", parquet(text=TEXTS, label=NUMBERED), {}, ["10", "20"] * 3),
    # numbers
    Odd("zeros.csv", csv(["007", "008", "009"] * 2), {}, ["007", "008", "009"] * 2),
    Odd("integers.parquet", parquet(text=TEXTS, label=IDS * 3), {}, list(map(str, IDS * 3))),
    Odd(
        "digits.parquet",
        parquet(text=TEXTS, label=FINE_SHARES * 3),
        {"problem": "single_label"},
        list(map(str, FINE_SHARES * 3)),
    ),
    Odd(
        "unsigned.parquet",
        parquet(text=TEXTS, label=pa.array([2**64 - 1, 1] * 3, pa.uint64())),
        {},
        [str(2**64 - 1), "1"] * 3,
    ),
    Odd(
        "half.parquet",
        parquet(text=TEXTS, label=pa.array([0.5, 1.5] * 3, pa.float16())),
        {},
        ["0.5", "1.5"] * 3,
    ),
    Odd(
        "booleans.jsonl",
        labelled([True, False] * 3 + [None], [*TEXTS, "x"]),
        DROP,
        ["True", "False"] * 3,
    ),
    Odd("dates.csv", csv(["2024-01-01", "2024-01-02"] * 3), {}, ["2024-01-01", "2024-01-02"] * 3),
    # lists
    Odd(
        "large.arrow",
        stream(text=TEXTS, label=pa.array(LISTS, pa.large_list(pa.string()))),
        {},
        OF_LISTS,
    ),
    Odd(
        "fixed.arrow",
        stream(text=TEXTS, label=pa.array(BITS, pa.list_(pa.int8(), 3))),
        {"label_names": {"0": "x", "1": "y", "2": "z"}},
        OF_BITS,
    ),
    Odd(
        "objects.parquet", parquet(text=TEXTS, label=TWO_OBJECTS), {"label": "label.kind.name"}, TWO
    ),
    # long and of several lines
    Odd("long_label.csv", csv([y * 20_000 for y in LABELS]), {}, [y * 20_000 for y in LABELS]),
    Odd("two_lines.csv", csv([f'"{y}\n{y}"' for y in LABELS]), {}, [f"{y}\n{y}" for y in LABELS]),
    Odd("tabs.csv", csv([f"{y}\t{y}" for y in LABELS]), {}, [f"{y}\t{y}" for y in LABELS]),
    Odd("large_cell.csv", CSV.encode() + f"{LARGE},good\n".encode(), {}, [*LABELS, "good"]),
    Odd(
        "commas.csv",
        csv(LABELS, "text;label").replace(b",", b";") + b"x, y;good\n",
        {},
        [*LABELS, "good"],
        "semicolons",
    ),
    # names of columns
    Odd("wide.csv", csv([y + "," * 2_000 for y in LABELS], "text,label" + "," * 2_000), {}, LABELS),
    Odd("quote.csv", csv(LABELS, 'text,"la""bel"'), {"label": 'la"bel'}, LABELS),
    Odd("two_lines_name.csv", csv(LABELS, 'text,"la\nbel"'), {"label": "la\nbel"}, LABELS),
    Odd("no_name.csv", csv(LABELS, "text,"), {"label": ""}, LABELS),
    Odd(
        "ids.csv",
        csv([f"{y},7" for y in LABELS], "text,label,id"),
        {"id": "id"},
        LABELS,
        "names no single row: 1 values stand in several rows, such as '7'",
    ),
]

REFUSED = [
    Odd("missing.arrow", stream(text=TEXTS, label=MISSING), says="3 of the 6 rows"),
    Odd("objects.parquet", parquet(text=TEXTS, label=TWO_OBJECTS), says="as in label.kind"),
    Odd(
        "inner.parquet",
        parquet(text=TEXTS, label=TWO_OBJECTS),
        {"label": "label.kind"},
        says="label.kind.name",
    ),
    Odd(
        "lists.parquet",
        parquet(text=TEXTS, label=[[{"n": y}] for y in LABELS]),
        says="a label that is a list",
    ),
    Odd(
        "gaps.parquet", parquet(text=TEXTS, label=[["a", None], ["b"]] * 3), says="among its labels"
    ),
    Odd("times.parquet", parquet(text=TEXTS, label=[time(1), time(2)] * 3), says="that is a time"),
    Odd(
        "spans.parquet",
        parquet(text=TEXTS, label=[timedelta(1), timedelta(2)] * 3),
        says="a label that is a timedelta",
    ),
    Odd(
        "moments.parquet",
        parquet(text=TEXTS, label=[datetime(2024, 1, d) for d in range(1, 7)]),
        says="a label that is a datetime",
    ),
    Odd(
        "uuids.parquet",
        parquet(text=TEXTS, label=pa.array([b"a" * 16, b"b" * 16] * 3, pa.binary(16))),
        says="a label that is bytes",
    ),
    Odd("floats.csv", csv(["1.0", "0.0", "1", "0", "0.0", "1.0"]), says="classes or scores"),
    Odd(
        "whole.parquet",
        parquet(text=TEXTS, label=[Decimal("1.00"), Decimal("2.00")] * 3),
        says="classes or scores",
    ),
    Odd(
        "infinite.parquet",
        parquet(text=TEXTS, label=[float("inf"), 1.0, 2.5] * 2),
        says="not a number",
    ),
    Odd("booleans.jsonl", labelled([True, "false"] * 3), says="line 2: 'label' holds 'false'"),
    Odd("ones.jsonl", labelled([True, 0] * 3), says="line 2: 'label' holds 0"),
    Odd("nothing.parquet", parquet(text=pa.nulls(6), label=LABELS), says="an empty text"),
    Odd("header.csv", b"text,label\n", says="has no rows"),
    Odd(
        "header.parquet",
        parquet(text=pa.array([], pa.string()), label=pa.array([], pa.string())),
        says="has no rows",
    ),
    Odd("header.json", b"[]", says="expected a JSON object a line"),
    Odd(
        "one_column.csv", b"text\nhello, world\nfine, thanks\n", says="with commas in it stands in"
    ),
    Odd(
        "packed_twice.zip",
        zipped(rows_csv=CSV).replace(b"text,label", b"\x1f\x8b\x08\0\0\0\0\0\0\3"),
        says="cannot be read: Bad CRC",
    ),
    Odd(
        "doubled.jsonl",
        lines([{"text": "a", "label": "x"}]) + b'{"text": "b", "text": "c"}\n',
        says="line 2: an object has the key 'text' more than once",
    ),
    # one column for two things
    Odd("same.csv", CSV.encode(), {"label": "text"}, says="name the same column 'text'"),
    Odd("pair.csv", CSV.encode(), {"text_pair": "text"}, says="name the same column 'text'"),
    Odd("leak.csv", CSV.encode(), {"text_pair": "label"}, says="name the same column 'label'"),
    Odd("group.csv", CSV.encode(), {"group": "label"}, says="would be in one split"),
    Odd("twice.csv", csv(["1"] * 6), {"label": ["label", "label"]}, says="'label' twice"),
]


@pytest.mark.parametrize("odd", READ, ids=lambda odd: odd.name)
def test_an_odd_column_is_read_as_it_is_meant(odd: Odd, tmp_path: Path) -> None:
    assert_read(odd, tmp_path)


@pytest.mark.parametrize("odd", REFUSED, ids=lambda odd: f"{odd.name}-{odd.says[:12]}")
def test_a_column_that_cannot_be_meant_is_one_error(odd: Odd, tmp_path: Path) -> None:
    assert_refused(odd, tmp_path)


OTHER = CSV.replace("film", "play")
FLOATS, INTEGERS = csv(["1.0", "0.0"] * 3), csv(["1", "0"] * 3)
FILES: list[tuple[dict[str, bytes], str]] = [
    ({"a.csv": CSV.encode(), "b.csv": OTHER.encode("utf-8-sig")}, ""),
    ({"a.csv": CSV.encode(), "b.csv": OTHER.encode("utf-16")}, ""),
    ({"a.csv": CSV.encode(), "b.csv": OTHER.replace(",", ";").encode()}, ""),
    ({"a.csv": CSV.encode(), "b.parquet": parquet(text=TEXTS, label=UNUSED)}, ""),
    ({"a.csv": CSV.encode(), "b.csv": b"text,label\n"}, "b.csv) has no rows"),
    ({"a.csv": FLOATS, "b.csv": INTEGERS}, "are they classes or scores?"),
    (
        {"a.csv": csv(["True", "False"] * 3), "b.parquet": parquet(text=TEXTS, label=[True] * 6)},
        "do not fit together",
    ),
    (
        {"a.csv": INTEGERS, "b.parquet": parquet(text=TEXTS, label=[True, False] * 3)},
        "do not fit together",
    ),
]


@pytest.mark.parametrize(("files", "says"), FILES, ids=range(len(FILES)))
def test_files_of_a_list_are_read_each_in_its_way(
    files: dict[str, bytes], says: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    names = [str(tmp_path / name) for name in files]
    config = DatasetConfig(train=names, validation=names)
    if says:
        with pytest.raises(UserError, match=says.replace("(", r"\(").replace(")", r"\)")):
            load_corpus(config, 0)
    else:
        assert answers_of(load_corpus(config, 0), "train") == LABELS * 2


def test_a_file_that_is_named_twice_is_said(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(CSV, encoding="utf-8")
    names = [str(tmp_path / "rows.csv"), str(tmp_path / "*.csv")]
    corpus = load_corpus(DatasetConfig(train=names, validation=names[0]), 0)
    assert answers_of(corpus, "train") == LABELS * 2
    assert f"dataset.train names {names[0]} 2 times" in "\n".join(corpus.notes)


STRINGS = pd.Series(TEXTS, dtype="string")
GONE = pd.Series([*TEXTS[:5], pd.NA], dtype="string")
NULLABLE = pd.Series([1, 0, 1, 0, pd.NA, 1], dtype="Int64")
FRAMES = {
    "polars categories": (
        pl.DataFrame(
            {"text": TEXTS, "label": LABELS}, schema={"text": pl.String, "label": pl.Categorical}
        ),
        LABELS,
    ),
    "polars enum": (
        pl.DataFrame(
            {"text": TEXTS, "label": LABELS},
            schema={"text": pl.String, "label": pl.Enum(["good", "bad", "never"])},
        ),
        LABELS,
    ),
    "pandas categories": (
        pd.DataFrame({"text": STRINGS, "label": pd.Categorical(LABELS, ["bad", "good", "never"])}),
        LABELS,
    ),
    "pandas of Arrow": (
        pd.DataFrame({"text": pd.Series(TEXTS, dtype="string[pyarrow]"), "label": LABELS}),
        LABELS,
    ),
    "a missing text": (pd.DataFrame({"text": GONE, "label": LABELS}), LABELS[:5]),
    "nullable integers": (
        pd.DataFrame({"text": TEXTS, "label": NULLABLE}),
        ["1", "0", "1", "0", "1"],
    ),
    "nullable booleans": (
        pd.DataFrame({"text": TEXTS, "label": NULLABLE.astype("boolean")}),
        ["True", "False", "True", "False", "True"],
    ),
    "mixed objects": (
        pd.DataFrame({"text": TEXTS, "label": [True, "False", False, True, "x", 1]}),
        "The column 'label'",
    ),
    "periods": (
        pd.DataFrame({"text": TEXTS, "label": pd.period_range("2024-01", periods=6, freq="M")}),
        "a label that is a list",
    ),
    "intervals": (
        pd.DataFrame({"text": TEXTS, "label": pd.cut(range(6), 2)}),
        "a label that is a list",
    ),
    "several levels": (
        pd.DataFrame(ROWS, columns=pd.MultiIndex.from_product([["a"], ["text", "label"]])),
        "is not a column",
    ),
    "NumPy floats": (
        {"text": np.array(TEXTS), "label": np.array([1.0, 0.0] * 3)},
        "classes or scores",
    ),
    "NumPy bytes": (
        {"text": np.array(TEXTS, dtype="S20"), "label": LABELS},
        "a text that is bytes",
    ),
}


@pytest.mark.parametrize("name", FRAMES)
def test_an_odd_frame_is_read_or_refused(name: str) -> None:
    frame, outcome = FRAMES[name]

    def read() -> Corpus:
        config = DatasetConfig(name="python:data", train="train", validation="validation", **DROP)
        return load_corpus(config, 0, tables={"train": frame, "validation": frame})

    if isinstance(outcome, str):
        with pytest.raises(UserError, match=outcome):
            read()
    else:
        assert answers_of(read(), "train") == outcome


@pytest.mark.parametrize(("label", "other"), [("+1", "1"), ("\u22121", "-1")])
def test_one_number_in_two_forms_is_named(label: str, other: str) -> None:
    (finding,) = spelling({label: 20, other: 20, "5": 20})
    assert f"{label!r} (20 rows)" in finding.sentence
    assert f"{other!r} (20 rows)" in finding.sentence


@pytest.mark.parametrize(
    ("column", "typed"),
    [("1e5", "100000.0"), ("true", "True"), ("1_000", "1000"), ("TRUE", "True")],
)
def test_a_column_that_is_read_as_a_value_is_named_with_its_quotes(
    column: str, typed: str, tmp_path: Path
) -> None:
    file = tmp_path / "train.csv"
    file.write_text(CSV.replace("text", column, 1))
    words = ("+task=classify", f"dataset.train={file}")
    with pytest.raises(UserError, match=f"{column} is read as {typed}: type .dataset.text='"):
        load_corpus(compose(*words, f"dataset.text={column}").dataset, seed=0)
    corpus = load_corpus(compose(*words, f"dataset.text='{column}'").dataset, seed=0)
    assert sum(map(len, corpus.splits.values())) == len(TEXTS)
    for key in ("text", "label"):
        with pytest.raises(UserError, match=f"Type .dataset.{key}='null'. for a column named"):
            compose(*words, f"dataset.{key}=null")
