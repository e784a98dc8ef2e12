"""The table that is reviewed: what is shown of a row, and the columns that hold the answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa

from nlp_transfer.data.cells import is_blank
from nlp_transfer.data.columns import find_column, require_columns
from nlp_transfer.data.formats.read import open_table
from nlp_transfer.data.formats.registry import ReadOptions, Window
from nlp_transfer.data.formats.windows import (
    CELLS,
    WORKBOOK,
    column,
    columns_of,
    kind_of,
    raw_column,
    with_columns,
)
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.serving.review.labels import (
    Labels,
    as_text,
    in_order,
    labels_of_run,
    labels_of_shares,
    shares_of,
)

OF_SUGGESTIONS = ("guess", "probabilities", "reason")
OF_SUSPECTS = ("label", "suggested", "neighbours", "neighbours_suggested", "probability", "text")
GIVEN, REVIEWED = "given", "reviewed"  # columns that suspects get
DONE = "yes"
LONGEST = 300  # characters of the cells beside the text

Answer: TypeAlias = tuple[str, ...] | None  # labels; None: there is no answer yet


@dataclass(frozen=True)
class ReviewRequest:
    """Which table, and how it is read."""

    file: Path
    run: Path | None = None
    """The run that it is from; None: the labels are those that the table names."""
    text: str | None = None
    text_pair: str | None = None
    more_labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReviewTable:
    """Rows to label, or rows whose labels may be wrong."""

    file: Path
    window: Window
    labels: Labels
    text: str
    text_pair: str | None
    suspects: bool
    columns: dict[str, list[Any]]  # the cells of every column

    def __len__(self) -> int:
        return len(self.columns[self.text])

    @property
    def digest(self) -> str:
        """SHA-256 of the texts: whether a table holds the rows that were answered."""
        names = [name for name in (self.text, self.text_pair) if name is not None]
        content = "\0".join(str(cell) for name in names for cell in self.columns[name])
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()

    def answers(self) -> list[Answer]:
        """Those that the table holds."""
        cells = list(zip(*(self._cells(name) for name in self.labels.columns), strict=True))
        if self.suspects:
            done = self._cells(REVIEWED)
            return [
                None if is_blank(mark) else self.labels.read(row)
                for mark, row in zip(done, cells, strict=True)
            ]
        return [self.labels.read(row) for row in cells]

    def given(self, row: int) -> str | None:
        """The label that a suspect row had before it was reviewed."""
        if not self.suspects:
            return None
        return str(self.columns[GIVEN if GIVEN in self.columns else "label"][row])

    def shown(self, row: int) -> dict[str, Any]:
        """What the page shows of a row."""
        cell = {name: cells[row] for name, cells in self.columns.items()}
        hidden = {self.text, self.text_pair, *self.labels.columns, *OF_SUGGESTIONS}
        hidden |= {*OF_SUSPECTS, GIVEN, REVIEWED} if self.suspects else set()
        others = {
            name: as_text(value)[:LONGEST]
            for name, value in cell.items()
            if name not in hidden and not is_blank(value)
        }
        given = self.given(row)
        if given is None:
            shares = shares_of(cell["probabilities"])
            guess, reason = cell["guess"], cell["reason"]
        else:
            shares = [(given, float(cell["neighbours"]))]
            if cell["suggested"] != given:
                shares.append((cell["suggested"], float(cell["neighbours_suggested"])))
            guess, reason = cell["suggested"], _suspicion(cell)
        return {
            "text": as_text(cell[self.text]),
            "text_pair": None if self.text_pair is None else as_text(cell[self.text_pair]),
            "given": given,
            "guess": None if guess is None else str(guess),
            "shares": shares,
            "reason": None if reason is None else str(reason),
            "others": others,
        }

    def with_answers(self, answers: Sequence[Answer]) -> Window:
        """The table with these answers; the cells of all other rows stay as they are."""
        labels, old = self.labels, self.answers()
        new = {name: list(self._cells(name)) for name in labels.columns}
        given = [self.given(row) for row in range(len(self))]
        for row, answer in enumerate(answers):
            if answer == old[row]:
                continue
            # An answer that is taken back leaves a suspect row with the label it had.
            was = (given[row] or "",) if self.suspects else None
            cells = labels.cells(was if answer is None else answer)
            for name, cell in zip(labels.columns, cells, strict=True):
                new[name][row] = cell
        if self.suspects:
            new[GIVEN] = given
            new[REVIEWED] = [None if answer is None else DONE for answer in answers]
        return _with_cells(self.window, new, kind_of(self.file) in CELLS)

    def _cells(self, name: str) -> list[Any]:
        return self.columns.get(name) or [None] * len(self)


def read_review(request: ReviewRequest) -> ReviewTable:
    """The rows of a table that `suggest` or `suspects` wrote.

    Raises:
        UserError: it is none of theirs, it cannot be written back, or its labels are unknown.
    """
    file = request.file
    if kind_of(file) == WORKBOOK:
        raise UserError(
            ExitCode.CONFIG,
            f"{file}: a workbook is filled in with a program of spreadsheets, because what it "
            "shows beside the cells would be lost here. Or write the table as .csv.",
        )
    # The table is written as `suggest` and `suspects` write theirs, so it is read so, too.
    with open_table(file, ReadOptions()) as (parts, _):
        windows = [part for part in parts if len(part)]
    if not windows:
        raise UserError(ExitCode.DATA, f"{file} has no rows.")
    window = _joined(windows)
    columns = _all_columns(window)
    suspects = set(OF_SUSPECTS) <= set(columns)
    if not suspects and not set(OF_SUGGESTIONS) <= set(columns):
        raise UserError(
            ExitCode.DATA,
            f"{file} is neither from `nlp-transfer suggest` (columns {', '.join(OF_SUGGESTIONS)}) "
            f"nor from `nlp-transfer suspects` (columns {', '.join(OF_SUSPECTS)}); found the "
            f"columns {', '.join(columns)}.",
        )
    labels, text, pair = _labels_and_texts(request, columns, suspects)
    required = (("--text", text), ("--text-pair", pair))
    require_columns(list(columns), required, str(file), lambda name: raw_column(window, name))
    for name in (text, pair):
        if name is not None and name not in columns:  # a nested field
            columns[name] = column(window, name)
    table = ReviewTable(file, window, labels, text, pair, suspects, columns)
    there = {name for answer in table.answers() if answer for name in answer}
    more = [*request.more_labels, *in_order(there - {*labels.names, *request.more_labels})]
    return replace(
        table, labels=replace(labels, names=tuple(dict.fromkeys((*labels.names, *more))))
    )


def _labels_and_texts(
    request: ReviewRequest, columns: dict[str, list[Any]], suspects: bool
) -> tuple[Labels, str, str | None]:
    labels, dataset = (None, None) if request.run is None else labels_of_run(request.run)
    if suspects:
        # `suspects` names columns in its own way, whatever the run calls them.
        there = {*columns["label"], *columns["suggested"], *columns.get(GIVEN, [])}
        names = in_order({str(name) for name in there}) if labels is None else labels.names
        labels = Labels(tuple(names), ("label",))
        return labels, "text", "text_pair" if "text_pair" in columns else None
    if labels is None:
        place = list(columns).index("guess") - 1  # `suggest` writes the label before the guess
        if place < 0:
            raise UserError(
                ExitCode.DATA,
                f"{request.file}: expected the column of the label before 'guess'. Name the run "
                "that the file is from: --run FOLDER.",
            )
        shares = labels_of_shares(columns["probabilities"], request.file)
        labels = Labels(shares, (list(columns)[place],))
    missing = [name for name in labels.columns if name not in columns]
    if missing:
        raise UserError(
            ExitCode.DATA,
            f"{request.file} has no column {missing[0]!r}, which holds the labels of "
            f"{request.run}. Name the run that the file is from.",
        )
    pair = request.text_pair or (dataset.text_pair if dataset else None)
    return labels, request.text or _text_column(dataset, columns, labels), pair


def _text_column(dataset: Any, columns: dict[str, list[Any]], labels: Labels) -> str:
    """As the run has it, where it is there; else the column with the most characters."""
    if dataset is not None and find_column(list(columns), dataset.text):
        return str(dataset.text)
    left = [name for name in columns if name not in (*labels.columns, *OF_SUGGESTIONS)]
    if "text" in left or not left:
        return "text"
    return max(left, key=lambda name: sum(len(as_text(cell)) for cell in columns[name]))


def _suspicion(cell: dict[str, Any]) -> str:
    like, unlike = float(cell["neighbours"]), float(cell["neighbours_suggested"])
    return (
        f"of its nearest rows {like:.0%} have its label, {unlike:.0%} have {cell['suggested']}; "
        f"probability of its label without this row: {float(cell['probability']):.2f}"
    )


def _joined(windows: list[Window]) -> Window:
    if all(isinstance(window, pa.Table) for window in windows):
        return pa.concat_tables(windows, promote_options="permissive").combine_chunks()
    return [row for window in windows for row in window]


def _all_columns(window: Window) -> dict[str, list[Any]]:
    return {name: raw_column(window, name) for name in columns_of(window)}


def _with_cells(window: Window, columns: dict[str, list[Any]], texts: bool) -> Window:
    """The table with these columns, in their places; new ones are at the end.

    Args:
        texts: whether cells are texts, as those of CSV: lists are written into them.
    """
    if texts:
        columns = {
            name: [as_text(cell) if isinstance(cell, list) else cell for cell in cells]
            for name, cells in columns.items()
        }
    kinds = {
        name: pa.list_(pa.string()) if any(isinstance(c, list) for c in cells) else pa.string()
        for name, cells in columns.items()
    }
    there = [name for name in columns if name in columns_of(window)]
    if isinstance(window, pa.Table):
        for name in there:
            place = window.column_names.index(name)
            cells = pa.array([_as_kind(c, kinds[name]) for c in columns[name]], kinds[name])
            window = window.set_column(place, name, cells)
    else:
        window = [{**r, **{n: columns[n][i] for n in there}} for i, r in enumerate(window)]
    new = {name: (cells, kinds[name]) for name, cells in columns.items() if name not in there}
    return with_columns(window, new) if new else window


def _as_kind(cell: Any, kind: pa.DataType) -> Any:
    if cell is None or isinstance(cell, list):
        return cell
    return [str(cell)] if pa.types.is_list(kind) else str(cell)
