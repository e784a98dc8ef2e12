"""Builds tables as people have them: a file, how it is named, and what comes of it."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl import Workbook

from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.corpus import Corpus, answers_of, load_corpus
from nlp_transfer.errors import ExitCode, UserError

TEXTS = [f"{word} {thing}" for word in ("fine", "dull") for thing in ("film", "book", "trip")]
LABELS = ["good"] * 3 + ["bad"] * 3
ROWS = list(zip(TEXTS, LABELS, strict=True))
RECORDS = [{"text": text, "label": label} for text, label in ROWS]
CSV = "text,label\n" + "".join(f"{text},{label}\n" for text, label in ROWS)
LISTS = [["a", "b"], ["a"], ["b"], ["a"], [], ["a", "b"]]
BITS = [[0, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 1]]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def labelled(labels: list[Any], texts: list[Any] | None = None) -> bytes:
    """JSON lines with these labels."""
    pairs = zip(texts or TEXTS, labels, strict=True)
    return lines([{"text": text, "label": label} for text, label in pairs])


def written(write: Callable[[Any], Any]) -> bytes:
    stream = io.BytesIO()
    write(stream)
    return stream.getvalue()


def parquet(**columns: Any) -> bytes:
    return written(lambda stream: pq.write_table(pa.table(columns), stream))


def workbook(*sheets: tuple[str, list[list[Any]]]) -> bytes:
    book = Workbook()
    del book["Sheet"]
    for name, rows in sheets:
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    return written(book.save)


def zipped(**members: str) -> bytes:
    def write(stream: Any) -> None:
        with zipfile.ZipFile(stream, "w") as archive:
            for name, content in members.items():
                archive.writestr(name.replace("_", "."), content)

    return written(write)


def arrow_stream(table: pa.Table) -> bytes:
    def write(stream: Any) -> None:
        with pa.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)

    return written(write)


def zstandard(content: bytes) -> bytes:
    with pa.BufferOutputStream() as raw:
        with pa.CompressedOutputStream(raw, "zstd") as stream:
            stream.write(content)
        return raw.getvalue().to_pybytes()


@dataclass(frozen=True)
class Odd:
    """A file, how it is named, and what comes of it."""

    name: str
    content: bytes
    keys: dict[str, Any] = field(default_factory=dict)
    rows: list[Any] | None = None  # the answers, where it is read
    says: str = ""  # a note, or the error


SHEET = [["text", "label"], *map(list, ROWS)]
TABLE = pa.table({"text": TEXTS, "label": LABELS})
SPAM = "v1,v2,,,\r\n" + "".join(f"{label},{text} £,,,\r\n" for text, label in ROWS)
V = {"text": "v2", "label": "v1"}
NAMED = {"label_names": {"0": "x", "1": "y", "2": "z"}}
OF_BITS = ["y, z", "x", "x, y", "z", "none", "x, z"]
OF_LISTS = ["a, b", "a", "b", "a", "none", "a, b"]
NESTED = [{"payload": {"body": text, "meta": {"tag": label}}} for text, label in ROWS]
SPLIT = {"columns": ["text", "label"], "index": list(range(6)), "data": [list(r) for r in ROWS]}
BY_COLUMN = {"text": dict(enumerate(TEXTS)), "label": dict(enumerate(LABELS))}
SPELT = ["good ", "good", "good", "bad", "BAD", "bad"]
SCORES = ["0,5", "1,25", "2,0", "0,1", "3", "1,5"]


def load(odd: Odd, folder: Path) -> Corpus:
    """Train and validation are both the file, so that nothing is cut."""
    file = folder / odd.name
    file.write_bytes(odd.content)
    return load_corpus(DatasetConfig(train=str(file), validation=str(file), **odd.keys), 0)


def assert_read(odd: Odd, folder: Path) -> None:
    """Read as it is meant: the answers, the texts and a note."""
    corpus = load(odd, folder)
    assert answers_of(corpus, "train") == odd.rows
    texts = [text.removesuffix(" £") for text in corpus.splits["train"]["text"]]
    assert texts[: len(TEXTS)] == TEXTS
    assert odd.says in "\n".join(corpus.notes)


def assert_refused(odd: Odd, folder: Path) -> None:
    """One error of bounded length that says what it is to say."""
    with pytest.raises(UserError) as caught:
        load(odd, folder)
    message = str(caught.value)
    assert odd.says in message, message
    assert len(message) < 1500
    assert caught.value.code in (ExitCode.DATA, ExitCode.CONFIG)
