"""Writes the tokens of a split into files batch by batch, and opens these without reading them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.lib import format as npy

from nlp_transfer.tokenization.model_inputs import Inputs
from nlp_transfer.tokenization.windows import LongTextPolicy, windows_of

ABOUT = "about.npz"


@dataclass(frozen=True)
class TokenBatch:
    """The tokens of some texts, one text after the other."""

    flat: dict[str, np.ndarray]
    """By input name, int32 [tokens]."""
    lengths: np.ndarray
    """int64 [texts], tokens of each."""
    cut: int
    """How many of the texts have lost their end."""


def join_batches(batches: Sequence[TokenBatch]) -> tuple[Inputs, int]:
    """The inputs of all texts in memory, and how many of the texts are cut."""
    flat = {n: np.concatenate([batch.flat[n] for batch in batches]) for n in batches[0].flat}
    return Inputs(flat, _offsets(batches)), sum(batch.cut for batch in batches)


def write_batches(folder: Path, batches: Iterable[TokenBatch]) -> None:
    """Write texts as they are tokenized; only one batch and the lengths are in memory."""
    written: list[TokenBatch] = []
    with ExitStack() as stack:
        files: dict[str, BinaryIO] = {}
        for batch in batches:
            for name, tokens in batch.flat.items():
                if name not in files:
                    files[name] = stack.enter_context((folder / f"{name}.npy").open("wb"))
                    _write_header(files[name], 0)
                tokens.tofile(files[name])
            written.append(TokenBatch({}, batch.lengths, batch.cut))
        offsets = _offsets(written)
        for file in files.values():
            file.seek(0)
            _write_header(file, int(offsets[-1]))  # numpy leaves room for a longer number
    cut = sum(batch.cut for batch in written)
    np.savez(folder / ABOUT, offsets=offsets, cut=cut, documents=np.array([], dtype=np.int64))


def write_inputs(folder: Path, inputs: Inputs, cut: int) -> None:
    """Write inputs that are in memory."""
    for name, flat in inputs.flat.items():
        np.save(folder / f"{name}.npy", flat)
    np.savez(folder / ABOUT, offsets=inputs.offsets, cut=cut, documents=inputs.documents)


def read_inputs(folder: Path, long_text: LongTextPolicy) -> tuple[Inputs, int]:
    """What was written, and how many texts are cut.

    The files are mapped: the system reads tokens when they are needed, and drops them where memory
    is short.
    """
    with np.load(folder / ABOUT) as about:
        offsets, cut, documents = about["offsets"], int(about["cut"]), about["documents"]
    files = sorted(folder.glob("*.npy"))
    flat = {file.stem: np.asarray(np.load(file, mmap_mode="r")) for file in files}
    return Inputs(flat, offsets, windows_of(documents, long_text)), cut


def _offsets(batches: Sequence[TokenBatch]) -> np.ndarray:
    lengths = np.concatenate([batch.lengths for batch in batches])
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _write_header(file: BinaryIO, tokens: int) -> None:
    kind = npy.dtype_to_descr(np.dtype(np.int32))
    npy.write_array_header_1_0(file, {"descr": kind, "fortran_order": False, "shape": (tokens,)})
