"""Reads labelled texts from where they are: the Hub, local files, or this package."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from datasets import Dataset, load_dataset

from nlp_transfer.config import FILE_SUFFIXES, DatasetConfig
from nlp_transfer.errors import ExitCode, UserError

SPLITS = ("train", "validation", "test")
EMBEDDED = "embedded:reviews"


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
    return {split: [_read_hub(config, where)] for split, where in wanted.items()}


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
    """The tables of a file or a glob; `key` is what a person calls it.

    Raises:
        UserError: with the file that cannot be read.
    """
    paths = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (patterns may be absolute)
    if not paths:
        raise UserError(
            ExitCode.DATA,
            f"{key}={pattern!r}: there is no such file (seen from {Path.cwd()}).",
        )
    return [Source(path, _read_file(Path(path))) for path in paths]


def _read_file(path: Path) -> Dataset:
    suffix = path.suffix.lower()
    if suffix not in FILE_SUFFIXES:
        raise UserError(
            ExitCode.DATA, f"{path} is not one of the known kinds: {', '.join(FILE_SUFFIXES)}."
        )
    try:
        match suffix:
            case ".parquet":
                return Dataset(pa.parquet.read_table(path))
            case ".json" | ".jsonl":
                return Dataset(pa.json.read_json(path))
            case _:
                return Dataset(_read_csv(path, delimiter="\t" if suffix == ".tsv" else ","))
    except (pa.ArrowException, OSError, UnicodeError) as error:
        hint = " Expected one JSON object on each line." if "json" in suffix else ""
        raise UserError(ExitCode.DATA, f"{path} cannot be read: {error}.{hint}") from error


def _read_csv(path: Path, delimiter: str) -> pa.Table:
    """Every cell as the text it is: `NA` and `null` are texts, `007` is not 7."""
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with pa.csv.open_csv(path, parse_options=parse) as reader:
        names = reader.schema.names
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(ExitCode.DATA, f"{path} has the column {repeated[0]!r} more than once.")
    convert = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
    )
    return pa.csv.read_csv(path, parse_options=parse, convert_options=convert)
