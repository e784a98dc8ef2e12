"""Reads labelled texts from where they are: the Hub, local files, or this package."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetDict, load_dataset

from nlp_transfer.config.schema import FILE_SUFFIXES, DatasetConfig
from nlp_transfer.data.tabular import KINDS, Window, lines_of, read_windows
from nlp_transfer.errors import ExitCode, UserError

SPLITS = ("train", "validation", "test")
EMBEDDED = "embedded:reviews"
# What `save_to_disk` leaves: of a `Dataset`, and of a `DatasetDict`.
SAVED, SAVED_SPLITS = "state.json", "dataset_dict.json"


@dataclass(frozen=True)
class Source:
    """One table as it is, and what a person calls it."""

    name: str  # a file, or the Hub's name
    table: Dataset


def read_splits(config: DatasetConfig) -> dict[str, list[Source]]:
    """The tables of every split that was asked for.

    Raises:
        UserError: with the file or the name that cannot be read.
    """
    wanted = {split: getattr(config, split) for split in SPLITS}
    wanted = {split: where for split, where in wanted.items() if where is not None}
    if config.name is None:
        return {split: read_files(where, f"dataset.{split}") for split, where in wanted.items()}
    if config.name == EMBEDDED:
        with resources.as_file(resources.files("nlp_transfer.reviews")) as folder:
            return {
                split: read_files(str(folder / f"{where}.csv"), f"dataset.{split}")
                for split, where in wanted.items()
            }
    if (Path(config.name) / SAVED_SPLITS).is_file():
        saved = DatasetDict.load_from_disk(config.name)
        return {split: [_saved_split(config.name, saved, where)] for split, where in wanted.items()}
    return {split: [_read_hub(config, where)] for split, where in wanted.items()}


def _saved_split(folder: str, saved: DatasetDict, split: str) -> Source:
    if split not in saved:
        raise UserError(
            ExitCode.DATA,
            f"The saved dataset {folder} has no split {split!r}; it has {', '.join(saved)}.",
        )
    return Source(f"{folder} ({split})", saved[split])


def _read_hub(config: DatasetConfig, split: str) -> Source:
    try:
        table = load_dataset(config.name, config.subset, revision=config.revision, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            ExitCode.DATA,
            f"The dataset {config.name!r} (subset {config.subset!r}, split {split!r}) cannot be "
            f"loaded: {reason[0]} Check dataset.name, dataset.subset and the split names, "
            "or train on your own files with dataset=files.",
        ) from error
    return Source(config.name or "", table)


def read_files(pattern: str, key: str) -> list[Source]:
    """The tables of a file, a glob or a folder of `save_to_disk`; `key` is what a person calls it.

    Args:
        pattern: also a URL (`hf://`, `s3://` …) that fsspec can read.

    Raises:
        UserError: with the file that cannot be read.
    """
    if "://" in pattern:
        with _fetched(pattern, key) as copies:
            place = pattern.rpartition("/")[0]
            return [Source(f"{place}/{copy.name}", _read_file(copy)) for copy in copies]
    paths = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (patterns may be absolute)
    if not paths:
        raise UserError(
            ExitCode.DATA,
            f"{key}={pattern!r}: there is no such file (seen from {Path.cwd()}).",
        )
    return [Source(path, _read_file(Path(path))) for path in paths]


@contextmanager
def _fetched(url: str, key: str) -> Iterator[list[Path]]:
    """Copies of what a URL names, for as long as they are read."""
    with tempfile.TemporaryDirectory() as aside:
        options = {"cache_storage": aside, "same_names": True}
        try:
            found = fsspec.open_local(f"simplecache::{url}", simplecache=options)
        except Exception as error:  # noqa: BLE001 (each file system has errors of its own)
            reason = "there is no such file" if isinstance(error, IndexError) else str(error)
            raise UserError(
                ExitCode.DATA, f"{key}={url!r} cannot be read: {reason or type(error).__name__}."
            ) from error
        yield sorted(map(Path, [found] if isinstance(found, str) else found))


def _read_file(path: Path) -> Dataset:
    if (path / SAVED).is_file():
        return Dataset.load_from_disk(str(path))
    suffix = path.suffix.lower()
    if suffix not in FILE_SUFFIXES:
        raise UserError(
            ExitCode.DATA, f"{path} is not one of the known kinds: {', '.join(FILE_SUFFIXES)}."
        )
    try:
        if not path.stat().st_size:
            raise UserError(ExitCode.DATA, f"{path} is an empty file: expected labelled texts.")
        if suffix == ".parquet":
            return Dataset(pq.read_table(path))  # whole: its schema may know the labels' names
        with path.open("rb") as file:
            windows = list(read_windows(file, KINDS[suffix], str(path)))
        return Dataset(_one_table(windows, path))
    except (pa.ArrowException, OSError) as error:
        raise UserError(ExitCode.DATA, f"{path} cannot be read: {error}.") from error


def _one_table(windows: list[Window], path: Path) -> pa.Table:
    """All rows; of JSON lines every column with one type, which they must fit."""
    if all(isinstance(window, pa.Table) for window in windows):
        return pa.concat_tables(windows) if windows else pa.table({})
    rows = [row for window in windows for row in window]
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _typed([row.get(name) for row in rows], name, path) for name in names})


def _typed(cells: list[Any], name: str, path: Path) -> pa.Array:
    try:
        return pa.array(cells)
    except (pa.ArrowException, OverflowError) as error:
        kinds = [type(cell).__name__ for cell in cells]
        first = next(i for i, cell in enumerate(cells) if cell is not None)
        numbers = {"int", "float"}
        other = next(
            (
                i
                for i, kind in enumerate(kinds)
                if kind not in ("NoneType", kinds[first]) and not {kind, kinds[first]} <= numbers
            ),
            None,
        )
        if other is None:  # lists of different things, or numbers too large
            message = f"{path}: the cells of {name!r} do not fit into one column: {error}."
            raise UserError(ExitCode.DATA, message) from error
        lines = lines_of(str(path), [first + 1, other + 1])
        raise UserError(
            ExitCode.DATA,
            f"{path}, line {lines[other + 1]}: {name!r} holds {cells[other]!r}, where line "
            f"{lines[first + 1]} holds {cells[first]!r}. Write all as texts, or all as numbers.",
        ) from error
