"""Recognises lists in the label column: written as text, and of one 0 or 1 a label (multi-hot)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from nlp_transfer.config.schema import AUTO, DatasetConfig
from nlp_transfer.data.faults import Faults
from nlp_transfer.data.table import Table
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems import problem_named
from nlp_transfer.problems.detection import OF_COLUMNS
from nlp_transfer.problems.regression import REGRESSION
from nlp_transfer.problems.single_label import SINGLE_LABEL

WRITTEN_LIST = re.compile(r"\s*[\[({].*[\])}]\s*", re.DOTALL)
NUMPY_NUMBERS = re.compile(r"\[\s*(\d+\.?\s*)+\]")
NUMPY_TEXTS = re.compile(r"['\"]\s+['\"]")  # Python would join the two
BITS = {0: False, 1: True, "0": False, "1": True}
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?")

Tables = dict[str, list[Table]]


def read_label_lists(
    tables: Tables, config: DatasetConfig, faults: Faults, notes: list[str]
) -> Tables:
    """The tables with lists where the label column of train holds lists in another form.

    Raises:
        UserError: where lists of 0 and 1 have different lengths.
    """
    if config.problem not in (AUTO, OF_COLUMNS.name) or isinstance(config.label, list):
        return tables
    first = next(iter(tables.values()))
    if config.delimiter is None and _are_written_lists(first):
        notes.append(
            f"dataset.label={config.label!r} holds lists written as text: they are read as lists "
            f"of labels (dataset.problem={SINGLE_LABEL.name} keeps them as names)"
        )
        tables = {s: [_parsed(t, faults) for t in parts] for s, parts in tables.items()}
        first = next(iter(tables.values()))
    width = _width(first, config)
    if width is None:
        return tables
    notes.append(
        f"dataset.label={config.label!r} holds a 0 or 1 for each of {width} labels: a list says "
        "which of them a text has"
        + ("" if config.label_names else "; dataset.label_names={0: …, 1: …} names them")
    )
    return {s: [_named_bits(t, width, faults) for t in parts] for s, parts in tables.items()}


def read_decimal_commas(tables: Tables, config: DatasetConfig) -> Tables:
    """Scores such as `0,5` as `0.5`.

    Raises:
        UserError: where nobody said that they are scores, or a comma may separate thousands.
    """
    first = [label for table in next(iter(tables.values())) for label in table.labels]
    texts = [label for label in first if isinstance(label, str)]
    commas = [label for label in texts if DECIMAL_COMMA.fullmatch(label.strip())]
    if not commas or not all(NUMBER.fullmatch(label.strip()) for label in texts):
        return tables
    if config.problem == AUTO:
        raise UserError(
            ExitCode.DATA,
            f"dataset.label={config.label!r} holds numbers with a decimal comma ({commas[0]!r}): "
            f"are they scores or classes? Set dataset.problem={REGRESSION.name} or "
            f"dataset.problem={SINGLE_LABEL.name}.",
        )
    if problem_named(config.problem).has_labels:
        return tables
    if all(len(label.strip().partition(",")[2]) == 3 for label in commas):
        raise UserError(
            ExitCode.DATA,
            f"dataset.label={config.label!r} holds {commas[0]!r}: the comma may stand before "
            "decimals or between thousands. Write the scores with a decimal point.",
        )
    return {
        split: [replace(t, labels=[_with_point(label) for label in t.labels]) for t in parts]
        for split, parts in tables.items()
    }


def _with_point(label: Any) -> Any:
    comma = isinstance(label, str) and DECIMAL_COMMA.fullmatch(label.strip())
    return label.replace(",", ".") if comma else label


def _cells(tables: Iterable[Table]) -> list[Any]:
    return [label for table in tables for label in table.labels if label is not None]


def _are_written_lists(tables: Iterable[Table]) -> bool:
    cells = _cells(tables)
    return bool(cells) and all(isinstance(c, str) and WRITTEN_LIST.fullmatch(c) for c in cells)


def _parsed(table: Table, faults: Faults) -> Table:
    cells = [_list_of(cell) if isinstance(cell, str) else cell for cell in table.labels]
    wrong = [i for i, cell in enumerate(cells) if isinstance(cell, str)]
    parsed = replace(table, labels=cells)
    return faults.take_out(
        wrong, "a label that looks like a list and cannot be read as one", parsed
    )


def _list_of(cell: str) -> Any:
    """The list that a text holds; the text itself where it is none."""
    text = cell.strip()
    if NUMPY_NUMBERS.fullmatch(text):
        text = "[" + ", ".join(text[1:-1].split()) + "]"
    if NUMPY_TEXTS.search(text):
        return cell
    text = re.sub(r"\btrue\b", "True", re.sub(r"\bfalse\b", "False", text))
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return cell
    if not isinstance(value, list | tuple | set):
        return cell
    plain = all(isinstance(part, str | int | float) for part in value)
    return (sorted(value, key=str) if isinstance(value, set) else list(value)) if plain else cell


def _width(tables: Sequence[Table], config: DatasetConfig) -> int | None:
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
        f"dataset.label={config.label!r} holds lists of 0 and 1 such as {twice} with "
        f"{', '.join(map(str, lengths[:5]))} entries. Give every row one 0 or 1 for each label, or "
        "the list of its labels.",
    )


def _is_bit(part: Any) -> bool:
    return isinstance(part, str | int | float) and part in BITS


def _named_bits(table: Table, width: int, faults: Faults) -> Table:
    wrong = [
        i
        for i, cell in enumerate(table.labels)
        if not (isinstance(cell, list) and len(cell) == width and all(map(_is_bit, cell)))
    ]
    table = faults.take_out(wrong, f"a label that is no list of {width} times 0 or 1", table)
    labels = [[str(i) for i, bit in enumerate(cell) if BITS[bit]] for cell in table.labels]
    return replace(table, labels=labels, order=tuple(map(str, range(width))))
