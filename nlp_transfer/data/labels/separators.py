"""Recognises labels that are several labels with a sign between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

SEPARATORS = "|;,/+&#\n"


def joined_labels(labels: Collection[str]) -> tuple[str, list[str]] | None:
    """The sign between the parts of such labels, and these labels: `a|b`, where `a` is one, too.

    Args:
        labels: the different labels of train.

    Returns:
        None where no sign explains more than half of the labels that hold it.
    """
    for sign in SEPARATORS:
        several = {label: _split(label, sign) for label in labels if sign in label}
        several = {label: parts for label, parts in several.items() if len(parts) > 1}
        times = Counter(part for parts in several.values() for part in parts)
        alone = set(labels) - set(several)
        known = [
            label
            for label, parts in several.items()
            if all(part in alone or times[part] > 1 for part in parts)
        ]
        if len(known) > len(several) / 2:
            return sign, known
    return None


def _split(label: str, sign: str) -> list[str]:
    """The parts of a label; nothing where one is empty or comes twice."""
    parts = [part.strip() for part in label.split(sign)]
    return parts if all(parts) and len(set(parts)) == len(parts) else []
