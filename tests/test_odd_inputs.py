"""Tables as people have them: each is read as it is meant, or refused with one clear error."""

from __future__ import annotations

import copy
import gzip
import json
import math
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.feather as feather
import pyarrow.orc as orc
import pytest
from odd_tables import (
    BITS,
    BY_COLUMN,
    CSV,
    LABELS,
    LISTS,
    NAMED,
    NESTED,
    OF_BITS,
    OF_LISTS,
    RECORDS,
    ROWS,
    SCORES,
    SHEET,
    SPAM,
    SPELT,
    SPLIT,
    TABLE,
    TEXTS,
    Odd,
    V,
    arrow_stream,
    assert_read,
    assert_refused,
    labelled,
    lines,
    load,
    parquet,
    workbook,
    written,
    zipped,
    zstandard,
)

from nlp_transfer.config.choices import OnUnusable
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.corpus import answers_of, load_corpus
from nlp_transfer.data.formats import registry
from nlp_transfer.data.formats.registry import register_reader, unique_names
from nlp_transfer.data.sources import read_files
from nlp_transfer.errors import UserError

READ = [
    # encodings
    Odd("utf16.csv", CSV.encode("utf-16"), rows=LABELS),
    Odd("utf16be.csv", b"\xfe\xff" + CSV.encode("utf-16-be"), rows=LABELS),
    Odd("utf32.csv", CSV.encode("utf-32"), rows=LABELS),
    Odd("bom.jsonl", b"\xef\xbb\xbf" + lines(RECORDS), rows=LABELS),
    Odd("utf16.jsonl", lines(RECORDS).decode().encode("utf-16"), rows=LABELS),
    Odd("cp1252.csv", SPAM.encode("cp1252"), {**V, "encoding": "cp1252"}, LABELS),
    Odd("mark_decides.csv", CSV.encode("utf-8-sig"), {"encoding": "cp1252"}, LABELS),
    Odd("no_mark.csv", CSV.encode("utf-16-le"), {"encoding": "utf-16-le"}, LABELS),
    # separators
    Odd("semicolons.csv", CSV.replace(",", ";").encode(), rows=LABELS, says="semicolons"),
    Odd("tabs.csv", CSV.replace(",", "\t").encode(), rows=LABELS, says="tabs"),
    Odd("commas.tsv", CSV.encode(), rows=LABELS, says="commas"),
    Odd("bars.csv", CSV.replace(",", "|").encode(), rows=LABELS, says="vertical bars"),
    Odd("named.csv", CSV.replace(",", "^").encode(), {"separator": "^"}, LABELS),
    Odd("tab.csv", CSV.replace(",", "\t").encode(), {"separator": "\\t"}, LABELS),
    Odd("utf16tabs.csv", CSV.replace(",", "\t").encode("utf-16"), rows=LABELS),
    # compressed
    Odd("rows.csv.gz", gzip.compress(CSV.encode()), rows=LABELS),
    Odd("rows.jsonl.gz", gzip.compress(lines(RECORDS)), rows=LABELS),
    Odd("rows.csv.zst", zstandard(CSV.encode()), rows=LABELS),
    Odd("rows.zip", zipped(rows_csv=CSV), rows=LABELS),
    Odd("rows.parquet.gz", gzip.compress(parquet(text=TEXTS, label=LABELS)), rows=LABELS),
    # other formats
    Odd("rows.feather", written(lambda s: feather.write_feather(TABLE, s)), rows=LABELS),
    Odd("rows.arrow", arrow_stream(TABLE), rows=LABELS),
    Odd("rows.orc", written(lambda s: orc.write_table(TABLE, s)), rows=LABELS),
    Odd("rows.xlsx", workbook(("one", SHEET)), rows=LABELS),
    Odd("empty_sheets.xlsx", workbook(("empty", []), ("rows", SHEET)), rows=LABELS),
    Odd("rows.ndjson", lines(RECORDS), rows=LABELS),
    Odd("array.json", json.dumps(RECORDS).encode(), rows=LABELS),
    Odd("indented.json", json.dumps(RECORDS, indent=2).encode(), rows=LABELS),
    Odd("array.jsonl", json.dumps(RECORDS).encode(), rows=LABELS),
    Odd("by_column.json", json.dumps(BY_COLUMN).encode(), rows=LABELS),
    Odd("split.json", json.dumps(SPLIT).encode(), rows=LABELS),
    Odd("lists.json", json.dumps({"text": TEXTS, "label": LABELS}).encode(), rows=LABELS),
    # columns
    Odd("spam.csv", SPAM.encode(), V, LABELS),
    Odd("spaces.csv", CSV.replace("text,label", " text, label").encode(), rows=LABELS),
    Odd(
        "numbered.csv",
        CSV.replace("text,label", "0,1").encode(),
        {"text": "0", "label": "1"},
        LABELS,
    ),
    Odd("doubled.csv", CSV.replace("\n", ",x,y\n").replace("x,y", "a,a", 1).encode(), rows=LABELS),
    Odd(
        "index.csv",
        "".join(f"{i},{line}\n" for i, line in enumerate(CSV.splitlines()))
        .replace("0,", ",", 1)
        .encode(),
        rows=LABELS,
    ),
    Odd(
        "nested.jsonl", lines(NESTED), {"text": "payload.body", "label": "payload.meta.tag"}, LABELS
    ),
    Odd(
        "nested.parquet",
        parquet(p=[{"t": t} for t in TEXTS], label=LABELS),
        {"text": "p.t"},
        LABELS,
    ),
    Odd("dotted.jsonl", lines([{"a.b": t, "label": y} for t, y in ROWS]), {"text": "a.b"}, LABELS),
    Odd(
        "other_types.jsonl",
        lines([{**r, "id": i if i else "x"} for i, r in enumerate(RECORDS)]),
        rows=LABELS,
    ),
    # labels
    Odd("bits.jsonl", labelled(BITS), NAMED, OF_BITS, "0 or 1 for each of 3 labels"),
    Odd(
        "unnamed_bits.jsonl",
        labelled(BITS),
        rows=["1, 2", "0", "0, 1", "2", "none", "0, 2"],
        says="label_names",
    ),
    Odd("float_bits.jsonl", labelled([[float(b) for b in row] for row in BITS]), NAMED, OF_BITS),
    Odd("bool_bits.jsonl", labelled([[bool(b) for b in row] for row in BITS]), NAMED, OF_BITS),
    Odd("bits.parquet", parquet(text=TEXTS, label=BITS), NAMED, OF_BITS),
    Odd("text_bits.jsonl", labelled([str(row) for row in BITS]), NAMED, OF_BITS),
    Odd("numpy_bits.jsonl", labelled([str(row).replace(",", "") for row in BITS]), NAMED, OF_BITS),
    Odd(
        "text_lists.jsonl",
        labelled([str(row) for row in LISTS]),
        rows=OF_LISTS,
        says="written as text",
    ),
    Odd("json_lists.jsonl", labelled([json.dumps(row) for row in LISTS]), rows=OF_LISTS),
    Odd("tuples.jsonl", labelled([str(tuple(row)) for row in LISTS]), rows=OF_LISTS),
    Odd(
        "kept.jsonl",
        labelled(["['a']", "['b']"] * 3),
        {"problem": "single_label"},
        ["['a']", "['b']"] * 3,
    ),
    Odd(
        "commas.jsonl",
        labelled(SCORES),
        {"problem": "regression"},
        ["0.5", "1.25", "2", "0.1", "3", "1.5"],
    ),
    Odd(
        "decimal.parquet",
        parquet(text=TEXTS, label=[Decimal(f"{i}.5") for i in range(6)]),
        rows=[f"{i}.5" for i in range(6)],
    ),
    Odd(
        "clean.jsonl", labelled(SPELT), {"clean_labels": True}, ["good"] * 3 + ["bad"] * 3, "merges"
    ),
    Odd(
        "unicode.jsonl",
        labelled(["caf\u00e9", "cafe\u0301", "caf\u00e9", "b", "b\u200b", "b"]),
        {"clean_labels": True},
        ["caf\u00e9"] * 3 + ["b"] * 3,
    ),
    # rows that cannot be used
    Odd(
        "empty.jsonl",
        labelled([*LABELS, "bad"], [*TEXTS, "\u200b\ufeff"]),
        {"on_empty": OnUnusable.drop},
        LABELS,
        "on_empty=drop",
    ),
    Odd(
        "unlabelled.jsonl",
        labelled([*LABELS, None], [*TEXTS, "x"]),
        {"on_unlabeled": OnUnusable.drop},
        LABELS,
        "on_unlabeled=drop",
    ),
    Odd(
        "NaN.parquet",
        parquet(text=[*TEXTS, "x"], label=[*[0.5, 1.5, 2.0] * 2, float("nan")]),
        {"on_unlabeled": OnUnusable.drop},
        ["0.5", "1.5", "2"] * 2,
    ),
    # names
    Odd("größe.csv", CSV.encode(), rows=LABELS),
    Odd("my[1].csv", CSV.encode(), rows=LABELS),
    Odd("a#b=c~d (2).csv", CSV.encode(), rows=LABELS),
    Odd("what?.csv", CSV.encode(), rows=LABELS),
]

REFUSED = [
    Odd("cp1252.csv", SPAM.encode("cp1252"), V, says="line 2: not UTF-8"),
    Odd("cp1252.csv", SPAM.encode("cp1252"), V, says="dataset.encoding=cp1252"),
    Odd("wrong.csv", SPAM.encode("cp1252"), {**V, "encoding": "utf-16"}, says="is not utf-16"),
    Odd("unknown.csv", CSV.encode(), {"encoding": "klingon"}, says="klingon"),
    Odd("ragged.csv", CSV.replace(",", ";").encode() + b"a;b;c\n", says="dataset.separator"),
    Odd("cut.csv.gz", gzip.compress(CSV.encode())[:-9], says="cannot be"),
    Odd("no.csv.gz", CSV.encode(), says="cannot be"),
    Odd("two.zip", zipped(a_csv=CSV, b_csv=CSV), says="found 2 (a.csv, b.csv)"),
    Odd("none.zip", zipped(), says="found 0"),
    Odd("strange.gz", gzip.compress(CSV.encode()), says="not one of the known kinds"),
    Odd("two.xlsx", workbook(("a", SHEET), ("b", SHEET)), says="the sheets 'a', 'b'"),
    Odd("no.xlsx", CSV.encode(), says="not a workbook"),
    Odd(
        "dates.xlsx",
        workbook(("a", [["text", "label"], [date(2024, 1, 2), "a"], [date(2024, 1, 3), "b"]])),
        says="a text that is a datetime",
    ),
    Odd("no.parquet", CSV.encode(), says="cannot be read"),
    Odd("no.feather", CSV.encode(), says="cannot be read"),
    Odd("no.orc", CSV.encode(), says="cannot be read"),
    Odd("numbers.json", b"[1, 2, 3]", says="an array of objects"),
    Odd("cut.json", json.dumps(RECORDS, indent=2).encode()[:-9], says="line "),
    Odd(
        "headless.csv",
        b"what a very fine film it was,good\nI liked it,bad\n",
        says="put a line with names before it",
    ),
    Odd(
        "doubled.csv",
        CSV.replace("text,label", "text,text").encode(),
        says="It has 'text' more than once",
    ),
    Odd("case.csv", CSV.replace("text", "Text").encode(), says="Did you mean 'Text'?"),
    Odd("typed.csv", CSV.replace("text", "txt").encode(), says="Did you mean 'txt'?"),
    Odd(
        "other.csv", CSV.replace("text", "Ticket").encode(), says="Set dataset.text to one of them."
    ),
    Odd(
        "nested.jsonl",
        lines(NESTED),
        {"text": "payload.bodi", "label": "payload.meta.tag"},
        says="'payload.bodi' is not a column",
    ),
    Odd("both.csv", b"a,b\n1,2\n", says="dataset.label='label' is not a column"),
    # cells that are no texts
    Odd("tokens.jsonl", labelled(LABELS, [t.split() for t in TEXTS]), says="a text that is a list"),
    Odd(
        "objects.jsonl",
        labelled(LABELS, [{"t": t} for t in TEXTS]),
        says="a text that is an object",
    ),
    Odd("numbers.jsonl", labelled(LABELS, list(range(6))), says="a text that is a number"),
    Odd("bools.jsonl", labelled(LABELS, [True, False] * 3), says="a text that is true or false"),
    Odd(
        "bytes.parquet",
        parquet(text=[t.encode() for t in TEXTS], label=LABELS),
        says="a text that is bytes",
    ),
    Odd(
        "dates.parquet",
        parquet(text=[date(2024, 1, d) for d in range(1, 7)], label=LABELS),
        says="a text that is a date",
    ),
    Odd("label.jsonl", labelled([{"name": y} for y in LABELS]), says="a label that is an object"),
    Odd(
        "label.parquet",
        parquet(text=TEXTS, label=[y.encode() for y in LABELS]),
        says="a label that is bytes",
    ),
    Odd(
        "label_dates.parquet",
        parquet(text=TEXTS, label=[date(2024, 1, d) for d in range(1, 7)]),
        says="a label that is a date",
    ),
    Odd("nested_lists.jsonl", labelled([[["a"]], [["b"]]] * 3), says="a label that is a list"),
    Odd("endless.jsonl", labelled([[0, 1], [1, 0]] * 2 + [[math.inf, 0]] * 2), says="neither a 0"),
    Odd("ragged_bits.jsonl", labelled([[0, 1, 1], [1, 0]] * 3), says="lists of 0 and 1"),
    Odd("numpy_texts.jsonl", labelled(["['a' 'b']", "['a']"] * 3), says="cannot be read as one"),
    Odd("commas.jsonl", labelled(SCORES), says="a decimal comma ('0,5')"),
    Odd(
        "thousands.jsonl",
        labelled(["1,234", "2,345", "3,456"] * 2),
        {"problem": "regression"},
        says="thousands",
    ),
    Odd("blank.jsonl", labelled(LABELS, [*TEXTS[:5], "\u200b \ufeff"]), says="an empty text"),
]


@pytest.mark.parametrize("odd", READ, ids=lambda odd: odd.name)
def test_an_odd_table_is_read_as_it_is_meant(odd: Odd, tmp_path: Path) -> None:
    assert_read(odd, tmp_path)


@pytest.mark.parametrize("odd", REFUSED, ids=lambda odd: f"{odd.name}-{odd.says[:12]}")
def test_what_cannot_be_meant_is_one_error(odd: Odd, tmp_path: Path) -> None:
    assert_refused(odd, tmp_path)


def test_everything_that_is_wrong_with_the_rows_stands_in_one_message(tmp_path: Path) -> None:
    train = labelled([*LABELS, "bad", None], [*TEXTS, " ", "no label"])
    test = labelled(["good", "ugly", "bad"], ["fine", "strange", None])
    for name, content in (("train", train), ("test", test)):
        (tmp_path / f"{name}.jsonl").write_bytes(content)
    config = DatasetConfig(train=f"{tmp_path}/train.jsonl", test=f"{tmp_path}/test.jsonl")
    with pytest.raises(UserError) as caught:
        load_corpus(config, 0)
    message = str(caught.value)
    parts = ("1 of the 8 rows", "an empty text", "no label", "1 of the 3 rows", "label 'ugly'")
    for part in (*parts, "line 7, row 7", "line 8, row 8", "dataset.on_empty=drop"):
        assert part in message, message


def test_a_sheet_is_named_behind_a_hash(tmp_path: Path) -> None:
    other = [["text", "label"], ["x", "y"]]
    (tmp_path / "two.xlsx").write_bytes(workbook(("a", other), ("my sheet", SHEET)))
    (source,) = read_files(f"{tmp_path}/two.xlsx#my sheet", "dataset.train")
    assert list(source.cells("label")) == LABELS
    with pytest.raises(UserError, match="'a', 'my sheet'"):
        read_files(f"{tmp_path}/two.xlsx#b", "dataset.train")


def test_the_home_folder_and_urls_with_a_query(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "rows.csv").write_text(CSV, encoding="utf-8")
    (source,) = read_files("~/rows.csv", "dataset.train")
    assert list(source.cells("label")) == LABELS
    (tmp_path / "rows.csv?download=1").write_text(CSV, encoding="utf-8")
    (source,) = read_files(f"file://{tmp_path}/rows.csv?download=1", "dataset.train")
    assert list(source.cells("label")) == LABELS
    assert source.name.endswith("/rows.csv")


def test_a_reader_from_outside_is_used_by_its_suffix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = copy.copy(registry.READERS.complete())
    monkeypatch.setattr(registry, "READERS", readers)

    @register_reader("lines of =", ".eq")
    def read_equals(file: Any, name: str, options: Any) -> Any:
        del name, options
        rows = (line.decode().strip().split("=") for line in file)
        yield [{"label": label, "text": text} for label, text in rows]

    content = "".join(f"{label}={text}\n" for text, label in ROWS).encode()
    assert answers_of(load(Odd("rows.eq", content), tmp_path), "train") == LABELS
    packed = gzip.compress(content)
    assert answers_of(load(Odd("rows.eq.gz", packed), tmp_path), "train") == LABELS


def test_a_table_of_very_many_columns_has_a_name_for_each() -> None:
    names = unique_names([*map(str, range(100_000)), "b", "b"])
    assert len(set(names)) == len(names) == 100_002
    assert names[-2:] == ["b (column 100001)", "b (column 100002)"]
