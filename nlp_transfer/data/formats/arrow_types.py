"""Columns of Arrow in types that `datasets`, pandas and every writer know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

INTERVAL = pa.month_day_nano_interval()
STRANGE: tuple[Callable[[pa.DataType], bool], ...] = (
    *(pa.types.is_map, pa.types.is_union, pa.types.is_run_end_encoded, pa.types.is_list_view),
    *(pa.types.is_large_list_view, pa.types.is_decimal32, pa.types.is_decimal64),
)
NO_LABEL = pa.list_(pa.list_(pa.string()))
# Extension types whose storage is what a person means; that of others (the months since 1970 of a
# `Period`, say) would be taken for something else.
STORED = ("arrow.bool8", "arrow.uuid", "arrow.fixed_shape_tensor", "arrow.json", "arrow.opaque")


def plain_types(table: pa.Table) -> pa.Table:
    """The table without Arrow's newer encodings, extension types and types that few programs read.

    The cells stay what they are, as far as a plain column can hold them; where none can, each is a
    list of a list with its `repr`, which is no text and no label: an error says so if it is needed.
    """
    for place, field in enumerate(table.schema):
        column = plain_column(table.column(place))
        if column.type != field.type:
            table = table.set_column(place, pa.field(field.name, column.type), column)
    return table


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """One column, see `plain_types`."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType) and kind.extension_name in STORED:
        chunks = [chunk.storage for chunk in column.chunks]
        column = pa.chunked_array(chunks, kind.storage_type)
        if kind.extension_name == "arrow.bool8":
            column = column.cast(pa.bool_())
        return plain_column(column)
    if pa.types.is_run_end_encoded(kind):
        import pyarrow.compute as pc  # it documents every function: 0.03 s

        chunks = [pc.run_end_decode(chunk) for chunk in column.chunks]
        return plain_column(pa.chunked_array(chunks, kind.value_type))
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        # Not by a cast: that of pyarrow 26 loses cells.
        return plain_column(pa.chunked_array([pa.array(column.to_pylist(), _list(kind))]))
    return column if _is_plain(kind) else _cells(column)


def _list(kind: pa.DataType) -> pa.DataType:
    return pa.list_(kind.value_type)


def _is_plain(kind: pa.DataType) -> bool:
    """Whether every program knows a type, and those inside it."""
    if isinstance(kind, pa.BaseExtensionType) or kind == INTERVAL:
        return False
    if any(check(kind) for check in STRANGE):
        return False
    if pa.types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    return all(_is_plain(kind.field(i).type) for i in range(kind.num_fields))


def _has_extension(kind: pa.DataType) -> bool:
    """Whether cells are stored as something that they do not mean."""
    inside = (kind.field(i).type for i in range(kind.num_fields))
    return isinstance(kind, pa.BaseExtensionType) or any(map(_has_extension, inside))


def _cells(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Maps as lists of pairs, and cells of several types, as far as one column can hold them."""
    cells = column.to_pylist()
    if pa.types.is_map(column.type):
        cells = [
            None if cell is None else [{"key": k, "value": v} for k, v in cell] for cell in cells
        ]
    try:
        array = None if _has_extension(column.type) else pa.array(cells)
    except (pa.ArrowException, TypeError, OverflowError):
        array = None
    if array is None or not _is_plain(array.type):
        array = pa.array([None if c is None else [[repr(c)]] for c in cells], NO_LABEL)
    return pa.chunked_array([array])


def array_of(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """A column of texts or numbers, as `pa.array` makes it.

    That asks first whether it was given a column of pandas, and imports pandas to know: 0.3 s.
    """
    if kind == pa.string():
        builder = pa.lib.StringBuilder()
        builder.append_values(list(values))
        return builder.finish()
    if kind == pa.float64():
        numbers = np.array([0.0 if value is None else value for value in values], dtype=np.float64)
        present = np.array([value is not None for value in values], dtype=bool)
        bits = None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little"))
        return pa.Array.from_buffers(kind, len(numbers), [bits, pa.py_buffer(numbers)])
    return pa.array(values, kind)


def whole_array(values: list[Any], kind: pa.DataType | None) -> pa.Array:
    """The values as a column; of a type that is known only where it holds them whole.

    `pa.array` makes 0.5 an integer and leaves out fields of objects.
    """
    array = pa.array(values)
    if kind is None or array.type == kind:
        return array
    if not _holds(kind, array.type):
        raise TypeError(f"{array.type} is no {kind}")
    return pa.array(values, kind)


def _holds(kind: pa.DataType, other: pa.DataType) -> bool:
    """Whether a type has a place for everything that another one holds."""
    if kind == other or pa.types.is_null(other):
        return True
    if pa.types.is_list(kind) and pa.types.is_list(other):
        return _holds(kind.value_type, other.value_type)
    if pa.types.is_struct(kind) and pa.types.is_struct(other):
        places = ((field, kind.get_field_index(field.name)) for field in other)
        return all(at >= 0 and _holds(kind.field(at).type, field.type) for field, at in places)
    return pa.types.is_floating(kind) and pa.types.is_integer(other)
