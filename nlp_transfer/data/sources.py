"""Reads labelled texts from where they are: the Hub, local files, or this package."""

from __future__ import annotations

import glob
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetDict, load_dataset

from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.columns import cells_of
from nlp_transfer.data.formats.read import lines_of
from nlp_transfer.data.formats.registry import (
    ReadOptions,
    is_table_name,
    require_reader,
)
from nlp_transfer.data.formats.whole_table import whole_table
from nlp_transfer.data.labels.column import LabelColumn
from nlp_transfer.data.table import column_of, dataset_of_arrow, no_lines
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.network import fetched, use_cache_if_unreachable

SPLITS = ("train", "validation", "test")
EMBEDDED = "embedded:reviews"
IN_MEMORY = "python:data"  # dataset.name where the tables were given from Python
# What `save_to_disk` leaves: of a `Dataset`, and of a `DatasetDict`.
WORKBOOK = ".xlsx#"
SAVED, SAVED_SPLITS = "state.json", "dataset_dict.json"
SHOWN = 5  # files of a folder in a message


@dataclass(frozen=True)
class Source:
    """One table as it is, and what a person calls it."""

    name: str
    """A file, or the Hub's name."""
    table: Dataset
    lines: Callable[[Sequence[int]], dict[int, int]] = no_lines
    """The line of a file on which each of some rows (from 1 on) begins."""
    notes: tuple[str, ...] = ()
    """What was decided while reading."""
    label_column: LabelColumn | None = None
    """How messages name the labels; None: by the configuration."""

    def cells(self, column: str) -> Sequence[Any]:
        """The cells of a column or nested field."""
        return cells_of(self.table.column_names, column, lambda name: column_of(self.table, name))


def read_splits(config: DatasetConfig, slices: Sequence[str] = ()) -> dict[str, list[Source]]:
    """The tables of every split that the configuration names.

    Args:
        slices: columns that are needed besides those of the configuration.

    Raises:
        UserError: with the file or the name that cannot be read.
    """
    places = {split: config.places(split) for split in SPLITS if config.places(split)}
    if config.name is None:
        columns = (config.text, config.text_pair, config.group, *config.label_columns, *slices)
        options = ReadOptions(
            config.encoding,
            config.separator,
            quoting=config.quoting,
            columns=tuple(c for c in columns if c),
        )
        return {
            split: [s for where in wheres for s in read_files(where, f"dataset.{split}", options)]
            for split, wheres in places.items()
        }
    if config.name == IN_MEMORY:
        raise UserError(
            ExitCode.DATA,
            "The rows were given from Python, so they cannot be read again "
            f"(dataset.name={IN_MEMORY}). In Python, give them again as data={{'train': …}}; on "
            "the command line, name files: dataset=files dataset.train=FILE.",
        )
    names = {split: wheres[0] for split, wheres in places.items()}
    if config.name == EMBEDDED:
        with resources.as_file(resources.files("nlp_transfer.reviews")) as folder:
            return {
                split: [
                    replace(source, name=f"{EMBEDDED}/{where}.csv")  # not a place of this machine
                    for source in read_files(str(folder / f"{where}.csv"), f"dataset.{split}")
                ]
                for split, where in names.items()
            }
    return {split: [read_named(config, where)] for split, where in names.items()}


def read_named(config: DatasetConfig, split: str) -> Source:
    """A split of a dataset of the Hub, or of a folder of `save_to_disk`."""
    assert config.name is not None
    if (Path(config.name) / SAVED_SPLITS).is_file():
        return _saved_split(config.name, split)
    return _read_hub(config, split)


def _saved_split(folder: str, split: str) -> Source:
    saved = DatasetDict.load_from_disk(folder)
    if split not in saved:
        raise UserError(
            ExitCode.DATA,
            f"The saved dataset {folder} has no split {split!r}; it has {', '.join(saved)}.",
        )
    return Source(f"{folder} ({split})", saved[split])


def _read_hub(config: DatasetConfig, split: str) -> Source:
    if config.name and Path(config.name).is_file():
        raise UserError(
            ExitCode.CONFIG,
            f"dataset.name={config.name!r} is a file: type dataset.train={config.name} and leave "
            "out dataset.name.",
        )
    unreachable = use_cache_if_unreachable()
    try:
        table = load_dataset(config.name, config.subset, revision=config.revision, split=split)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        if unreachable is not None:
            reason = [f"the Hub cannot be reached ({unreachable}), and it is not in the cache."]
        raise UserError(
            ExitCode.DATA,
            f"The dataset {config.name!r} (subset {config.subset!r}, split {split!r}) cannot be "
            f"loaded: {reason[0].rstrip('.')}. Check dataset.name, dataset.subset and the split "
            "names, or train on your own files with dataset=files.",
        ) from error
    return Source(config.name or "", table)


def read_files(pattern: str, key: str, options: ReadOptions | None = None) -> list[Source]:
    """The tables of a file, a glob or a folder of `save_to_disk`; `key` is what a person calls it.

    Args:
        pattern: also a URL (`hf://`, `s3://` …) that fsspec can read. A path that exists is that
            path, whatever signs it has; else it is a glob. `book.xlsx#Sheet` names a sheet.

    Raises:
        UserError: with the file that cannot be read.
    """
    options = options or ReadOptions(keys="--")
    if "://" in pattern:
        with fetched(pattern, key) as copies:
            place = pattern.partition("?")[0].rpartition("/")[0]
            return [_read_file(copy, options, f"{place}/{copy.name}") for copy in copies]
    if not Path(pattern).expanduser().exists() and WORKBOOK in pattern.lower():
        pattern, _, sheet = pattern.rpartition("#")
        options = replace(options, sheet=sheet)
    return [_read_file(path, options, name) for path, name in _local_files(pattern, key)]


def refuse_absent_files(config: DatasetConfig) -> None:
    """Stop before anything is read where a file on this machine is not there.

    Raises:
        UserError: with the file.
    """
    for split in (*SPLITS, "unlabeled") if config.name is None else ():
        for place in config.places(split):
            if _is_local(place):
                _local_files(place, f"dataset.{split}")


def refuse_absent_table(place: str, key: str) -> None:
    """The same for one file, which is named by an option.

    Raises:
        UserError: with the file.
    """
    if is_table_name(place) and _is_local(place):
        _local_files(place, key)


def _is_local(place: str) -> bool:
    """Whether a place is a path or glob of this machine, and no sheet of a workbook."""
    return "://" not in place and WORKBOOK not in place.lower()


def _local_files(pattern: str, key: str) -> list[tuple[Path, str]]:
    """The files that a path or a glob means, and their names for messages."""
    path = Path(pattern).expanduser()
    path = path if path.exists() else _in_another_form(path)
    pattern_or_path = str(path) if pattern.startswith("~") else pattern
    if path.exists():
        return [(path, pattern_or_path)]
    paths = sorted(glob.glob(pattern_or_path, recursive=True))  # noqa: PTH207 (patterns may be absolute)
    if not paths:
        raise UserError(
            ExitCode.DATA,
            f"{key}={pattern!r}: there is no such file (seen from {Path.cwd()}).",
        )
    return [(Path(file), file) for file in paths]


def _in_another_form(path: Path) -> Path:
    """A file whose name is the same but for the Unicode form: a Mac writes é as two signs."""
    if path.name.isascii() or not path.parent.is_dir():
        return path
    composed = unicodedata.normalize("NFC", path.name)
    same = (p for p in path.parent.iterdir() if unicodedata.normalize("NFC", p.name) == composed)
    return next(same, path)


def _files_of(folder: Path) -> str:
    """Which files of a folder may be meant; not all where they may be splits."""
    tables = sorted(p.name for p in folder.iterdir() if p.is_file() and is_table_name(p.name))
    if not tables:
        return "it holds no table"
    kinds = {"".join(Path(name).suffixes[-1:]) for name in tables}
    several = [name for name in tables if re.search("test|valid|dev", name, re.IGNORECASE)]
    if several or len(kinds) > 1:
        more = f" and {len(tables) - SHOWN:,} more" if len(tables) > SHOWN else ""
        return f"name the files that are meant: it holds {', '.join(tables[:SHOWN])}{more}"
    return f"name its files, as in '{folder}/*{kinds.pop()}'"


def _read_file(path: Path, options: ReadOptions, name: str) -> Source:
    if (path / SAVED).is_file():
        return Source(name, Dataset.load_from_disk(str(path)))
    if path.is_dir():
        raise UserError(ExitCode.DATA, f"{path} is a folder; {_files_of(path)}.")
    notes: list[str] = []
    options = replace(options, note=notes.append)
    try:
        if path.exists() and not path.is_file():
            raise UserError(
                ExitCode.DATA,
                f"{path} is a pipe or a device: a table is read more than once. Write it into a "
                "file.",
            )
        if not path.stat().st_size:
            raise UserError(ExitCode.DATA, f"{path} is an empty file: expected labelled texts.")
        if not is_table_name(path.name):
            require_reader(str(path))
        table = dataset_of_arrow(whole_table(path, options))
    except (pa.ArrowException, OSError) as error:
        raise UserError(ExitCode.DATA, f"{path} cannot be read: {error}.") from error
    return Source(
        name, table, partial(lines_of, path, options=options), tuple(dict.fromkeys(notes))
    )
