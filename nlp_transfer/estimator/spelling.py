"""`dataset.clean_labels` for `y`: labels that differ only in case, spaces or Unicode form."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from nlp_transfer.data.cells import label_key
from nlp_transfer.data.labels.merging import spellings
from nlp_transfer.errors import InputError
from nlp_transfer.estimator.targets import SEVERAL, Form, Targets
from nlp_transfer.estimator.texts import elements


def merged(targets: Targets) -> Targets:
    """The labels, each in its most frequent spelling; columns of 0 and 1 stay as they are.

    Raises:
        InputError: one label is left where a text has one.
    """
    if targets.form is Form.indicator:
        return targets
    labels = targets.classes.tolist()
    several = targets.form is Form.lists
    rows = targets.ids if several else [[number] for number in targets.ids]
    counts = Counter(labels[number] for row in rows for number in row)
    spelt = {label: group[0] for group in spellings(counts) for label in group}
    kept = [label for label in labels if spelt.get(label, label) == label]
    if len(kept) < 2 and not several:
        raise InputError(
            f"y holds one class ({kept[0]!r}) after dataset.clean_labels; expected at least two."
        )
    position = {label: number for number, label in enumerate(kept)}
    new = [position[spelt.get(label, label)] for label in labels]
    ids = [list(dict.fromkeys(new[number] for number in row)) for row in rows]
    classes = np.array(kept, targets.classes.dtype)
    return replace(targets, classes=classes, ids=ids if several else [row[0] for row in ids])


def as_spelt(y: Any, classes: np.ndarray) -> list[Any]:
    """The labels of each row, those of the model in its spelling; [rows]."""
    known = {label_key(label): label for label in classes.tolist()}
    return [
        [known.get(label_key(x), x) for x in label]
        if isinstance(label, SEVERAL)
        else known.get(label_key(label), label)
        for label in elements(y)
    ]
