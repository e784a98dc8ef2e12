"""Recognises labels that are numbers with a unit, which no score may have: `85%`, `$1,200`."""

from __future__ import annotations

import re
from collections.abc import Collection

from nlp_transfer.data.labels.column import LabelColumn
from nlp_transfer.problems.base import integer

FEWEST = 10  # different labels; fewer may be steps of a scale, as in `3 stars`
MONEY = r"[$€£¥₹]|USD|EUR|GBP|CHF"
WITH_UNIT = re.compile(
    rf"\s*(?P<before>{MONEY})?\s*[+-]?\d[\d.,'\s]*"
    rf"(?P<after>%|‰|°[CF]?|{MONEY}|/\s*\d+|[^\W\d]{{1,12}})?\s*"
)


def advice_about_scores(labels: Collection[str], take_scores: str = LabelColumn.take_scores) -> str:
    """What to do where the labels look like scores, as a sentence after a space; else nothing.

    Args:
        labels: the different labels of train.
        take_scores: of their `LabelColumn`.
    """
    if len(labels) < FEWEST:
        return ""
    if all(integer(label) is not None for label in labels):
        return f" If they are scores, {take_scores}."
    matches = [WITH_UNIT.fullmatch(label) for label in labels]
    units = {(m["before"], m["after"]) if m else None for m in matches}
    if len(units) > 1 or None in units:
        return ""
    example = min(labels)
    return (
        f" They look like scores that are not written as plain numbers, such as {example!r}: write "
        f"digits and a decimal point alone (1200.5), and {take_scores}."
    )
