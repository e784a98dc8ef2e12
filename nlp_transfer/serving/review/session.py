"""A review in progress: answers, skipped rows, undo, and the table that follows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.serving.review.journal import Journal
from nlp_transfer.serving.review.table import GIVEN, Answer, ReviewTable
from nlp_transfer.utils.files import write_table
from nlp_transfer.utils.locks import Locked, locked

JOURNAL, LOCK = "answers.jsonl", "lock"


class OutOfDate(Exception):
    """The page that answers has not seen what was answered elsewhere."""


@dataclass(frozen=True)
class Mark:
    """What is known of a row: an answer, that it was skipped, or nothing."""

    answer: Answer = None
    skipped: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the row is still to be shown."""
        return self.answer is None and not self.skipped


class ReviewSession:
    """The rows of a table and their answers; each is in the journal before it counts.

    The table itself is written behind the answers (`write`), whole, and at the end.
    """

    def __init__(self, table: ReviewTable, journal: Journal) -> None:
        self.table = table
        self.journal = journal
        self.marks = [Mark(answer) for answer in table.answers()]
        self.history: list[tuple[int, Mark]] = []  # rows and what they were before
        self.seen = 0  # how often something was answered, skipped or undone
        self.warning: str | None = None
        self._changed = False  # whether another program changed the table
        self._lock, self._writing = Lock(), Lock()
        self._signature = _signature(table.file)
        self._written = 0
        self._replay()

    @property
    def row(self) -> int | None:
        """The row that is shown, from 0; None: each has an answer or was skipped."""
        return next((i for i, mark in enumerate(self.marks) if mark.is_open), None)

    def state(self) -> dict[str, Any]:
        """What the page shows now."""
        with self._lock:
            row = self.row
            return {
                "file": self.table.file.name,
                "labels": list(self.table.labels.names),
                "several": self.table.labels.several,
                "suspects": self.table.suspects,
                "rows": len(self.marks),
                "answered": sum(mark.answer is not None for mark in self.marks),
                "skipped": sum(mark.skipped for mark in self.marks),
                "seen": self.seen,
                "can_undo": bool(self.history),
                "row": row,
                "shown": None if row is None else self.table.shown(row),
                "warning": self.warning,
            }

    def mark(self, row: int, seen: int, mark: Mark) -> None:
        """Answer the row that is shown, or skip it; on the disk when this returns.

        Raises:
            OutOfDate: another row is shown by now.
        """
        with self._lock:
            if seen != self.seen or row != self.row:
                raise OutOfDate
            self._record({"row": row, "before": _dump(self.marks[row]), "mark": _dump(mark)})

    def undo(self, seen: int) -> None:
        """Take the last answer back, also one of a session before."""
        with self._lock:
            if seen != self.seen or not self.history:
                raise OutOfDate
            row, before = self.history[-1]
            self._record({"undo": row, "mark": _dump(before)})

    def show_skipped(self, seen: int) -> None:
        """Show the skipped rows once more."""
        with self._lock:
            if seen != self.seen:
                raise OutOfDate
            self._record({"again": True})

    def write(self) -> None:
        """Bring the table up to date with the answers; a table that others changed stays."""
        with self._writing:
            with self._lock:
                seen, answers = self.seen, [mark.answer for mark in self.marks]
            if seen == self._written or self._changed:
                return
            file = self.table.file
            if _signature(file) != self._signature:
                self._changed = True
                self.warning = (
                    f"Another program changed {file.name}. Your answers are kept in "
                    f"{self.journal.path}. Close {file.name} there, stop this server and start it "
                    "again: it adds them to the file as it is then."
                )
                return
            try:
                write_table(self.table.with_answers(answers), file)
            except OSError as error:
                self.warning = (
                    f"{file.name} cannot be written ({error.strerror or error}). Your answers are "
                    f"kept in {self.journal.path}."
                )
                return
            self._signature, self._written, self.warning = _signature(file), seen, None
            with self._lock:
                self.journal.append({"written": seen})

    def is_complete(self) -> bool:
        """Whether every row has an answer, and the table holds them."""
        done = all(mark.answer is not None for mark in self.marks)
        return done and self._written == self.seen

    def describe(self, file: Path, train: Sequence[str]) -> str:
        """What was answered, and what to do now, for the terminal.

        Args:
            train: the files that the run learned from, if they are known.
        """
        state, labels = self.state(), self.table.labels
        rows, answered = state["rows"], state["answered"]
        left = rows - answered
        lines = [f"Rows with an answer in {file}: {answered:,} of {rows:,}."]
        if self.warning is not None:
            return self.warning
        if left:
            lines[0] += f" To go on: the same command ({left:,} left)."
        if not answered:
            return lines[0]
        if self.table.suspects:
            return "\n".join([*lines, self._about_suspects(file)])
        files = ",".join([*(train or ["YOUR_FILES"]), str(file)])
        drop = " dataset.on_unlabeled=drop (leaves the rows without an answer out)" if left else ""
        column = (
            f"dataset.label={labels.columns[0]}" if len(labels.columns) == 1 else "dataset.label=…"
        )
        lines.append(f"Train with 'dataset.train=[{files}]' {column}{drop}")
        return "\n".join(lines)

    def _about_suspects(self, file: Path) -> str:
        changed = sum(
            mark.answer is not None and mark.answer != (self.table.given(row),)
            for row, mark in enumerate(self.marks)
        )
        splits = set(self.table.columns.get("split", ["train"]))
        columns = "dataset.text=text dataset.label=label"
        if self.table.text_pair is not None:
            columns += " dataset.text_pair=text_pair"
        advice = f"It is train with these labels: dataset.train={file} {columns}"
        if splits != {"train"}:
            advice = (
                "It holds rows of several splits (column split): take those of train out of it to "
                "train on them."
            )
        return f"Labels changed: {changed:,}; the column {GIVEN!r} keeps what they were. {advice}"

    def _record(self, entry: dict[str, Any]) -> None:
        self.journal.append(entry)
        self._apply(entry)

    def _apply(self, entry: dict[str, Any]) -> None:
        if "written" in entry:
            self._written = int(entry["written"])
            return
        if "again" in entry:
            self.marks = [Mark() if mark.skipped else mark for mark in self.marks]
        elif "undo" in entry:
            self.history.pop()
            self.marks[entry["undo"]] = _load(entry["mark"])
        else:
            row = entry["row"]
            self.history.append((row, _load(entry["before"])))
            self.marks[row] = _load(entry["mark"])
        self.seen += 1

    def _replay(self) -> None:
        """Continue a review; answers that the table does not hold yet are added to it.

        What a person wrote into the table since the last time it was written stays.
        """
        now = list(self.marks)
        entries = self.journal.entries
        header = {"file": self.table.file.name, "texts": self.table.digest}
        if not entries:
            self.journal.append(header)
            return
        if entries[0] != header:
            self._refuse_other_rows(entries)
            self.journal.start_again(header)
            return
        changes: list[tuple[int, int]] = []  # when, and of which row
        for entry in entries[1:]:
            self._apply(entry)
            changes += [(self.seen, int(entry[key])) for key in ("row", "undo") if key in entry]
        behind = {row for when, row in changes if when > self._written}
        for row, mark in enumerate(self.marks):
            if row not in behind and not (mark.skipped and now[row].answer is None):
                self.marks[row] = now[row]

    def _refuse_other_rows(self, entries: Sequence[dict[str, Any]]) -> None:
        """Raise an error where answers to other rows are in no table yet."""
        written = max((int(entry.get("written", 0)) for entry in entries), default=0)
        if written < sum("written" not in entry for entry in entries[1:]):
            raise UserError(
                ExitCode.DATA,
                f"{self.journal.path} holds answers to other rows than those of {self.table.file}, "
                "which were not written into it. Put the file back as it was, or move "
                f"{self.journal.path.parent} away.",
            )


@contextmanager
def open_session(table: ReviewTable) -> Iterator[ReviewSession]:
    """Continue the review of a table, or begin one; at the end the table is written.

    Raises:
        UserError: another process reviews it.
    """
    folder = table.file.with_name(f"{table.file.name}.review")
    folder.mkdir(exist_ok=True)
    try:
        with locked(folder / LOCK, wait=False):
            journal = Journal(folder / JOURNAL)
            try:
                session = ReviewSession(table, journal)
                yield session
                session.write()
            finally:
                journal.close()
            complete = session.is_complete()
    except Locked as error:
        raise UserError(
            ExitCode.MACHINE,
            f"{table.file} is being reviewed by another process. Use its page, or stop it.",
        ) from error
    if complete:
        shutil.rmtree(folder, ignore_errors=True)


def _signature(file: Path) -> tuple[int, int, int] | None:
    """What changes with a file; None where it is gone."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _dump(mark: Mark) -> Any:
    return "skipped" if mark.skipped else None if mark.answer is None else list(mark.answer)


def _load(mark: Any) -> Mark:
    if mark == "skipped":
        return Mark(skipped=True)
    return Mark() if mark is None else Mark(tuple(mark))
