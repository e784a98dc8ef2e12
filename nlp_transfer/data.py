"""Turns a Hub dataset or local files into a `Corpus`; owns the label contract.

One order of labels for the whole program: the dataset's `ClassLabel` if it has one, otherwise the
names sorted, integers as integers. It travels into `config.id2label` of every checkpoint.
"""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from datasets import ClassLabel, Dataset, load_dataset

from nlp_transfer.config import FILE_SUFFIXES, DatasetConfig
from nlp_transfer.errors import ExitCode, UserError

SPLITS = ("train", "validation", "test")
UNLABELLED = -1  # how the Hub marks the rows of a split whose labels are kept secret
EMBEDDED = "embedded:reviews"


@dataclass(frozen=True)
class Corpus:
    """Labelled texts with our column names: `text` (str), `label` (int, index into `labels`).

    `splits` has train and validation, and test where there is one.
    """

    splits: dict[str, Dataset]
    labels: tuple[str, ...]
    fingerprint: str  # of every text and label in every split, and of the label names
    notes: tuple[str, ...]  # what was decided on the way, for the log

    @property
    def has_test(self) -> bool:
        """Whether there are labelled rows that played no part in choosing the model."""
        return "test" in self.splits


def load_corpus(config: DatasetConfig, seed: int) -> Corpus:
    """Read, check and complete the splits.

    Raises:
        UserError: with the file, the rows and what to do.
    """
    notes: list[str] = []
    raw = {split: _our_columns(table, split, config) for split, table in _read(config).items()}
    raw = _drop_unlabelled(raw, notes)
    names = _label_names(raw["train"], config)
    splits = {split: _with_label_ids(table, split, names) for split, table in raw.items()}
    splits = _cut_missing_splits(splits, config, seed, notes)
    if config.limit is not None and config.limit < len(splits["train"]):
        part = stratified_part(np.array(splits["train"]["label"]), config.limit, seed)
        splits["train"] = splits["train"].select(part)
        notes.append(f"train is limited to {config.limit} rows, stratified by label")
    _refuse_one_class(splits["train"], names)
    return Corpus(splits, tuple(names.values()), _fingerprint(splits, names), tuple(notes))


def stratified_part(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Sorted indices of `size` rows, drawn so that every label keeps its share.

    Largest remainders decide about the last rows; a label of the whole stays in the part as long
    as there is room for one row of each.

    Args:
        labels: int [rows].
    """
    generator = np.random.default_rng(seed)
    found, counts = np.unique(labels, return_counts=True)
    quota = counts * size / len(labels)
    take = np.floor(quota).astype(int)
    if size >= len(found):
        take = np.maximum(take, 1)
    # Rows still to give go to the largest remainders; rows too many come from the largest labels.
    while take.sum() < size:
        take[np.argmax(np.where(take < counts, quota - take, -np.inf))] += 1
    while take.sum() > size:
        take[np.argmax(take)] -= 1
    chosen = [
        generator.permutation(np.flatnonzero(labels == label))[:n]
        for label, n in zip(found, take, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def _read(config: DatasetConfig) -> dict[str, Dataset]:
    """The splits that were asked for, with the source's own columns."""
    wanted = {split: getattr(config, split) for split in SPLITS}
    wanted = {split: source for split, source in wanted.items() if source is not None}
    if config.name is None:
        return {split: _read_files(source, f"dataset.{split}") for split, source in wanted.items()}
    if config.name == EMBEDDED:
        folder = resources.files("nlp_transfer.reviews")
        with resources.as_file(folder) as path:
            return {
                split: _read_files(str(path / f"{source}.csv"), f"dataset.{split}")
                for split, source in wanted.items()
            }
    return {split: _read_hub(config, source) for split, source in wanted.items()}


def _read_hub(config: DatasetConfig, split: str) -> Dataset:
    try:
        return load_dataset(config.name, config.subset, revision=config.revision, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            ExitCode.DATA,
            f"The dataset {config.name!r} (subset {config.subset!r}, split {split!r}) cannot be "
            f"loaded: {reason[0]} Check dataset.name, dataset.subset and the split names, "
            "or train on your own files with dataset=files.",
        ) from error


def _read_files(pattern: str, key: str) -> Dataset:
    paths = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (patterns may be absolute)
    if not paths:
        raise UserError(
            ExitCode.DATA,
            f"{key}={pattern!r}: there is no such file (seen from {Path.cwd()}).",
        )
    tables = [_read_file(Path(path)) for path in paths]
    return Dataset(pa.concat_tables(tables, promote_options="default"))


def _read_file(path: Path) -> pa.Table:
    suffix = path.suffix.lower()
    if suffix not in FILE_SUFFIXES:
        raise UserError(
            ExitCode.DATA, f"{path} is not one of the known kinds: {', '.join(FILE_SUFFIXES)}."
        )
    try:
        match suffix:
            case ".parquet":
                return pa.parquet.read_table(path)
            case ".json" | ".jsonl":
                return pa.json.read_json(path)
            case _:
                return _read_csv(path, delimiter="\t" if suffix == ".tsv" else ",")
    except (pa.ArrowException, OSError) as error:
        raise UserError(ExitCode.DATA, f"{path} cannot be read: {error}") from error


def _read_csv(path: Path, delimiter: str) -> pa.Table:
    """Every cell as the text it is: `NA` and `null` are texts, `007` is not 7."""
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with pa.csv.open_csv(path, parse_options=parse) as reader:
        names = reader.schema.names
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
    )
    return pa.csv.read_csv(path, parse_options=parse, convert_options=convert)


def _our_columns(table: Dataset, split: str, config: DatasetConfig) -> Dataset:
    """Rename to `text` and `label`, drop the rest; refuse missing columns and empty cells."""
    source = getattr(config, split)
    for key, column in (("dataset.text", config.text), ("dataset.label", config.label)):
        if column not in table.column_names:
            raise UserError(
                ExitCode.DATA,
                f"{key}={column!r} is not a column of {source} ({split}); it has "
                f"{', '.join(table.column_names)}. Set {key} to one of them.",
            )
    if not len(table):
        raise UserError(ExitCode.DATA, f"The {split} split ({source}) has no rows.")
    texts, labels = table[config.text], table[config.label]
    empty = [i for i, text in enumerate(texts) if text is None or not str(text).strip()]
    _refuse_rows(empty, "an empty text", split, source, texts, labels)
    empty = [i for i, label in enumerate(labels) if label is None or label == ""]
    _refuse_rows(empty, "no label", split, source, texts, labels)
    columns = {"text": [str(text) for text in texts], "label": list(labels)}
    renamed = Dataset.from_dict(columns)
    feature = table.features[config.label]
    return renamed.cast_column("label", feature) if isinstance(feature, ClassLabel) else renamed


def _refuse_rows(  # noqa: PLR0913
    rows: list[int], what: str, split: str, source: str, texts: Any, labels: Any
) -> None:
    if rows:
        shown = "".join(
            f"\n  row {i + 1}: label {labels[i]!r}, text {str(texts[i])[:60]!r}" for i in rows[:3]
        )
        raise UserError(
            ExitCode.DATA,
            f"{len(rows)} of the {len(texts)} rows of {source} ({split}) have {what}:{shown}\n"
            "Mend or remove them.",
        )


def _drop_unlabelled(raw: dict[str, Dataset], notes: list[str]) -> dict[str, Dataset]:
    """A split whose labels are all -1 counts as absent: its labels are secret, not classes."""
    kept = {}
    train_labels = set(raw["train"]["label"])
    for split, table in raw.items():
        labels = {_integer(label) for label in set(table["label"])}
        if labels == {UNLABELLED} and (split == "train" or len(train_labels) > 1):
            if split == "train":
                raise UserError(ExitCode.DATA, "Every label of train is -1: it is not labelled.")
            if UNLABELLED not in {_integer(label) for label in train_labels}:
                notes.append(f"the {split} split has no labels (all are -1) and is left out")
                continue
        kept[split] = table
    return kept


def _label_names(train: Dataset, config: DatasetConfig) -> dict[Any, str]:
    """Every label as it stands in the data, in order, with its name."""
    feature = train.features["label"]
    if isinstance(feature, ClassLabel):
        in_data: list[Any] = list(range(feature.num_classes))
        names = dict(zip(in_data, feature.names, strict=True))
    else:
        found = set(train["label"])
        strange = [label for label in found if not isinstance(label, str | int)]
        if strange:
            raise UserError(
                ExitCode.DATA,
                f"dataset.label={config.label!r} holds {strange[0]!r}; "
                "expected one name or integer a row.",
            )
        integers = all(_integer(label) is not None for label in found)
        key: Callable[[Any], Any] = _integer if integers else str
        in_data = sorted(found, key=key)
        names = {label: str(label) for label in in_data}
    if config.label_names is None:
        return names
    given = config.label_names
    unnamed = [name for label, name in names.items() if str(label) not in given]
    if unnamed or len(set(given.values())) < len(given):
        raise UserError(
            ExitCode.DATA,
            f"dataset.label_names={given} must give a name of its own to each of "
            f"{', '.join(str(label) for label in names)}.",
        )
    return {label: given[str(label)] for label in names}


def _integer(label: Any) -> int | None:
    if isinstance(label, bool):
        return None
    if isinstance(label, int):
        return label
    return int(label) if isinstance(label, str) and re.fullmatch(r"-?\d{1,18}", label) else None


def _with_label_ids(table: Dataset, split: str, names: dict[Any, str]) -> Dataset:
    position = {label: i for i, label in enumerate(names)}
    # A file may hold 1 where another holds "1".
    position.update({str(label): i for label, i in list(position.items())})
    labels = list(table["label"])
    ids = [position.get(label, position.get(str(label), UNLABELLED)) for label in labels]
    unknown = [i for i, label_id in enumerate(ids) if label_id == UNLABELLED]
    known = ", ".join(str(label) for label in names)
    what = f"a label that train does not have (it has {known})"
    _refuse_rows(unknown, what, split, split, table["text"], labels)
    return Dataset.from_dict({"text": list(table["text"]), "label": ids})


def _refuse_one_class(train: Dataset, names: dict[Any, str]) -> None:
    found = set(train["label"])
    if len(found) < 2:
        only = list(names.values())[found.pop()]
        raise UserError(
            ExitCode.DATA,
            f"Every row of train has the label {only!r}; a classifier needs at least two. "
            "Check dataset.label.",
        )


def _cut_missing_splits(
    splits: dict[str, Dataset], config: DatasetConfig, seed: int, notes: list[str]
) -> dict[str, Dataset]:
    """Validation is cut from train, never from test; test only where train is all there is."""
    splits = dict(splits)
    missing = []
    if config.validation is None and config.test is None and config.test_fraction > 0:
        missing.append(("test", config.test_fraction))
    if "validation" not in splits:
        missing.append(("validation", config.validation_fraction))
    rows = len(splits["train"])
    for split, fraction in missing:
        train = splits["train"]
        size = max(round(rows * fraction), 1)
        if size >= len(train):
            raise UserError(
                ExitCode.DATA, f"train has only {rows} rows: no {split} split can be cut from it."
            )
        cut = stratified_part(np.array(train["label"]), size, seed)
        rest = np.setdiff1d(np.arange(len(train)), cut)
        splits["train"], splits[split] = train.select(rest), train.select(cut)
        notes.append(f"{size} rows of train, stratified by label, are the {split} split")
    return splits


def _fingerprint(splits: dict[str, Dataset], names: dict[Any, str]) -> str:
    digest = hashlib.sha256(repr(list(names.values())).encode())
    for split in SPLITS:
        if split in splits:
            digest.update(f"\0{split}\0".encode())
            for text, label in zip(splits[split]["text"], splits[split]["label"], strict=True):
                digest.update(f"{label}\0{text}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
