"""Reads Parquet, Arrow (Feather) and ORC."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

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
STORED = ("arrow.bool8", "arrow.uuid", "arrow.fixed_shape_tensor", "arrow.opaque")


@register_reader("parquet", ".parquet")
def read_parquet(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[Window]:
    """Row groups in windows."""
    del name, options
    table = pq.ParquetFile(_seekable(file), pre_buffer=False)
    schema = table.schema_arrow
    if not table.metadata.num_rows:
        yield _renamed(schema.empty_table())
    for batch in table.iter_batches(WINDOW):
        whole = pa.Table.from_batches([batch]).replace_schema_metadata(schema.metadata)
        yield _renamed(whole)


@register_reader("arrow", ".arrow", ".feather")
def read_arrow(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[Window]:
    """An IPC file or stream; `datasets` caches are such streams."""
    del options
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
    yield from _windows(batches, container.schema)


@register_reader("orc", ".orc")
def read_orc(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[Window]:
    """Stripes in windows."""
    from pyarrow import orc

    del name, options
    table = orc.ORCFile(_seekable(file))
    yield from _windows((table.read_stripe(i) for i in range(table.nstripes)), table.schema)


def _windows(batches: Any, schema: pa.Schema) -> Iterator[pa.Table]:
    empty = True
    for batch in batches:
        table = _renamed(pa.Table.from_batches([batch], batch.schema))
        for start in range(0, len(table), WINDOW):
            empty = False
            yield table.slice(start, WINDOW)
    if empty:
        yield _renamed(schema.empty_table())


def _renamed(table: pa.Table) -> pa.Table:
    """The table with names that differ and types that every program knows."""
    for place, field in enumerate(table.schema):
        plain = _plain(table.column(place))
        if plain.type != field.type:
            table = table.set_column(place, pa.field(field.name, plain.type), plain)
    names = unique_names(table.column_names)
    return table if names == table.column_names else table.rename_columns(names)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column without Arrow's newer encodings of the same cells."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType) and kind.extension_name in STORED:
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type)
        if kind.extension_name == "arrow.bool8":
            column = column.cast(pa.bool_())
        return _plain(column)
    if pa.types.is_run_end_encoded(kind):
        return _plain(pa.chunked_array([pc.run_end_decode(chunk) for chunk in column.chunks]))
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        # Not by a cast: that of pyarrow 26 loses cells.
        return pa.chunked_array([pa.array(column.to_pylist(), pa.list_(kind.value_type))])
    if pa.types.is_map(kind) or pa.types.is_union(kind):
        return _cells(column)
    return column


def _cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Maps as lists of pairs, and cells of several types, as far as one column can hold them."""
    cells = column.to_pylist()
    if pa.types.is_map(column.type):
        cells = [
            None if cell is None else [{"key": k, "value": v} for k, v in cell] for cell in cells
        ]
    try:
        return pa.chunked_array([pa.array(cells)])
    except (pa.ArrowException, TypeError, OverflowError):
        # No text and no label: what it is asked for says so.
        return pa.chunked_array(
            [pa.array([None if cell is None else [repr(cell)] for cell in cells])]
        )


def _seekable(file: BinaryIO) -> BinaryIO:
    """The file, or its content where it is compressed."""
    plain = isinstance(file, io.BufferedReader) and isinstance(file.raw, io.FileIO)
    return file if plain and file.seekable() else cast(BinaryIO, io.BytesIO(file.read()))
