"""Which labels a review offers, and how they are written into the cells of the table."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nlp_transfer.config.loading import read_config
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.cells import is_blank, plain_label
from nlp_transfer.data.labels.written_lists import list_of
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems import problem_named
from nlp_transfer.problems.base import Problem, integer
from nlp_transfer.problems.soft import SOFT
from nlp_transfer.utils.files import not_a_run, read_json

CONFIG_FILE, RUN_FILE = "config.yaml", "run.json"  # as in `runs.folder`, which imports torch
SHARE = re.compile(r"(.+?) (\d\.\d\d)(?:, |$)")  # of the column `probabilities`
MORE = re.compile(r"(?:, )?and [\d,]+ more$")
ROUNDING = 0.006  # of one probability


@dataclass(frozen=True)
class Labels:
    """The labels of a review, and the columns that hold them."""

    names: tuple[str, ...]
    columns: tuple[str, ...]
    """One, or one of 0 and 1 for each label."""
    several: bool = False
    """Whether a text may have any number of them."""
    delimiter: str | None = None
    """Between the labels of one cell; None: a list."""
    written: Mapping[str, str] = field(default_factory=dict)
    """How a label stands in the data, where that is not its name."""

    def read(self, cells: Sequence[Any]) -> tuple[str, ...] | None:
        """The labels of a row by the cells of `columns`; None: it has none yet."""
        if all(is_blank(plain_label(cell)) for cell in cells):
            return None
        if len(self.columns) > 1:
            pairs = zip(self.columns, cells, strict=True)
            return tuple(n for n, c in pairs if str(c).strip().lower() in ("1", "1.0", "true"))
        parts: list[Any] = [cells[0]]
        if self.several and self.delimiter is not None:
            parts = [p.strip() for p in str(cells[0]).split(self.delimiter) if p.strip()]
        elif self.several:
            written = cells[0] if isinstance(cells[0], list) else list_of(cells[0])
            parts = parts if written is None else written
        names = {written: name for name, written in self.written.items()}
        return tuple(names.get(str(part), str(part)) for part in parts)

    def cells(self, answer: tuple[str, ...] | None) -> list[Any]:
        """What stands in `columns` for an answer; None in each where there is none."""
        if answer is None:
            return [None] * len(self.columns)
        if len(self.columns) > 1:
            return ["1" if column in answer else "0" for column in self.columns]
        parts = [self.written.get(label, label) for label in answer]
        if not self.several:
            return parts
        if self.delimiter is None:
            return [parts]
        return [self.delimiter.join(parts) or self.delimiter]


def labels_of_run(folder: Path) -> tuple[Labels, DatasetConfig]:
    """Of a finished run, in its order.

    Raises:
        UserError: if it is none, or its texts have scores or shares, which are no labels.
    """
    if not (folder / CONFIG_FILE).is_file() or not (folder / RUN_FILE).is_file():
        raise UserError(
            ExitCode.CONFIG,
            f"--run {not_a_run(folder)}: expected {CONFIG_FILE} and {RUN_FILE} in it.",
        )
    dataset, run = read_config(folder / CONFIG_FILE).dataset, read_json(folder / RUN_FILE)
    problem = problem_named(run["problem"])
    _refuse_scores(problem, folder)
    names = {name: written for written, name in (dataset.label_names or {}).items()}
    columns = tuple(dataset.label_columns)
    labels = Labels(tuple(run["labels"]), columns, problem.several, dataset.delimiter, names)
    return labels, dataset


def _refuse_scores(problem: Problem, folder: Path) -> None:
    if not problem.has_labels or problem is SOFT:
        raise UserError(
            ExitCode.CONFIG,
            f"The texts of {folder} have {problem.rows_have}; expected labels, which the page "
            "gives by keys. Fill in the column in a spreadsheet.",
        )


def labels_of_shares(cells: Sequence[Any], file: Path) -> tuple[str, ...]:
    """The labels that the column `probabilities` names, where it names all of them.

    Raises:
        UserError: it does not, or they are not of one label a text.
    """
    labels: set[str] = set()
    for cell in cells:
        shares = shares_of(cell)
        total = sum(share for _, share in shares)
        if MORE.search(str(cell)) or abs(total - 1) > ROUNDING * max(len(shares), 1):
            raise UserError(
                ExitCode.CONFIG,
                f"The column 'probabilities' of {file} does not name every label of texts with "
                f"one label each ({str(cell)[:80]!r}). Name the run that the file is from: --run "
                "FOLDER.",
            )
        labels.update(label for label, _ in shares)
    return tuple(in_order(labels))


def shares_of(cell: Any) -> list[tuple[str, float]]:
    """Labels with their probabilities, as `suggest` writes them: `spam 0.81, ham 0.19`."""
    text = MORE.sub("", "" if cell is None else str(cell))
    return [(label, float(share)) for label, share in SHARE.findall(text)]


def in_order(labels: set[str]) -> list[str]:
    """Numbers by their value, else by name."""
    numbers = {label: integer(label) for label in labels}
    if all(number is not None for number in numbers.values()):
        return sorted(labels, key=lambda label: int(label))
    return sorted(labels)


def as_text(value: Any) -> str:
    """A cell for the page."""
    nested = isinstance(value, dict | list)
    return json.dumps(value, ensure_ascii=False, default=str) if nested else str(value)
