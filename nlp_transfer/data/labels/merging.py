"""Labels that differ only in case, spaces or Unicode form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from nlp_transfer.data.cells import label_key
from nlp_transfer.data.table import Table

SHOWN = 5  # labels in a note


def spellings(counts: Counter[Any]) -> list[list[Any]]:
    """Groups of labels that are spelt nearly alike, the most frequent of each first."""
    groups: dict[Any, list[Any]] = {}
    for label, _ in sorted(counts.items(), key=lambda item: (-item[1], str(item[0]))):
        groups.setdefault(label_key(label), []).append(label)
    return [group for group in groups.values() if len(group) > 1]


def merge_labels(
    tables: dict[str, list[Table]], notes: list[str], known: Iterable[str] = ()
) -> dict[str, list[Table]]:
    """Every label in its spelling of `known`, else its most frequent one of train, else of all."""
    rows = Counter(_labels(table for parts in tables.values() for table in parts))
    # What decides counts more than all others together.
    train = Counter(known) or Counter(_labels(tables.get("train", ())))
    rows.update(dict.fromkeys(train, 0))
    counts = Counter({label: train[label] * rows.total() + count for label, count in rows.items()})
    merged = {label: group[0] for group in spellings(counts) for label in group[1:]}
    if not merged:
        return tables
    examples = ", ".join(
        f"{old!r} ({rows[old]}) → {new!r}" for old, new in list(merged.items())[:SHOWN]
    )
    more = f" and {len(merged) - SHOWN} more" if len(merged) > SHOWN else ""
    notes.append(f"dataset.clean_labels=true merges {examples}{more}")

    def clean(label: Any) -> Any:
        if isinstance(label, list):
            return list(dict.fromkeys(merged.get(part, part) for part in label))
        return merged.get(label, label)

    return {
        split: [replace(t, labels=[clean(label) for label in t.labels]) for t in parts]
        for split, parts in tables.items()
    }


def _labels(tables: Iterable[Table]) -> Iterable[Any]:
    for table in tables:
        for label in table.labels:
            yield from label if isinstance(label, list) else [label]
