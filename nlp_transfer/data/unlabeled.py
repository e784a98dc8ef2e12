"""Reads texts without labels (`dataset.unlabeled`) and leaves out repeated ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from datasets import Dataset

from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.formats.registry import ReadOptions, is_table_name
from nlp_transfer.data.memory import Tables, source_of
from nlp_transfer.data.near_duplicates import are_alike, keys_of, near_pairs
from nlp_transfer.data.sources import IN_MEMORY, Source, read_files, read_named
from nlp_transfer.data.table import dataset_of_arrow, filtered
from nlp_transfer.data.usable_rows import read_texts
from nlp_transfer.errors import ExitCode, UserError

UNLABELED = "unlabeled"


def read_unlabeled(
    config: DatasetConfig, splits: Mapping[str, Dataset], notes: list[str], tables: Tables | None
) -> Dataset | None:
    """The texts that `dataset.unlabeled` names, with our column names; None: it names none.

    Left out are texts that say the same as one before them, and near duplicates of a row of any
    split: figures are never of a text that was read before, whatever fold or split it is in.

    Args:
        notes: takes what was left out.

    Raises:
        UserError: with the file or rows that cannot be read, or where no text is left.
    """
    if not config.places(UNLABELED):
        return None
    firsts, seconds = read_texts(
        _sources(config, tables), config.text, config.text_pair, config.on_empty, notes
    )
    columns = (
        {"text": firsts} if config.text_pair is None else {"text": firsts, "text_pair": seconds}
    )
    rows = dataset_of_arrow(pa.table(columns))
    kept = _new_rows(keys_of(rows), [key for split in splits.values() for key in keys_of(split)])
    notes.append(
        f"unlabeled: {len(kept):,} of {len(rows):,} texts, none of them a near duplicate of a row "
        "with a label"
    )
    if not len(kept):
        raise UserError(
            ExitCode.DATA,
            f"dataset.unlabeled={config.unlabeled!r} has {len(rows):,} texts, and each is nearly "
            "the same as one with a label: expected other texts. Leave it out.",
        )
    return filtered(rows, np.isin(np.arange(len(rows)), kept))


def _sources(config: DatasetConfig, tables: Tables | None) -> list[Source]:
    if tables is not None and UNLABELED in tables:
        columns = {name for name in (config.text, config.text_pair) if name is not None}
        return [source_of(tables[UNLABELED], f"data[{UNLABELED!r}]", columns)]
    named = config.name if config.name != IN_MEMORY else None
    options = ReadOptions(config.encoding, config.separator, quoting=config.quoting)
    return [
        source
        for place in config.places(UNLABELED)
        for source in (
            [read_named(config, place)]
            if named is not None and not is_table_name(place)
            else read_files(place, "dataset.unlabeled", options)
        )
    ]


def _new_rows(keys: Sequence[str], labelled: Sequence[str]) -> np.ndarray:
    """The first row of each key that is no near duplicate of a labelled one: int [rows]."""
    there = dict.fromkeys(labelled)
    first_of: dict[str, int] = {}
    for row, key in enumerate(keys):
        if key not in there:
            first_of.setdefault(key, row)
    # Labelled ones first: of a bucket with many texts each is compared with the first.
    distinct, known = [*there, *first_of], len(there)
    twins = {
        other
        for one, other in near_pairs(distinct).tolist()
        if one < known <= other and are_alike(distinct[one], distinct[other])
    }
    rows = list(first_of.values())
    return np.array([row for i, row in enumerate(rows) if known + i not in twins], dtype=np.int64)
