"""Documents are taken out of an encoded split and added to it without a token lost."""

from __future__ import annotations

import numpy as np

from nlp_transfer.config.choices import WindowPooling
from nlp_transfer.tokenization.encoded import EncodedSplit
from nlp_transfer.tokenization.model_inputs import Inputs
from nlp_transfer.tokenization.subsets import append_documents, select_documents
from nlp_transfer.tokenization.windows import Windows


def split_of(lengths: list[int], documents: list[int] | None = None) -> EncodedSplit:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    windows = None
    if documents is not None:
        windows = Windows(np.array(documents), WindowPooling.mean)
    labels = np.arange(len(lengths) if documents is None else documents[-1] + 1)
    inputs = Inputs({"input_ids": np.arange(offsets[-1])}, offsets, windows)
    return EncodedSplit(inputs, labels, 0)


def tokens_of(split: EncodedSplit) -> list[list[int]]:
    return [split.inputs[row]["input_ids"].tolist() for row in range(len(split.inputs))]


def test_documents_keep_their_tokens_and_labels() -> None:
    split = split_of([2, 3, 1])
    some = select_documents(split, np.array([2, 0]))
    assert tokens_of(some) == [[5], [0, 1]]
    assert some.labels.tolist() == [2, 0]
    assert tokens_of(select_documents(split, split.labels != 1)) == [[0, 1], [5]]
    both = append_documents(some, select_documents(split, np.array([1])))
    assert tokens_of(both) == [[5], [0, 1], [2, 3, 4]]
    assert both.labels.tolist() == [2, 0, 1]


def test_a_document_keeps_all_its_windows() -> None:
    split = split_of([2, 2, 1, 3], documents=[0, 0, 1, 2])
    some = select_documents(split, np.array([2, 0]))
    assert tokens_of(some) == [[5, 6, 7], [0, 1], [2, 3]]
    assert some.inputs.documents.tolist() == [0, 1, 1]
    both = append_documents(some, select_documents(split, np.array([1])))
    assert both.inputs.documents.tolist() == [0, 1, 1, 2]
    assert len(both.labels) == 3
