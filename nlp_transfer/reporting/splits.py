"""Which split of `metrics.json` stands for a run, and where its figures come from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from nlp_transfer.config.constants import CROSS_VALIDATION

# The first of these that a run has: the further its rows are from any choice, the better.
REPORTED = ("test", CROSS_VALIDATION, "validation")
SOURCES = {
    "test": "The test split was used once, at the end; choices were made on validation.",
    CROSS_VALIDATION: (
        "Cross-validation: each row was predicted by a model that was not trained on it. "
        "The final model was trained on all rows."
    ),
    "validation": "There is no labelled test split: these figures come from the validation split, "
    "on which choices were made, too.",
}


def reported_split(splits: Collection[str]) -> str:
    """The split whose figures are reported first.

    Args:
        splits: the names of the measured splits, at least one.
    """
    return next((split for split in REPORTED if split in splits), next(iter(splits)))


def ordered(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The splits, the reported one first."""
    first = [split for split in REPORTED if split in metrics]
    return {split: metrics[split] for split in dict.fromkeys([*first, *metrics])}


def split_title(split: str) -> str:
    """The name of a split as a person writes it."""
    return split.replace("_", "-")


def figures_source(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Sentences: on which rows the reported figures were measured, and what to know of them."""
    split = reported_split(metrics)
    source = metrics[split].get("note", SOURCES.get(split, ""))
    if "note" not in metrics[split] and split == "test" and "validation" not in metrics:
        source = "The test split was used once, at the end."
    return " ".join([source, *metrics[split].get("notes", ())]).strip()
