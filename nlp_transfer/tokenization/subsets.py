"""Takes documents out of an encoded split, and adds others to it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nlp_transfer.tokenization.encoded import EncodedSplit
from nlp_transfer.tokenization.encoding import select_texts
from nlp_transfer.tokenization.model_inputs import Inputs, join_texts


def select_documents(split: EncodedSplit, documents: np.ndarray) -> EncodedSplit:
    """The split with these documents alone, in this order, each with all its windows.

    Args:
        documents: int [documents], or bool over all of them.
    """
    documents = np.flatnonzero(documents) if documents.dtype == bool else documents
    inputs = split.inputs
    if inputs.windows is None:
        rows, windows = documents, None
    else:
        starts = np.searchsorted(inputs.documents, np.arange(len(split.labels) + 1))
        rows = np.concatenate([np.arange(starts[d], starts[d + 1]) for d in documents])
        counts = starts[documents + 1] - starts[documents]
        windows = replace(inputs.windows, documents=np.repeat(np.arange(len(documents)), counts))
    lengths = inputs.lengths[rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    tokens = np.repeat(inputs.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])
    flat = {name: values[tokens] for name, values in inputs.flat.items()}
    texts = None if split.texts is None else select_texts(split.texts, documents)
    return EncodedSplit(Inputs(flat, offsets, windows), split.labels[documents], 0, texts)


def append_documents(split: EncodedSplit, other: EncodedSplit) -> EncodedSplit:
    """The documents of both; those of `other` come last."""
    one, two = split.inputs, other.inputs
    flat = {name: np.concatenate([one.flat[name], two.flat[name]]) for name in one.flat}
    offsets = np.concatenate([one.offsets, one.offsets[-1] + two.offsets[1:]])
    windows = one.windows
    if windows is not None:
        documents = np.concatenate([one.documents, len(split.labels) + two.documents])
        windows = replace(windows, documents=documents)
    labels = np.concatenate([split.labels, other.labels])
    texts = None
    if split.texts is not None and other.texts is not None:
        texts = join_texts(split.texts, other.texts)
    return EncodedSplit(Inputs(flat, offsets, windows), labels, split.cut, texts)
