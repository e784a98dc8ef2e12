"""Where the labelled texts are, and how they are read and split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nlp_transfer.config.choices import Cut, OnLeak, OnUnusable, Quoting
from nlp_transfer.config.constants import AUTO

# What a file of labelled texts may be.
FILE_SUFFIXES = (
    ".csv",
    ".tsv",
    ".jsonl",
    ".ndjson",
    ".json",
    ".parquet",
    ".arrow",
    ".feather",
    ".orc",
    ".xlsx",
)
# A file of one of these kinds may be compressed; a .zip has one member.
COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".zip")


@dataclass
class DatasetConfig:
    """Where the labelled texts are, and what their columns are called."""

    name: str | None = None
    """A dataset of the Hub, a folder of `save_to_disk`, or embedded:reviews; null: files."""
    subset: str | None = None
    """The configuration of a dataset on the Hub, such as sst2 of glue."""
    revision: str | None = None
    """Branch, tag or commit on the Hub; null: the default branch."""
    train: Any = "train"
    """A file, a glob, or a list of these; with dataset.name, a split of that dataset."""
    validation: Any = None
    """As dataset.train; null: cut from train, or cross-validation if rows are few."""
    test: Any = None
    """As dataset.train; null: cut from train if train is all there is."""
    unlabeled: Any = None
    """More texts, without labels: a file, a glob, or a list of these; with dataset.name also a
    split of that dataset. strategy.adapt and strategy.self_training learn from them."""
    text: str = "text"
    """The column of the text."""
    text_pair: str | None = None
    """The column of the second text, if each row is a pair."""
    label: Any = "label"
    """The column of the label; or a list of 0/1 columns, one for each label."""
    problem: str = AUTO
    """The kind of label: single_label, multi_label, regression, ordinal or soft; auto: by what the
    label column holds."""
    order: list[str] | None = None
    """With problem=ordinal, the labels from the lowest to the highest; null: by their integers."""
    delimiter: str | None = None
    """The sign between the labels of one cell, if a text may have several."""
    label_names: dict[str, str] | None = None
    """Names for numbers, as in {0: ham, 1: spam}."""
    label_descriptions: dict[str, str] | None = None
    """A sentence for each label, used as one more training text, as in {billing: refunds}."""
    limit: int | None = None
    """Use only this many rows of train, stratified and drawn by dataset.seed."""
    on_leak: OnLeak = OnLeak.warn
    """What to do with rows of train whose text is also in validation or test."""
    on_empty: OnUnusable = OnUnusable.error
    """What to do with rows whose text (or second text, or group) is empty."""
    on_unlabeled: OnUnusable = OnUnusable.error
    """What to do with rows without a label."""
    clean_labels: bool = False
    """Merge labels that differ only in case, spaces or Unicode form into the most frequent one."""
    encoding: str | None = None
    """The encoding of text files, as cp1252; null: UTF-8, or UTF-16 if the file starts with its
    mark."""
    separator: str | None = None
    """The sign between the cells of CSV and TSV files; null: by the suffix, or as the header shows.
    """
    quoting: Quoting = Quoting.double
    """How a quote inside a quoted cell of CSV and TSV files is written."""
    seed: int = 42
    """Draws the splits, the folds and the rows of dataset.limit; everything else is drawn by seed.
    """
    validation_fraction: float = 0.1
    """The share of train that becomes the validation split, if there is none."""
    test_fraction: float = 0.1
    """The share of train that becomes the test split, if train is all there is; 0: no test split.
    """
    cut: Cut = Cut.stratified
    """How splits are cut from train."""
    id: str | None = None
    """A column that names each row in the report; training ignores it."""
    group: str | None = None
    """A column: rows with the same value stay in one split."""
    folds: int | None = None
    """Divide train into this many folds and use one of them as the test split."""
    fold: int = 0
    """The number of that fold, from 0."""

    def __post_init__(self) -> None:
        """A column may be called 0: YAML and the command line read a number.

        A line end and a tab between labels are typed as they are written in Python.
        """
        self.delimiter = {"\\n": "\n", "\\t": "\t"}.get(self.delimiter or "", self.delimiter)
        if isinstance(self.label, list):
            self.label = [_column_name(name) for name in self.label]
        else:
            self.label = _column_name(self.label)

    def places(self, split: str) -> list[str]:
        """The files or globs of a split, or its name in the dataset; none where it is null."""
        where = getattr(self, split)
        return [] if where is None else [str(w) for w in where] if _is_list(where) else [str(where)]

    @property
    def label_columns(self) -> list[str]:
        """One column, or one for each label."""
        return self.label if isinstance(self.label, list) else [self.label]


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _column_name(name: Any) -> Any:
    return str(name) if isinstance(name, int | float) and not isinstance(name, bool) else name
