"""Tables that are given from Python (`run(config, data=…)`) instead of named by a configuration."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa
from datasets import Dataset, IterableDataset

from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.cells import about_half
from nlp_transfer.data.formats.arrow_types import plain_types
from nlp_transfer.data.sources import IN_MEMORY, SPLITS, Source
from nlp_transfer.data.table import dataset_of_arrow
from nlp_transfer.errors import ExitCode, UserError

Tables = Mapping[str, Any]  # a table of each split, and of texts without labels
TABLES = (*SPLITS, "unlabeled")


def tables_by_split(data: Any) -> Tables:
    """The tables by split; one table alone is train.

    Args:
        data: a mapping from `train`, `validation`, `test` and `unlabeled` to tables (a
            `DatasetDict` is one), or a single table, of train. A table is a `datasets.Dataset`, a
            frame of pandas or polars, an Arrow table, a list of dicts, or a mapping from column
            names to columns.

    Raises:
        UserError: a split has another name, or train is missing.
    """
    if not isinstance(data, Mapping):
        return {"train": data}
    unknown = [str(name) for name in data if name not in TABLES]
    if unknown:
        raise _refuse(
            f"data has {', '.join(map(repr, unknown))}; expected a table for each of train, "
            'validation and test, as in data={"train": frame}; "unlabeled" may be one more. Rename '
            "the splits, or leave out those that are not needed."
        )
    tables = {name: data[name] for name in TABLES if data.get(name) is not None}
    if "train" not in tables:
        raise _refuse('data has no train: expected a table of labelled texts, data={"train": …}.')
    return tables


def with_tables(config: Config, splits: Collection[str]) -> Config:
    """The configuration of a run whose tables are given: it says so, and names no other data.

    Raises:
        UserError: the configuration names data, too.
    """
    dataset = config.dataset
    keys = {"dataset.name": dataset.name} if dataset.name is not None else {}
    if not keys:
        keys = {f"dataset.{name}": getattr(dataset, name) for name in TABLES}
        keys = {key: value for key, value in keys.items() if value not in (None, "train")}
    if keys and dataset.name != IN_MEMORY:
        words = ", ".join(f"{key}={value!r}" for key, value in keys.items())
        raise UserError(
            ExitCode.CONFIG,
            f"data is given, and the configuration names data too ({words}). Leave one of them "
            "out (+task=classify names no data).",
        )
    present = {split: split if split in splits else None for split in TABLES[1:]}
    about: dict[str, Any] = {"name": IN_MEMORY, "train": "train", **present}
    return replace(config, dataset=replace(dataset, **about))


def read_tables(
    tables: Tables, config: DatasetConfig, slices: Sequence[str]
) -> dict[str, list[Source]]:
    """The tables as sources, as `read_splits` gives those of files.

    Args:
        slices: columns that are needed besides those of the configuration.

    Raises:
        UserError: something is not a table, or the cells of a column that is needed do not fit
            into one column.
    """
    wanted = [config.text, config.text_pair, config.group, config.id, *config.label_columns]
    columns = {name for name in (*wanted, *slices) if name is not None}
    return {
        split: [source_of(table, f"data[{split!r}]", columns)]
        for split, table in tables.items()
        if split in SPLITS and getattr(config, split) is not None
    }


def source_of(table: Any, name: str, wanted: set[str]) -> Source:
    """A table that was given, with what a person calls it."""
    return table if isinstance(table, Source) else Source(name, dataset_of(table, name, wanted))


def dataset_of(table: Any, name: str, wanted: Collection[str]) -> Dataset:
    """A table of any library as a `Dataset`; unneeded columns that do not fit are left out.

    Args:
        name: what a person calls the table, for errors.

    Raises:
        UserError: it is not a table, or a wanted column cannot be read.
    """
    if isinstance(table, Dataset):
        return table.with_format(None)
    if isinstance(table, IterableDataset):
        raise _refuse(
            f"{name} is an IterableDataset; expected all rows. Use "
            "Dataset.from_list(list(stream), features=stream.features)."
        )
    if isinstance(table, pd.DataFrame):
        return _from_columns({column: table[column] for column in table.columns}, name, wanted)
    if isinstance(table, pa.Table) or hasattr(table, "__arrow_c_stream__"):
        return dataset_of_arrow(_plain(pa.table(table)))
    if isinstance(table, Mapping):
        return _from_columns(table, name, wanted)
    rows = table if isinstance(table, Iterable) and not isinstance(table, str | bytes) else None
    rows = None if rows is None else list(rows)
    if rows is None or not all(isinstance(row, Mapping) for row in rows):
        kind = type(table).__name__
        if rows:
            first = next(row for row in rows if not isinstance(row, Mapping))
            kind += f" with {type(first).__name__} in it"
        raise _refuse(
            f"{name} is a {kind}; expected a table: a Dataset, a frame of pandas or polars, an "
            "Arrow table, a list of dicts, or a dict of columns."
        )
    names = dict.fromkeys(column for row in rows for column in row)
    return _from_columns({c: [row.get(c) for row in rows] for c in names}, name, wanted)


def _from_columns(columns: Mapping[Any, Any], name: str, wanted: Collection[str]) -> Dataset:
    arrays: dict[str, pa.Array | pa.ChunkedArray] = {}
    for column, cells in columns.items():
        try:
            listed = cells if hasattr(cells, "__array__") else list(cells)
            arrays[str(column)] = pa.array(listed, from_pandas=True)
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            if any(_is_in(each, str(column)) for each in wanted):
                if isinstance(error, UnicodeEncodeError):
                    wrong = about_half(error.object)
                    raise _refuse(f"The column {column!r} of {name}: {wrong}") from error
                raise _refuse(
                    f"The column {column!r} of {name} cannot be read: {error}. Expected one value "
                    "a row, all texts or all numbers."
                ) from error
    lengths = {column: len(array) for column, array in arrays.items()}
    if len({*lengths.values()}) > 1:
        raise _refuse(f"The columns of {name} have different lengths: {lengths}.")
    return dataset_of_arrow(_plain(pa.table(arrays)))


def _plain(table: pa.Table) -> pa.Table:
    """Categories as the values they stand for, string views as strings."""
    for place, field in enumerate(table.schema):
        column = table[place]
        if pa.types.is_dictionary(column.type):
            # Arrow itself cannot cast categories that are string views, as those of polars.
            chunks = [_plain_array(c.dictionary).take(c.indices) for c in column.chunks]
            column = pa.chunked_array(chunks, None if chunks else pa.large_string())
        column = _plain_array(column)
        if column.type != field.type:
            table = table.set_column(place, field.name, column)
    return plain_types(table)


def _plain_array(values: Any) -> Any:
    return values.cast(pa.large_string()) if pa.types.is_string_view(values.type) else values


def _is_in(wanted: str, column: str) -> bool:
    """Whether a column, or a field inside it, is meant."""
    return wanted.strip() == column.strip() or wanted.startswith(f"{column}.")


def _refuse(message: str) -> UserError:
    return UserError(ExitCode.DATA, message)
