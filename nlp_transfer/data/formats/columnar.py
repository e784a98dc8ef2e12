"""Reads Parquet, Arrow (Feather) and ORC."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import pyarrow as pa

from nlp_transfer.data.formats.arrow_types import plain_types
from nlp_transfer.data.formats.orc import stream_of
from nlp_transfer.data.formats.registry import (
    WINDOW,
    ReadOptions,
    Window,
    register_reader,
    unique_names,
)
from nlp_transfer.errors import ExitCode, UserError

ARROW_FILE = b"ARROW1"
FEATHER_1 = b"FEA1"
SHOWN = 10  # categories in a note


@register_reader("parquet", ".parquet")
def read_parquet(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[Window]:
    """Row groups in windows."""
    import pyarrow.parquet as pq  # with the file systems of clouds: 0.05 s

    del name
    table = pq.ParquetFile(_seekable(file), pre_buffer=False)
    schema = table.schema_arrow
    if not table.metadata.num_rows:
        yield _renamed(schema.empty_table(), options)
    for batch in table.iter_batches(WINDOW):
        whole = pa.Table.from_batches([batch]).replace_schema_metadata(schema.metadata)
        yield _renamed(whole, options)


@register_reader("arrow", ".arrow", ".feather")
def read_arrow(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[Window]:
    """An IPC file or stream; `datasets` caches are such streams."""
    source = _seekable(file)
    head = source.read(8)
    source.seek(0)
    if head.startswith(FEATHER_1):
        raise UserError(
            ExitCode.DATA, f"{name} is a Feather file of version 1. Write it again, as version 2."
        )
    if head.startswith(ARROW_FILE):
        container = pa.ipc.open_file(source)
        batches: Any = (container.get_batch(i) for i in range(container.num_record_batches))
    else:
        batches = pa.ipc.open_stream(source)
        container = batches
    yield from _windows(batches, container.schema, options)


@register_reader("orc", ".orc")
def read_orc(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[Window]:
    """Stripes in windows."""
    del name
    batches = stream_of(_seekable(file))
    yield from _windows(batches, next(batches).schema, options)


def _windows(batches: Any, schema: pa.Schema, options: ReadOptions) -> Iterator[pa.Table]:
    empty = True
    for batch in batches:
        table = _renamed(pa.Table.from_batches([batch], batch.schema), options)
        for start in range(0, len(table), WINDOW):
            empty = False
            yield table.slice(start, WINDOW)
    if empty:
        yield _renamed(schema.empty_table(), options)


def _renamed(table: pa.Table, options: ReadOptions) -> pa.Table:
    """The table with names that differ and types that every program knows.

    Raises:
        pyarrow.ArrowInvalid: texts are not UTF-8, or offsets lie outside of a damaged file.
    """
    table.validate(full=True)
    for field in table.schema:
        if pa.types.is_dictionary(field.type) and field.type.ordered:
            _note_order(field.name, table.column(field.name), options)
    table = plain_types(table)
    names = unique_names(table.column_names)
    return table if names == table.column_names else table.rename_columns(names)


def _note_order(name: str, column: pa.ChunkedArray, options: ReadOptions) -> None:
    """Say that categories have an order, if the column is asked for."""
    categories = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
    if name in options.columns and len(categories) > 2:
        order = ",".join(str(category) for category in categories[:SHOWN])
        more = ",…" if len(categories) > SHOWN else ""
        options.note(
            f"{name!r} holds categories with an order ({order}{more}); dataset.problem=ordinal "
            f"'dataset.order=[{order}{more}]' learns how far apart they are"
        )


def _seekable(file: BinaryIO) -> BinaryIO:
    """The file, or its content where it is compressed."""
    plain = isinstance(file, io.BufferedReader) and isinstance(file.raw, io.FileIO)
    return file if plain and file.seekable() else cast(BinaryIO, io.BytesIO(file.read()))
