"""Reads texts without labels (`dataset.unlabeled`) and leaves out repeated ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import pyarrow as pa
from datasets import Dataset

from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.formats.registry import ReadOptions, is_table_name
from nlp_transfer.data.memory import Tables, source_of
from nlp_transfer.data.near_duplicates import (
    are_alike,
    digests_of,
    keys_of,
    near_pairs,
    windows_of_keys,
)
from nlp_transfer.data.sources import IN_MEMORY, Source, read_files, read_named
from nlp_transfer.data.table import dataset_of_arrow, filtered
from nlp_transfer.data.usable_rows import read_texts
from nlp_transfer.errors import ExitCode, UserError

UNLABELED = "unlabeled"
COMPARED_AT_ONCE = 100_000  # texts, with the labelled ones


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
    kept = _new_rows(rows, list(splits.values()))
    notes.append(
        f"unlabeled: {kept.sum():,} of {len(rows):,} texts, none of them a near duplicate of a row "
        "with a label"
    )
    if not kept.any():
        raise UserError(
            ExitCode.DATA,
            f"dataset.unlabeled={config.unlabeled!r} has {len(rows):,} texts, and each is nearly "
            "the same as one with a label: expected other texts. Leave it out.",
        )
    return filtered(rows, kept)


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


def _new_rows(rows: Dataset, splits: Sequence[Dataset]) -> np.ndarray:
    """Which rows are the first of their text and no near duplicate of a labelled one: bool [rows].

    Of each text a number is in memory; the texts themselves are compared with the labelled ones
    some at a time.
    """
    digests = digests_of(chain.from_iterable(windows_of_keys(rows)))
    labelled = list(dict.fromkeys(key for split in splits for key in keys_of(split)))
    _, first = np.unique(digests, return_index=True)
    new = np.zeros(len(rows), dtype=bool)
    new[first] = True
    new &= ~np.isin(digests, digests_of(labelled))
    # As many as there are labelled ones, so that these are not hashed again too often.
    at_once = max(len(labelled), COMPARED_AT_ONCE)
    held: list[str] = []
    fresh: list[np.ndarray] = []
    for keys in windows_of_keys(rows, np.flatnonzero(new)):
        held += keys
        if len(held) >= at_once:
            fresh.append(_have_no_twin(held, labelled))
            held = []
    new[new] = np.concatenate([*fresh, _have_no_twin(held, labelled)])
    return new


def _have_no_twin(keys: Sequence[str], labelled: Sequence[str]) -> np.ndarray:
    """Of texts that differ from the labelled ones, those that are not nearly the same as one."""
    # Labelled ones first: of a bucket with many texts each is compared with the first.
    every, known = [*labelled, *keys], len(labelled)
    alone = np.ones(len(keys), dtype=bool)
    for one, other in near_pairs(every).tolist():
        if one < known <= other and are_alike(every[one], every[other]):
            alone[other - known] = False
    return alone
