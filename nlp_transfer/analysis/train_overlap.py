"""Which labelled texts a run has learned from already."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset

from nlp_transfer.config.loading import read_config
from nlp_transfer.data.corpus import load_run_corpus
from nlp_transfer.data.near_duplicates import keys_of
from nlp_transfer.errors import UserError
from nlp_transfer.runs.names import CONFIG_FILE
from nlp_transfer.utils.text import percent

MOST_BYTES = 200_000_000  # of files: more take longer to read again than most texts to answer


def overlap_note(folder: Path, rows: Dataset, split: str) -> str | None:
    """A sentence about rows that are in the run's train, too.

    None where there are none, and where train cannot be read again: of an exported folder, of data
    from Python or the Hub, of files that were moved or are larger than `MOST_BYTES`.

    Args:
        rows: with the columns text, and text_pair of pairs.
        split: as the rows are called.
    """
    if not (folder / CONFIG_FILE).is_file():
        return None
    config = read_config(folder / CONFIG_FILE)
    files = [Path(place) for place in config.dataset.places("train")]
    if config.dataset.name is not None or not all(file.is_file() for file in files):
        return None
    if sum(file.stat().st_size for file in files) > MOST_BYTES:
        return None
    try:
        train = set(keys_of(load_run_corpus(config).splits["train"]))
    except UserError:  # the files have changed since
        return None
    known = sum(key in train for key in keys_of(rows))
    if not known:
        return None
    return (
        f"{known:,} of the {len(rows):,} rows of {split} ({percent(known / len(rows))}) are in the "
        "run's train, too: figures of these rows measure memory."
    )
