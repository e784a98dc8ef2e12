"""Collects the rows that cannot be used, so that one message names all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nlp_transfer.data.table import Table
from nlp_transfer.errors import ExitCode, UserError

SHOWN = 3  # rows of a fault that are shown with their texts
MOST = 20  # and so many by their number


@dataclass(frozen=True)
class Fault:
    """Rows of one table that have one thing wrong."""

    sentence: str  # `3 of the 40 rows of reviews.csv (train) have an empty text`
    rows: list[str]  # the first of them, in words
    others: str = ""  # the numbers of some more
    advice: str = ""
    key: str = ""  # whose value `drop` leaves such rows out

    def __str__(self) -> str:
        examples = "".join(f"\n  {row}" for row in self.rows)
        return f"{self.sentence}:{examples}" + (f"\n  and {self.others}" if self.others else "")


@dataclass
class Faults:
    """Every fault of the data so far."""

    faults: list[Fault] = field(default_factory=list)

    def take_out(
        self, rows: Sequence[int], what: str, table: Table, advice: str = "", key: str = ""
    ) -> Table:
        """Note what is wrong with some rows; returns the table without them."""
        if not rows:
            return table
        self.faults.append(replace(fault_of(rows, what, table, advice), key=key))
        return table.without(rows)

    own: bool = True
    """Leaving the context raises what is wrong; else whoever made it does, by `refuse`."""
    drops: bool = True
    """Whether a command can leave rows out (`dataset.on_empty=drop`); else no advice says so."""

    def __enter__(self) -> Faults:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not self.own:
            return
        if isinstance(error, UserError):
            if error.code is ExitCode.DATA:
                self.refuse(error)
        elif error is None:
            self.refuse()

    def refuse(self, also: UserError | None = None) -> None:
        """Raise one error with everything, if there is anything.

        Args:
            also: what ended the reading; it stands last.
        """
        if not self.faults:
            return
        keys = [f"{f.key}=drop leaves such rows out." for f in self.faults if f.key and self.drops]
        texts = [*keys, *(f.advice for f in self.faults if f.advice)]
        advice = "".join(f" {text}" for text in dict.fromkeys(texts))
        parts = [*map(str, self.faults), f"Correct or remove them.{advice}"]
        parts += [str(also)] if also else []
        raise UserError(ExitCode.DATA, "\n".join(parts))


def refuse_rows(rows: Sequence[int], what: str, table: Table) -> None:
    """Raise an error that names rows of a table, if there are any."""
    faults = Faults()
    faults.take_out(rows, what, table)
    faults.refuse()


def have(count: int) -> str:
    """The verb of so many rows.

    >>> [f"{count} of the 9 rows {have(count)} no label" for count in (1, 2)]
    ['1 of the 9 rows has no label', '2 of the 9 rows have no label']
    """
    return "has" if count == 1 else "have"


def fault_of(rows: Sequence[int], what: str, table: Table, advice: str = "") -> Fault:
    """The fault of some rows, with their lines where the file has lines."""
    numbers = [table.extra["row"][i] for i in rows]
    lines = table.lines(numbers[:MOST])
    examples = [
        f"{_line(lines, number)}row {number}: {_label(table, i)}text {_short(table.texts[i])}"
        for i, number in list(zip(rows, numbers, strict=True))[:SHOWN]
    ]
    others = ""
    if numbers[SHOWN:MOST]:
        further = ", ".join(str(lines.get(number, number)) for number in numbers[SHOWN:MOST])
        more = ", …" if len(numbers) > MOST else ""
        others = f"{'lines' if lines else 'rows'} {further}{more}"
    sentence = f"{len(rows)} of the {table.total} rows of {table.source} {have(len(rows))} {what}"
    return Fault(sentence, examples, others, advice)


def _label(table: Table, row: int) -> str:
    return f"label {_short(table.labels[row])}, " if table.labels else ""


def _short(cell: object) -> str:
    text = repr(f"{cell[:60]}…" if isinstance(cell, str) and len(cell) > 60 else cell)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _line(lines: dict[int, int], row: int) -> str:
    return f"line {lines[row]}, " if row in lines else ""
