"""Answers a table of any size, window by window."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from nlp_transfer.data.tabular import (
    CELLS,
    WINDOW,
    Window,
    WindowWriter,
    as_tables,
    column,
    columns_of,
    read_windows,
    with_columns,
)
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inference.classifier import Classifier, find_model
from nlp_transfer.inference.shards import Worker, entered, finish, parts_of, write_part
from nlp_transfer.problems.decoder import Decoder
from nlp_transfer.utils.hashing import digest_of


@dataclass(frozen=True)
class Question:
    """Which table is to be answered, and how."""

    source: Path | None  # None: the standard input
    kind: str  # of the source
    out: Path | None  # None: the standard output
    out_kind: str
    text: str  # a column
    text_pair: str | None = None
    probabilities: bool = False
    prefix: str = ""  # of the names of the new columns
    delimiter: str = "|"  # between several labels, where the answers are texts

    @property
    def name(self) -> str:
        """What a person calls the source."""
        return "the standard input" if self.source is None else str(self.source)


@dataclass(frozen=True)
class Answered:
    """What was done."""

    rows: int
    blank: int  # rows without a text, and therefore without an answer
    kept: int  # windows that were answered before


def predict_stream(classifier: Classifier, question: Question, out: BinaryIO) -> Answered:
    """Answers to the standard output, as they come."""
    writer, rows, blank = None, 0, 0
    with _opened(question) as (windows, _):
        for window in windows:
            answered = answer(classifier, window, question)
            if writer is None:
                writer = WindowWriter(question.out_kind, answered)
                out.write(writer.header())
            writer.write(answered, out)
            out.flush()
            rows, blank = rows + len(window), blank + blanks(window, question)
    return Answered(rows, blank, kept=0)


def predict_file(
    classifier: Classifier, question: Question, identity: dict[str, Any], worker: Worker
) -> Answered:
    """Answers to a file, which is there when it is whole.

    Every window is a part of its own in `<out>.part/`; what is there is not answered again. The
    first worker joins the parts of all.

    Raises:
        UserError: if the parts that are there answer another question.
    """
    assert question.out is not None
    home = question.out.with_name(f"{question.out.name}.part")
    with entered(home, identity, worker):
        try:
            writer, parts, answered = _answer_parts(classifier, question, home, worker)
        except UserError:
            if worker.count == 1 and not parts_of(home):
                shutil.rmtree(home)
            raise
        finish(home, worker)
        if worker.rank == 0:
            whole = home / "whole"
            with whole.open("wb") as file:
                writer.join(parts, file)
            whole.replace(question.out)
            shutil.rmtree(home)
    return answered


def _answer_parts(
    classifier: Classifier, question: Question, home: Path, worker: Worker
) -> tuple[WindowWriter, list[Path], Answered]:
    """This worker's windows as files of their own, but for those that are there."""
    there = parts_of(home)
    writer, parts, rows, blank = None, [], 0, 0
    with _opened(question) as (windows, source), _progress(source, question, worker) as advance:
        for number, window in enumerate(windows):
            if writer is None:
                writer = WindowWriter(question.out_kind, answer(classifier, window[:0], question))
            parts.append(home / f"{number:08}")
            if parts[-1].name not in there and number % worker.count == worker.rank:
                write_part(writer, answer(classifier, window, question), parts[-1])
            rows, blank = rows + len(window), blank + blanks(window, question)
            advance(len(window))
    if writer is None:
        raise UserError(ExitCode.DATA, f"{question.name} has no rows.")
    return writer, parts, Answered(rows, blank, kept=len(there))


def answer(classifier: Classifier, window: Window, question: Question) -> Window:
    """A window with its answers; a row without a text has none."""
    refuse_columns(window, question, classifier.decoder)
    texts = [_text(value) for value in column(window, question.text)]
    asked = [i for i, text in enumerate(texts) if text.strip()]
    pairs = None
    if question.text_pair is not None:
        second = column(window, question.text_pair)
        pairs = [_text(second[i]) for i in asked]
    found = classifier.probabilities([texts[i] for i in asked], pairs)

    def spread(values: Sequence[Any]) -> list[Any]:
        everywhere: list[Any] = [None] * len(texts)
        for i, value in zip(asked, values, strict=True):
            everywhere[i] = value
        return everywhere

    columns = _columns(found, question, classifier.decoder)
    new = {f"{question.prefix}{name}": (spread(v), kind) for name, (v, kind) in columns.items()}
    return with_columns(window, new)


def blanks(window: Window, question: Question) -> int:
    """How many rows have no text."""
    return sum(not _text(value).strip() for value in column(window, question.text))


def _columns(
    found: np.ndarray, question: Question, decoder: Decoder
) -> dict[str, tuple[list[Any], pa.DataType]]:
    """What is answered, by column; `found` are the probabilities or the scores."""
    chosen = decoder.decide(found)
    if not decoder.problem.has_labels:
        values: list[list[Any]] = [found[:, 0].tolist()]
        kinds = [pa.float64()]
    elif decoder.problem.several:
        values, kinds = [[list(decoder.names(row)) for row in chosen]], [pa.list_(pa.string())]
        if question.out_kind in CELLS:
            values, kinds = [[question.delimiter.join(row) for row in values[0]]], [pa.string()]
    else:
        scores = found[np.arange(len(found)), chosen].tolist()
        values = [[decoder.labels[i] for i in chosen], scores]
        kinds = [pa.string(), pa.float64()]
    columns = dict(zip(decoder.problem.columns, zip(values, kinds, strict=True), strict=True))
    if question.probabilities:
        for i, label in enumerate(decoder.labels):
            columns[f"probability_{label}"] = (found[:, i].tolist(), pa.float64())
    return columns


def refuse_answers(question: Question, decoder: Decoder) -> None:
    """Stop at what this model cannot answer.

    Raises:
        UserError: at probabilities of scores, and at labels that could not be told apart.
    """
    if question.probabilities and not decoder.problem.has_labels:
        raise UserError(
            ExitCode.CONFIG, "The model answers with scores, which have no --probabilities."
        )
    strange = [label for label in decoder.labels if question.delimiter in label]
    several = decoder.problem.several
    if several and strange and question.out_kind in CELLS:
        raise UserError(
            ExitCode.CONFIG,
            f"The label {strange[0]!r} holds the --delimiter {question.delimiter!r}. Choose "
            "another, or write the answers as .parquet or .jsonl, where they are lists.",
        )


def refuse_columns(window: Window, question: Question, decoder: Decoder) -> None:
    """The columns of texts must be there, those of the answers must not.

    Raises:
        UserError: with the columns that there are.
    """
    if not len(window) and not isinstance(window, pa.Table):
        return  # no rows, no shape
    there = columns_of(window)
    for flag, name in (("--text", question.text), ("--text-pair", question.text_pair)):
        if name is not None and name not in there:
            raise UserError(
                ExitCode.DATA,
                f"{flag} {name!r} is not a column of {question.name}; it has {', '.join(there)}.",
            )
    new = [f"{question.prefix}{name}" for name in decoder.problem.columns]
    if question.probabilities:
        new += [name for name in there if name.startswith(f"{question.prefix}probability_")]
    taken = [name for name in new if name in there]
    if taken:
        raise UserError(
            ExitCode.DATA,
            f"{question.name} has a column {taken[0]!r} already. Name the answers differently, "
            "as in --prefix predicted_",
        )


def identity_of(question: Question, folder: Path, backend: str) -> dict[str, Any]:
    """All that the answers are a function of."""
    source: dict[str, Any] = {"name": question.name}
    if question.source is not None:
        status = question.source.stat()
        source = {
            "name": str(question.source.resolve()),
            "bytes": status.st_size,
            "modified": status.st_mtime_ns,
        }
    return {
        "source": source,
        "model": _fingerprint(find_model(folder), backend),
        "backend": backend,
        "columns": [question.text, question.text_pair],
        "answers": [
            question.prefix,
            question.probabilities,
            question.out_kind,
            question.delimiter,
        ],
        "window": WINDOW,
    }


def _fingerprint(model: Path, backend: str) -> str:
    weights = "*.safetensors" if backend == "torch" else "onnx/*"
    return digest_of(sorted((*model.glob("*.json"), *model.glob(weights))))


def _text(value: Any) -> str:
    if isinstance(value, dict | list | bytes):
        raise UserError(
            ExitCode.DATA,
            f"A text is expected, found {type(value).__name__}: {str(value)[:60]}. Name another "
            "column with --text, or write the texts as texts.",
        )
    return "" if value is None else str(value)


@contextmanager
def _opened(question: Question) -> Iterator[tuple[Iterator[Window], BinaryIO]]:
    file = question.source
    with (
        nullcontext(sys.stdin.buffer) if file is None else file.open("rb") as source,
        closing(read_windows(source, question.kind, question.name)) as windows,
    ):
        yield windows if question.out_kind == "jsonl" else as_tables(windows), source


@contextmanager
def _progress(source: BinaryIO, question: Question, worker: Worker) -> Iterator[Any]:
    """A bar of what was read of the source, on a terminal only."""
    size = None if question.source is None else question.source.stat().st_size
    shown = sys.stderr.isatty() and worker.rank == 0
    with tqdm(total=size, unit="B", unit_scale=True, disable=not shown, file=sys.stderr) as bar:
        rows = 0

        def advance(more: int) -> None:
            nonlocal rows
            rows += more
            if shown and size is not None:
                bar.set_postfix_str(f"{rows:,} rows", refresh=False)
                bar.update(source.tell() - bar.n)

        yield advance
