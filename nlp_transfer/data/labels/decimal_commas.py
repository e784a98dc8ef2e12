"""Reads scores with a decimal comma."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from nlp_transfer.config.constants import AUTO
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.table import Table
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems import problem_named
from nlp_transfer.problems.regression import REGRESSION
from nlp_transfer.problems.single_label import SINGLE_LABEL

DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?")


def read_decimal_commas(
    tables: dict[str, list[Table]], config: DatasetConfig
) -> dict[str, list[Table]]:
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
