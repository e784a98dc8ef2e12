"""Files as programs write them: endings, marks, archives, workbooks, JSON shapes, Arrow types."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import socket
import unicodedata
import uuid
import zipfile
from datetime import datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from odd_tables import (
    BITS,
    CSV,
    LABELS,
    LISTS,
    OF_BITS,
    OF_LISTS,
    RECORDS,
    ROWS,
    SHEET,
    TEXTS,
    Odd,
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
)

from nlp_transfer.config.choices import Quoting
from nlp_transfer.data.formats.read import lines_of
from nlp_transfer.data.formats.registry import ReadOptions
from nlp_transfer.data.sources import read_files
from nlp_transfer.errors import UserError

ACCENTS = CSV.replace("good", "très bien").replace("bad", "übel")
QUOTED = "text,label\n" + "".join(f'"{text}","{label}"\n' for text, label in ROWS)

NOISE = np.random.default_rng(1).integers(1, 256, 5000, dtype=np.uint8).tobytes()


def as_csv(rows: list[tuple[str, str]], separator: str = ",") -> bytes:
    """Without any quoting."""
    return "".join(f"{separator.join(row)}\n" for row in (("text", "label"), *rows)).encode()


def with_a_bad_name(archive: bytes) -> bytes:
    """A zip archive that says UTF-8 of a name that is not, before the content alone."""
    content = bytearray(archive)
    content[7] |= 8
    content[30] = 255
    return bytes(content)


def arrow(**columns: Any) -> bytes:
    return arrow_stream(pa.table(columns))


def archive(members: dict[str, str]) -> bytes:
    def write(stream: Any) -> None:
        with zipfile.ZipFile(stream, "w") as file:
            for name, content in members.items():
                file.writestr(name, content)

    return written(write)


BOOLS = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0] * 3, pa.int8()))
TENSORS = pa.FixedShapeTensorArray.from_numpy_ndarray(np.array(BITS))
RUNS = pa.RunEndEncodedArray.from_arrays([3, 6], ["good", "bad"])
MAPS = pa.array([[("a", text)] for text in TEXTS], pa.map_(pa.string(), pa.string()))
UNIONS = pa.UnionArray.from_sparse(
    pa.array([0, 1] * 3, pa.int8()), [pa.array(TEXTS), pa.array(range(6))]
)
NOT_UTF8 = pa.array([b"caf\xe9", *map(str.encode, TEXTS[1:])]).view(pa.string())
PERIODS = pa.array(pd.period_range("2024-01", periods=6, freq="M"))
MOMENTS = pa.array([pa.MonthDayNano([1, 2, 3])] * 6)
UUIDS = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16)] * 6, pa.binary(16)))
STRANGE = {
    "period": PERIODS,
    "interval": pa.array(pd.interval_range(0, 6)),
    "span": MOMENTS,
    "inside": pa.StructArray.from_arrays([UUIDS, MOMENTS], ["a", "b"]),
}
ORDERED = pa.DictionaryArray.from_arrays(
    pa.array([0, 2, 1] * 2), pa.array(["low", "mid", "high"]), ordered=True
)
INDEXED = {f"id{i}": record for i, record in enumerate(RECORDS)}
BY_NAME = {
    name: {f"id{i}": record[name] for i, record in enumerate(RECORDS)} for name in ("text", "label")
}

READ = [
    # ends of lines, marks, lines that are no rows
    Odd("windows.csv", CSV.replace("\n", "\r\n").encode(), rows=LABELS),
    Odd("old_mac.csv", CSV.replace("\n", "\r").encode(), rows=LABELS),
    Odd("mixed_ends.csv", CSV.replace("\n", "\r\n", 3).encode(), rows=LABELS),
    Odd("no_end.csv", CSV.encode()[:-1], rows=LABELS),
    Odd("blank_lines.csv", CSV.replace("\n", "\n\n").encode(), rows=LABELS),
    Odd("spaces_at_end.csv", (CSV + "   \n").encode(), rows=LABELS),
    Odd("end_of_dos.csv", (CSV + "\x1a").encode(), rows=LABELS),
    Odd("windows.jsonl", lines(RECORDS).replace(b"\n", b"\r\n"), rows=LABELS),
    Odd("two_marks.csv", b"\xef\xbb\xbf" * 2 + CSV.encode(), rows=LABELS),
    Odd("separator_line.csv", b"sep=;\r\n" + CSV.replace(",", ";").encode(), rows=LABELS),
    Odd("shift_jis.csv", CSV.encode("shift_jis"), {"encoding": "shift_jis"}, LABELS),
    # separators and quotes
    Odd(
        "comma_in_a_name.csv",
        CSV.replace(",", ";").replace("label\n", "label;a,b\n").replace("d\n", "d;1,2\n").encode(),
        rows=LABELS,
        says="semicolons",
    ),
    Odd(
        "spaces_before_quotes.csv",
        QUOTED.replace('","', '", "').encode(),
        rows=LABELS,
        says="spaces before the quotes",
    ),
    Odd("doubled_quotes.csv", QUOTED.encode(), rows=LABELS),
    # archives
    Odd("rows.csv.bz2", bz2.compress(CSV.encode()), rows=LABELS),
    Odd("rows.jsonl.xz", lzma.compress(lines(RECORDS)), rows=LABELS),
    Odd(
        "members.csv.gz",
        gzip.compress(CSV[:40].encode()) + gzip.compress(CSV[40:].encode()),
        rows=LABELS,
    ),
    Odd(
        "mac.zip",
        archive({"d/r.csv": CSV, "d/.DS_Store": "x", "__MACOSX/d/._r.csv": "x"}),
        rows=LABELS,
    ),
    # workbooks
    Odd("macros.xlsm", workbook(("a", SHEET)), rows=LABELS),
    Odd("column_a_is_empty.xlsx", workbook(("a", [[None, *row] for row in SHEET])), rows=LABELS),
    Odd(
        "numbers.xlsx",
        workbook(("a", [["text", "label"], *[[t, i % 2] for i, t in enumerate(TEXTS)]])),
        rows=["0", "1"] * 3,
    ),
    # JSON
    Odd("inside.json", json.dumps({"version": 1, "data": RECORDS}).encode(), rows=LABELS),
    Odd("index.json", json.dumps(INDEXED).encode(), rows=LABELS),
    Odd("columns.json", json.dumps(BY_NAME).encode(), rows=LABELS),
    Odd(
        "array_of_lines.json",
        b"[\n" + b",\n".join(lines(RECORDS).splitlines()) + b"\n]",
        rows=LABELS,
    ),
    Odd("nan.jsonl", lines(RECORDS).replace(b"}", b', "x": NaN}'), rows=LABELS),
    Odd(
        "large_numbers.jsonl",
        lines([{**r, "n": 10 ** (9 * i)} for i, r in enumerate(RECORDS)]),
        rows=LABELS,
    ),
    # types of Arrow
    Odd("views.arrow", arrow(text=pa.array(TEXTS, pa.string_view()), label=LABELS), rows=LABELS),
    Odd("large.arrow", arrow(text=pa.array(TEXTS, pa.large_string()), label=LABELS), rows=LABELS),
    Odd("codes.arrow", arrow(text=TEXTS, label=pa.array(LABELS).dictionary_encode()), rows=LABELS),
    Odd("runs.arrow", arrow(text=TEXTS, label=RUNS), rows=LABELS),
    Odd(
        "list_views.arrow",
        arrow(text=TEXTS, label=pa.array(LISTS, pa.list_view(pa.string()))),
        rows=OF_LISTS,
    ),
    Odd(
        "maps_beside.arrow", arrow(text=TEXTS, label=LABELS, more=MAPS, others=UNIONS), rows=LABELS
    ),
    Odd(
        "fixed_lists.arrow",
        arrow(text=TEXTS, label=pa.array(BITS, pa.list_(pa.int8(), 3))),
        rows=["1, 2", "0", "0, 1", "2", "none", "0, 2"],
    ),
    Odd(
        "tensors.arrow",
        arrow(text=TEXTS, label=TENSORS),
        {"label_names": {"0": "x", "1": "y", "2": "z"}},
        OF_BITS,
    ),
    Odd("strange_types_beside.arrow", arrow(text=TEXTS, label=LABELS, **STRANGE), rows=LABELS),
    Odd("json_type.arrow", arrow(text=pa.array(TEXTS, pa.json_()), label=LABELS), rows=LABELS),
    Odd(
        "decimal32.arrow",
        arrow(
            text=TEXTS, label=pa.array([Decimal(f"{i}.5") for i in range(6)], pa.decimal32(5, 1))
        ),
        rows=[f"{i}.5" for i in range(6)],
    ),
    Odd(
        "ordered.parquet",
        parquet(text=TEXTS, label=ORDERED),
        rows=["low", "high", "mid"] * 2,
        says="dataset.order=[low,mid,high]",
    ),
    Odd("bool8.arrow", arrow(text=TEXTS, label=BOOLS), rows=["True", "False"] * 3),
    # names
    Odd("{a,b}.csv", CSV.encode(), rows=LABELS),
    Odd("${x}.csv", CSV.encode(), rows=LABELS),
    Odd("100%20.csv", CSV.encode(), rows=LABELS),
    Odd("it's; R&D.csv", CSV.encode(), rows=LABELS),
    Odd("UPPER.CSV", CSV.encode(), rows=LABELS),
]

READ += [
    Odd(
        "utf_7.csv",
        ACCENTS.encode("utf-7"),
        {"encoding": "utf-7"},
        ["très bien"] * 3 + ["übel"] * 3,
    ),
    Odd("utf_7_mark.csv", b"+/v8-" + ACCENTS.encode("utf-7"), {}, ["très bien"] * 3 + ["übel"] * 3),
    Odd(
        "utf_7_unnamed.csv",
        ACCENTS.encode("utf-7"),
        rows=["tr+AOg-s bien"] * 3 + ["+APw-bel"] * 3,
        says="+AOg- is è, +APw- is ü); if it is, type dataset.encoding=utf-7",
    ),
    Odd("nul_name.jsonl", lines([{**row, "mo\0re": 1} for row in RECORDS]), rows=LABELS),
    Odd("nul_name.parquet", parquet(text=TEXTS, label=LABELS, **{"mo\0re": TEXTS}), rows=LABELS),
]
REFUSED = [
    Odd("not_utf_7.csv", ACCENTS.encode(), {"encoding": "utf-7"}, says="dataset.encoding=utf-8"),
    Odd(
        "other_names.csv",
        b"No;Body;Queue\n" + b"".join(b"%d;good, or not;%d\n" % (i, i % 2) for i in range(6)),
        says="is not a column of",
    ),
    Odd("bad_name.zip", with_a_bad_name(zipped(rows_csv=CSV)), says="member is not UTF-8"),
    Odd("joined.csv", CSV.encode() * 2, says="line 8: repeats the header"),
    Odd("cut_utf16.csv", CSV.encode("utf-16")[:-1], says="begins as a file in UTF-16"),
    Odd("cut.csv", (CSV + "é").encode()[:-1], says="line 8: not UTF-8"),
    Odd("empty_line_first.csv", b"\n" + CSV.encode(), says="found an empty line"),
    Odd("title.csv", b"My table,\n" + CSV.encode(), says="remove the lines before it"),
    Odd("two_signs.csv", CSV.encode(), {"separator": "||"}, says="expected one sign"),
    Odd("no_sign.csv", CSV.encode(), {"separator": ""}, says="expected one sign"),
    Odd("a_quote.csv", CSV.encode(), {"separator": '"'}, says="expected one sign"),
    Odd("colons.csv", CSV.replace(",", ":").encode(), says="separated by ':'"),
    Odd(
        "texts_with_commas.csv",
        as_csv([(f"{t}, yes", y) for t, y in ROWS]),
        says="stands in quotes",
    ),
    Odd(
        "backslashes.csv",
        QUOTED.replace("fine", '\\"fine\\"').encode(),
        says="dataset.quoting=none",
    ),
    Odd("open_quote.csv", as_csv([(f'"{t}', y) for t, y in ROWS]), says="dataset.quoting=none"),
    # what the name does not say
    *(
        Odd(f"{kind}.csv", content, says=says)
        for kind, content, says in (
            ("gzip", gzip.compress(CSV.encode()), "ends in .gz"),
            ("zip", zipped(a_csv=CSV), "ends in .zip"),
            ("xz", lzma.compress(CSV.encode()), "ends in .xz"),
            ("parquet", parquet(text=TEXTS, label=LABELS), "ends in .parquet"),
            ("feather", arrow(text=TEXTS, label=LABELS), "is no text file"),
            (
                "old_excel",
                b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
                "a workbook of old Excel",
            ),
        )
    ),
    Odd("noise.csv", NOISE, says="is no text file"),
    Odd("noise.jsonl", NOISE[:120], says="is no text file"),
    Odd("gzip.jsonl", gzip.compress(lines(RECORDS)), says="ends in .gz"),
    Odd("junk_behind.csv.gz", gzip.compress(CSV.encode()) + b"junk", says="cannot be"),
    Odd("rows.xls", b"x", says="Save it as a workbook (.xlsx)"),
    Odd("rows.ods", b"x", says="Save it as a workbook (.xlsx)"),
    Odd("rows.txt", CSV.encode(), says="name it .csv or .tsv"),
    Odd("rows.pkl", b"x", says="Pickles can run code"),
    Odd("rows.tar.gz", b"x", says="Unpack it"),
    # workbooks
    Odd("locked.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), says="is encrypted"),
    Odd("empty.xlsx", workbook(("a", [])), says="is an empty workbook"),
    Odd(
        "formulas.xlsx",
        workbook(("a", [["text", "label"], *[[f'="{t}"', y] for t, y in ROWS]])),
        says="'text' holds formulas",
    ),
    Odd(
        "errors.xlsx",
        workbook(("a", [*SHEET, ["#N/A", "bad"], ["x y", "#REF!"]])),
        says="an empty text",
    ),
    Odd(
        "title.xlsx", workbook(("a", [["My table"], [], *SHEET])), says="remove the lines before it"
    ),
    # JSON
    Odd(
        "splits.json",
        json.dumps({"train": RECORDS, "test": RECORDS}).encode(),
        says="the tables 'train', 'test'",
    ),
    Odd(
        "doubled_keys.jsonl",
        b'{"text": "a", "text": "b", "label": "c"}\n' * 2,
        says="'text' more than once",
    ),
    Odd(
        "python.jsonl", "".join(f"{record}\n" for record in RECORDS).encode(), says="Python's repr"
    ),
    Odd(
        "commas.jsonl", lines(RECORDS).replace(b"}", b"},"), says="line 1: expected one JSON object"
    ),
    Odd("null.jsonl", lines(RECORDS) + b"null\n", says="line 7: expected a JSON object"),
    Odd("nan.jsonl", lines(RECORDS).replace(b'"fine film"', b"NaN"), says="an empty text"),
    Odd("deep.json", b"[" * 100_000, says="nested too deeply"),
    Odd("numbers.jsonl", labelled([10**30, 1] * 3), says="do not fit into one column"),
    # cells that are no texts
    Odd("maps.arrow", arrow(text=MAPS, label=LABELS), says="a text that is a list"),
    Odd("unions.arrow", arrow(text=UNIONS, label=LABELS), says="a text that is a list"),
    Odd(
        "times.arrow",
        arrow(text=[time(i) for i in range(6)], label=LABELS),
        says="a text that is a time",
    ),
    Odd(
        "moments.arrow",
        arrow(text=[datetime(2024, 1, i + 1) for i in range(6)], label=LABELS),
        says="a text that is a datetime",
    ),
    Odd(
        "spans.arrow",
        arrow(text=[timedelta(i) for i in range(6)], label=LABELS),
        says="a text that is a timedelta",
    ),
    Odd(
        "uuids.arrow",
        arrow(text=pa.array([uuid.UUID(int=i).bytes for i in range(6)], pa.uuid()), label=LABELS),
        says="a text that is bytes",
    ),
    Odd("map_labels.arrow", arrow(text=TEXTS, label=MAPS), says="a label that is a list"),
    *(
        Odd(f"{name}_labels.arrow", arrow(text=TEXTS, label=cells), says="a label that is")
        for name, cells in STRANGE.items()
    ),
    Odd("union_labels.arrow", arrow(text=TEXTS, label=UNIONS), says="a label that is a list"),
    Odd("comment.csv", b"# made by hand\n" + CSV.encode(), says="remove the lines before"),
    Odd("rows.tab", CSV.encode(), says="name it .csv or .tsv"),
    Odd("not_utf8.arrow", arrow(text=NOT_UTF8, label=LABELS), says="Invalid UTF8 sequence"),
    Odd("not_utf8.parquet", parquet(text=NOT_UTF8, label=LABELS), says="Invalid UTF8 sequence"),
    Odd("no_name.zip", archive({"r.csv": CSV}).replace(b"r.csv", b"\0.csv"), says="has no name"),
    Odd("damaged.zip", zipped(rows_csv=CSV).replace(b"PK\5\6", b"PK\5\6" * 9), says="cannot be"),
    Odd("mixed.jsonl", labelled(LABELS, [*TEXTS[:5], 7]), says="line 6: 'text' holds 7"),
    Odd(
        "structs.arrow",
        arrow(text=TEXTS, label=[{"name": y} for y in LABELS]),
        says="a label that is an object",
    ),
]


@pytest.mark.parametrize("odd", READ, ids=lambda odd: odd.name)
def test_an_odd_file_is_read_as_it_is_meant(odd: Odd, tmp_path: Path) -> None:
    assert_read(odd, tmp_path)


@pytest.mark.parametrize("odd", REFUSED, ids=lambda odd: f"{odd.name}-{odd.says[:12]}")
def test_a_file_that_cannot_be_meant_is_one_error(odd: Odd, tmp_path: Path) -> None:
    assert_refused(odd, tmp_path)


@pytest.mark.parametrize(
    ("quoting", "content", "text"),
    [
        (Quoting.none, 'text\tlabel\n"a" he said\tx\n"b\ty\n', ['"a" he said', '"b']),
        (Quoting.backslash, 'text\tlabel\n"a \\"b\\" c"\tx\n"d"\ty\n', ['a "b" c', "d"]),
        (Quoting.double, 'text\tlabel\n"a ""b"" c"\tx\n"d"\ty\n', ['a "b" c', "d"]),
    ],
)
def test_quotes_are_read_as_the_file_has_them(
    quoting: Quoting, content: str, text: list[str], tmp_path: Path
) -> None:
    corpus = load(Odd("rows.tsv", content.encode(), {"quoting": quoting}), tmp_path)
    assert list(corpus.splits["train"]["text"]) == text


def test_a_quote_that_swallows_rows_is_noted(tmp_path: Path) -> None:
    rows = [("one x", "a"), ('"two x', "b"), *[(f"row {i}", "a") for i in range(9)], ('z"', "b")]
    content = as_csv([*rows, ("last x", "a"), ("more x", "b")])
    corpus = load(Odd("rows.csv", content), tmp_path)
    assert len(corpus.splits["train"]) < len(rows)
    (note,) = {note for note in corpus.notes if "is a quote missing?" in note}
    assert "line 3: a cell in quotes goes on to line 13" in note
    honest = "text,label\n" + '"Dear all,\nyes, no.\nWe are here,\nyou too."' + ",a\nx y,b\n"
    corpus = load(Odd("letter.csv", honest.encode()), tmp_path)
    assert not any("missing?" in note for note in corpus.notes)


def test_lines_are_counted_from_the_first_of_the_file(tmp_path: Path) -> None:
    for start in ("", "sep=,\n"):
        file = tmp_path / "rows.csv"
        file.write_text(f'{start}text,label\n"a\nb",x\n\n   \nc,y\n', encoding="utf-8")
        shift = len(start.splitlines())
        assert lines_of(file, [1, 2], ReadOptions()) == {1: 2 + shift, 2: 6 + shift}
    broken = f"sep=,\n{CSV}a,b,c\n".encode()
    with pytest.raises(UserError, match="line 9: expected 2 cells"):
        load(Odd("broken.csv", broken), tmp_path)


def test_a_name_is_found_in_the_other_unicode_form(tmp_path: Path) -> None:
    for kept, typed in (("NFD", "NFC"), ("NFC", "NFD")):
        file = tmp_path / unicodedata.normalize(kept, f"{kept} caf\u00e9.csv")
        file.write_text(CSV, encoding="utf-8")
        name = unicodedata.normalize(typed, file.name)  # type: ignore[arg-type]
        (source,) = read_files(f"{tmp_path}/{name}", "dataset.train")
        assert list(source.cells("label")) == LABELS


def test_a_file_of_another_name_or_place_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "link.csv").symlink_to("/nowhere")
    for pattern, words in (
        (f"{tmp_path}/folder", "is a folder"),
        (f"{tmp_path}/pipe.csv", "is a pipe or a device"),
        (f"{tmp_path}/link.csv", "there is no such file|No such file"),
        ("file:///nowhere/x.csv", "there is no such file"),
        ("nothing://x.csv", "Protocol not known"),
    ):
        with pytest.raises(UserError, match=words):
            read_files(pattern, "dataset.train")


def test_a_server_that_is_silent_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nlp_transfer.network.SILENCE", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.csv"
        with pytest.raises(UserError, match="the server was silent for .*copy it here"):
            read_files(url, "dataset.train")


def test_an_archive_of_many_rows_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv.gz"
    row = b"some text that is repeated again and again,label\n"
    with gzip.open(file, "wb") as packed:
        packed.write(b"text,label\n")
        for _ in range(100):
            packed.write(row * 1000)
    assert file.stat().st_size < 30_000
    (source,) = read_files(str(file), "dataset.train")
    assert len(source.table) == 100_000
