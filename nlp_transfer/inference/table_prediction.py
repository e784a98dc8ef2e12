"""Answers a table of any size, window by window."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from nlp_transfer.data.cells import is_blank, kind_of_cell, not_texts
from nlp_transfer.data.formats.read import open_table, read_windows
from nlp_transfer.data.formats.registry import Window, readers
from nlp_transfer.data.formats.windows import CELLS, WindowWriter, as_tables, column, with_columns
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inference.classifier import Classifier
from nlp_transfer.inference.prediction_request import PredictionRequest, check_columns, check_texts
from nlp_transfer.inference.shards import Worker, entered, finish, parts_of, write_part, write_whole
from nlp_transfer.problems.decoder import Decoder


@dataclass(frozen=True)
class TableSummary:
    """What was done."""

    rows: int
    blank: int  # rows without a text, and therefore without an answer
    reused: int  # windows that were answered before


def check_source(request: PredictionRequest) -> None:
    """Stop at a file without the columns of texts, before a model is loaded for it.

    Raises:
        UserError: with the columns that there are.
    """
    if request.source is not None:
        with open_table(request.source, request.options) as (windows, _):
            for window in windows:
                check_texts(window, request)
                break


def predict_stream(
    classifier: Classifier, request: PredictionRequest, out: BinaryIO
) -> TableSummary:
    """Answers to the standard output, as they come."""
    writer, rows, blank = None, 0, 0
    with _opened(request) as opened:
        for window in opened.windows:
            table = answer_window(classifier, window, request, rows)
            if writer is None:
                writer = opened.writer(request.out_kind, table)
                out.write(writer.header())
            writer.write(table, out)
            out.flush()
            rows, blank = rows + len(window), blank + count_blank(window, request)
    return TableSummary(rows, blank, reused=0)


def predict_file(
    classifier: Classifier,
    request: PredictionRequest,
    identify: Callable[[], dict[str, Any]],
    worker: Worker,
) -> TableSummary:
    """Answers to a file, which is there when it is whole.

    Every window is a part of its own in `<out>.part/`; what is there is not answered again. The
    first worker joins the parts of all. A file of one window is answered without parts.

    Args:
        identify: gives all that the answers are a function of; it reads the whole model.

    Raises:
        UserError: if the parts that are there answer another question.
    """
    assert request.out is not None
    home = request.out.with_name(f"{request.out.name}.part")
    with _opened(request) as opened:
        if request.source is not None and worker.count == 1 and not home.exists():
            window = opened.only_window()
            if window is not None:
                table = answer_window(classifier, window, request, 0)
                write_whole(opened.writer(request.out_kind, table), table, request.out)
                return TableSummary(len(window), count_blank(window, request), reused=0)
        with entered(home, identify(), worker):
            try:
                writer, parts, summary = _answer_parts(classifier, request, opened, home, worker)
            except UserError:
                if worker.count == 1 and not parts_of(home):
                    shutil.rmtree(home)
                raise
            finish(home, worker)
            if worker.rank == 0:
                whole = home / "whole"
                with whole.open("wb") as file:
                    writer.join(parts, file)
                whole.replace(request.out)
                shutil.rmtree(home)
    return summary


def _answer_parts(
    classifier: Classifier, request: PredictionRequest, opened: _Opened, home: Path, worker: Worker
) -> tuple[WindowWriter, list[Path], TableSummary]:
    """This worker's windows as files of their own, but for those that are there."""
    there = parts_of(home)
    writer, parts, rows, blank = None, [], 0, 0
    with _progress(opened.source, request, worker) as advance:
        for number, window in enumerate(opened.windows):
            if writer is None:
                empty = answer_window(classifier, window[:0], request)
                writer = opened.writer(request.out_kind, empty)
            parts.append(home / f"{number:08}")
            if parts[-1].name not in there and number % worker.count == worker.rank:
                write_part(writer, answer_window(classifier, window, request, rows), parts[-1])
            rows, blank = rows + len(window), blank + count_blank(window, request)
            advance(len(window))
    if writer is None:
        raise UserError(ExitCode.DATA, f"{request.name} has no rows.")
    return writer, parts, TableSummary(rows, blank, reused=len(there))


def answer_window(
    classifier: Classifier, window: Window, request: PredictionRequest, before: int | None = None
) -> Window:
    """A window with its answers; a row without a text has none.

    Args:
        before: how many rows of the table precede it, for messages.
    """
    check_columns(window, request, classifier.decoder)
    texts = _texts(column(window, request.text), before)
    filled = [i for i, text in enumerate(texts) if not is_blank(text)]
    pairs = None
    if request.text_pair is not None:
        seconds = _texts(column(window, request.text_pair), before)
        pairs = [seconds[i] for i in filled]
    answers = classifier.probabilities([texts[i] for i in filled], pairs)

    def spread(values: Sequence[Any]) -> list[Any]:
        everywhere: list[Any] = [None] * len(texts)
        for i, value in zip(filled, values, strict=True):
            everywhere[i] = value
        return everywhere

    columns = _columns(answers, request, classifier.decoder)
    new = {f"{request.prefix}{name}": (spread(v), kind) for name, (v, kind) in columns.items()}
    return with_columns(window, new)


def count_blank(window: Window, request: PredictionRequest) -> int:
    """How many rows have no text."""
    return sum(map(is_blank, _texts(column(window, request.text))))


def _columns(
    answers: np.ndarray, request: PredictionRequest, decoder: Decoder
) -> dict[str, tuple[list[Any], pa.DataType]]:
    """What is answered, by column; `answers` are the probabilities or the scores."""
    decisions = decoder.decide(answers)
    if not decoder.problem.has_labels:
        values: list[list[Any]] = [answers[:, 0].tolist()]
        kinds = [pa.float64()]
    elif decoder.problem.several:
        values, kinds = [[list(decoder.names(row)) for row in decisions]], [pa.list_(pa.string())]
        if request.out_kind in CELLS:
            values, kinds = [[request.delimiter.join(row) for row in values[0]]], [pa.string()]
    else:
        scores = answers[np.arange(len(answers)), decisions].tolist()
        values = [[decoder.labels[i] for i in decisions], scores]
        kinds = [pa.string(), pa.float64()]
    columns = dict(zip(decoder.problem.columns, zip(values, kinds, strict=True), strict=True))
    if request.probabilities:
        for i, label in enumerate(decoder.labels):
            columns[f"probability_{label}"] = (answers[:, i].tolist(), pa.float64())
    return columns


def _texts(cells: Sequence[Any], before: int | None = None) -> list[str]:
    for row in not_texts(cells)[:1]:
        place = "" if before is None else f" in row {before + row + 1:,}"
        raise UserError(
            ExitCode.DATA,
            f"A text is expected, found {kind_of_cell(cells[row])}{place}: {str(cells[row])[:60]}. "
            "Name another column with --text, or write the cells as texts.",
        )
    return [cell or "" for cell in cells]


@dataclass
class _Opened:
    """A table that is being read."""

    source: BinaryIO
    windows: Iterator[Window]
    separators: list[str]  # of a text file, once its first window is read
    marks: list[str]  # of the encoding, likewise

    def only_window(self) -> Window | None:
        """The first window where there is no other; all of them are still to be read."""
        first = list(islice(self.windows, 2))
        self.windows = chain(first, self.windows)
        return first[0] if len(first) == 1 else None

    def writer(self, kind: str, first: Window) -> WindowWriter:
        """Of answers that look like the table: its separator, and a mark if it has one."""
        separator = self.separators[0] if self.separators else None
        return WindowWriter(kind, first, separator, is_marked=bool(self.marks))


@contextmanager
def _opened(request: PredictionRequest) -> Iterator[_Opened]:
    separators: list[str] = []
    marks: list[str] = []
    options = request.options
    if request.kind == request.out_kind:
        options = replace(options, found_separator=separators.append, found_mark=marks.append)
    with ExitStack() as stack:
        if request.source is None:
            source: BinaryIO = sys.stdin.buffer
            reader = readers()[request.kind]
            windows: Iterator[Window] = stack.enter_context(
                closing(read_windows(source, reader, request.name, options))
            )
        else:
            windows, source = stack.enter_context(open_table(request.source, options))
        windows = windows if request.out_kind == "jsonl" else as_tables(windows)
        yield _Opened(source, windows, separators, marks)


@contextmanager
def _progress(source: BinaryIO, request: PredictionRequest, worker: Worker) -> Iterator[Any]:
    """A bar of what was read of the source, on a terminal only."""
    from tqdm import tqdm

    size = None if request.source is None else request.source.stat().st_size
    visible = sys.stderr.isatty() and worker.rank == 0
    with tqdm(total=size, unit="B", unit_scale=True, disable=not visible, file=sys.stderr) as bar:
        rows = 0

        def advance(more: int) -> None:
            nonlocal rows
            rows += more
            if visible and size is not None:
                bar.set_postfix_str(f"{rows:,} rows", refresh=False)
                bar.update(source.tell() - bar.n)

        yield advance
