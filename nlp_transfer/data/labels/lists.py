"""Recognises lists in the label column: written as text, and of one 0 or 1 a label (multi-hot)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from nlp_transfer.config.constants import AUTO
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.faults import Faults
from nlp_transfer.data.labels.written_lists import (
    begins_list,
    holds_object,
    is_plain_name,
    joined_bits,
    list_of,
    looks_like_list,
    separated_bits,
)
from nlp_transfer.data.table import Table
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems import problem_named
from nlp_transfer.problems.detection import OF_COLUMNS
from nlp_transfer.problems.single_label import SINGLE_LABEL
from nlp_transfer.problems.soft import SOFT

BITS = {0: False, 1: True, "0": False, "1": True}
YES_OR_NO = frozenset(("yes", "no", "true", "false", "y", "n", "t", "f"))
HOW_TO_WRITE = (
    "Write a list as ['a', 'b'], or as a|b with dataset.delimiter='|'; "
    f"dataset.problem={SINGLE_LABEL.name} keeps such cells as names."
)
AN_OBJECT = "a label that is an object written as text"
HOW_TO_NAME = (
    "Write the label alone, as a, or several as a|b with dataset.delimiter='|'; "
    f"dataset.problem={SINGLE_LABEL.name} keeps such cells as names."
)

Tables = dict[str, list[Table]]


def read_label_lists(
    tables: Tables, config: DatasetConfig, column: str, faults: Faults, notes: list[str]
) -> Tables:
    """The tables with lists where the label column of train holds lists in another form.

    Args:
        column: its name in messages.

    Raises:
        UserError: where lists are neither labels nor one 0 or 1 for each label.
    """
    if isinstance(config.label, list):
        return tables
    if config.problem != AUTO and problem_named(config.problem).one_label:
        return _single_labels(tables, faults)
    if config.problem not in (AUTO, OF_COLUMNS.name):
        return tables
    tables = {
        split: [_without(t, holds_object, AN_OBJECT, faults, HOW_TO_NAME) for t in parts]
        for split, parts in tables.items()
    }
    if config.delimiter is None:
        tables = _read_written(tables, column, faults, notes)
    first = next(iter(tables.values()))
    width = _width(first, column)
    if width is None:
        _refuse_other_lists(first, column)
        if {len(cell) if isinstance(cell, list) else 0 for cell in _cells(first)} == {1}:
            notes.append(
                f"{column} holds lists of exactly one label; dataset.problem={SINGLE_LABEL.name} "
                "reads them as classes"
            )
        return tables
    if config.label_names is not None and len(config.label_names) > width:
        raise UserError(
            ExitCode.DATA,
            f"dataset.label_names names {len(config.label_names)} labels, and the lists of "
            f"{column} have {width} entries. Name each entry once.",
        )
    notes.append(_about_bits(first, width, column, config.label_names is not None))
    return {s: [_named_bits(t, width, faults) for t in parts] for s, parts in tables.items()}


def _read_written(tables: Tables, column: str, faults: Faults, notes: list[str]) -> Tables:
    """Cells of text as the lists that they hold."""
    cells = _cells(next(iter(tables.values())))
    texts = [cell for cell in cells if isinstance(cell, str)]
    others_are_lists = all(isinstance(cell, list | str) for cell in cells)
    if texts and len(texts) < len(cells) and others_are_lists and all(map(looks_like_list, texts)):
        notes.append(f"{column} holds lists in some files and lists written as text in others")
        return {s: [_parsed(table, faults) for table in parts] for s, parts in tables.items()}
    if not cells or len(texts) < len(cells):
        return tables
    if separated_bits(cells) is not None:
        notes.append(f"{column} holds a row of 0 and 1 in each cell, such as {cells[0]!r}")
        return _mapped(tables, lambda cell: (separated_bits([cell]) or [cell])[0])
    if joined_bits(cells):
        notes.append(
            f"{column} holds cells such as {cells[0]!r}: they are names of classes. If each is a 0 "
            "or 1 for one of several labels, write them as a list: [0, 1, 1]"
        )
    lists = [list_of(cell) for cell in cells]
    if all(map(looks_like_list, cells)):
        if not any(labels is not None for labels in lists) and all(map(is_plain_name, cells)):
            return tables  # classes with names in brackets
        notes.append(
            f"{column} holds lists written as text: they are read as lists of labels "
            f"(dataset.problem={SINGLE_LABEL.name} keeps them as names)"
        )
        return {s: [_parsed(table, faults) for table in parts] for s, parts in tables.items()}
    if any(lists) or any(map(begins_list, cells)):
        fault = "a label that is a list written as text, where others are names"
        return {
            split: [_without(table, _is_list, fault, faults) for table in parts]
            for split, parts in tables.items()
        }
    return tables


def _is_list(cell: Any) -> bool:
    return bool(list_of(cell)) or (isinstance(cell, str) and begins_list(cell))


def _parsed(table: Table, faults: Faults) -> Table:
    cells = [cell if (labels := list_of(cell)) is None else labels for cell in table.labels]
    wrong = [i for i, cell in enumerate(cells) if isinstance(cell, str)]
    fault = "a label that looks like a list and cannot be read as one"
    return faults.take_out(wrong, fault, replace(table, labels=cells), HOW_TO_WRITE)


def _without(
    table: Table,
    is_wrong: Callable[[Any], Any],
    fault: str,
    faults: Faults,
    advice: str = HOW_TO_WRITE,
) -> Table:
    wrong = [i for i, cell in enumerate(table.labels) if is_wrong(cell)]
    return faults.take_out(wrong, fault, table, advice)


def _mapped(tables: Tables, change: Callable[[Any], Any]) -> Tables:
    return {
        split: [replace(t, labels=[change(cell) for cell in t.labels]) for t in parts]
        for split, parts in tables.items()
    }


def _cells(tables: Iterable[Table]) -> list[Any]:
    return [label for table in tables for label in table.labels if label is not None]


# One 0 or 1 for each label ----------------------------------------------------------------------


def _width(tables: Sequence[Table], column: str) -> int | None:
    """How many labels the lists of train have a 0 or 1 for; None: they hold labels."""
    cells = _cells(tables)
    if not cells or not all(isinstance(cell, list) for cell in cells):
        return None
    if any(table.order is not None for table in tables):
        return None  # the names of a `ClassLabel`
    if not all(_is_bit(part) for cell in cells for part in cell):
        return None
    lengths = sorted({len(cell) for cell in cells})
    if len(lengths) == 1:
        return lengths[0] if lengths[0] > 1 else None
    twice = next((cell for cell in cells if len(set(map(float, cell))) < len(cell)), None)
    if twice is None:
        return None  # the labels 0 and 1
    raise UserError(
        ExitCode.DATA,
        f"{column} holds lists of 0 and 1 such as {twice} with "
        f"{', '.join(map(str, lengths[:5]))} entries. Give every row one 0 or 1 for each label, or "
        "the list of its labels.",
    )


def _refuse_other_lists(tables: Sequence[Table], column: str) -> None:
    """Stop at lists of equal length that are no sets of labels: an entry comes twice, or a share.

    Raises:
        UserError: with one of them.
    """
    lists = [cell for cell in _cells(tables) if isinstance(cell, list)]
    if not lists or len({len(cell) for cell in lists}) > 1 or len(lists[0]) < 2:
        return
    twice = next((cell for cell in lists if len(set(map(str, cell))) < len(cell)), None)
    named = any(table.order is not None for table in tables)
    parts = {part for cell in lists for part in cell}
    numbers = all(isinstance(part, int | float) for part in parts)
    words = all(isinstance(part, str) and part.strip().lower() in YES_OR_NO for part in parts)
    if numbers and any(isinstance(p, float) and not p.is_integer() for p in parts):
        advice = (
            "If they are shares of labels, write a column for each and set "
            f"dataset.problem={SOFT.name} dataset.label=[COLUMN,COLUMN]."
        )
        example = lists[0]
    elif twice is not None and (numbers or words or named):
        advice = "Give every row one 0 or 1 for each label, or the list of its labels."
        example = twice
    else:
        return
    raise UserError(
        ExitCode.DATA,
        f"{column} holds lists of equal length such as {example}, which are neither a 0 or 1 "
        f"for each label nor labels. {advice}",
    )


def _about_bits(tables: Sequence[Table], width: int, column: str, named: bool) -> str:
    names = "" if named else "; dataset.label_names={0: …, 1: …} names them"
    single = all(sum(BITS[bit] for bit in cell) == 1 for cell in _cells(tables))
    classes = (
        f"; every row has exactly one of them, and dataset.problem={SINGLE_LABEL.name} reads them "
        "as classes"
    )
    return (
        f"{column} holds a 0 or 1 for each of {width} labels: a list says "
        f"which of them a text has{names}{classes if single else ''}"
    )


def _is_bit(part: Any) -> bool:
    return isinstance(part, str | int | float) and part in BITS


def _is_bits(cell: Any, width: int) -> bool:
    return isinstance(cell, list) and len(cell) == width and all(map(_is_bit, cell))


def _named_bits(table: Table, width: int, faults: Faults) -> Table:
    wrong = [i for i, cell in enumerate(table.labels) if not _is_bits(cell, width)]
    table = faults.take_out(wrong, f"a label that is not a list of {width} values 0 or 1", table)
    labels = [[str(i) for i, bit in enumerate(cell) if BITS[bit]] for cell in table.labels]
    return replace(table, labels=labels, order=tuple(map(str, range(width))))


# One label a row, in a list ---------------------------------------------------------------------


def _single_labels(tables: Tables, faults: Faults) -> Tables:
    """The label of each list of one, or of one 1 among zeros; other lists are faults."""
    cells = _cells(next(iter(tables.values())))
    if not any(isinstance(cell, list) for cell in cells):
        return tables
    widths = {len(cell) for cell in cells if isinstance(cell, list)}
    width = max(widths) if len(widths) == 1 else 1

    def label(cell: Any) -> Any:
        if not isinstance(cell, list):
            return cell
        if len(cell) == 1:
            return cell[0]
        bits = [BITS[bit] for bit in cell] if _is_bits(cell, width) else []
        return str(bits.index(True)) if sum(bits) == 1 else cell

    fault = "a list of labels that is not of exactly one"
    advice = f"dataset.problem={OF_COLUMNS.name} takes any number."
    return {
        split: [
            faults.take_out(
                [i for i, cell in enumerate(table.labels) if isinstance(label(cell), list)],
                fault,
                table,
                advice,
            )
            for table in parts
        ]
        for split, parts in _mapped(tables, label).items()
    }
