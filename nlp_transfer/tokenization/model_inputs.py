"""Model inputs without padding, how they are padded, and which of them share a forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nlp_transfer.tokenization.windows import Windows

# Inputs of a model, and what the tokenizers library calls them.
BACKEND_NAMES = {"input_ids": "ids", "token_type_ids": "type_ids"}
PAIRS = "text_pairs"  # in the configuration of a classifier: whether it answers for pairs

# Of one forward pass, padding included: a CPU is at its matrix rate with so few.
CPU_TOKENS = 1024
# Among few rows neighbours differ in length, and smaller batches lose less to padding: of 40 SST-2
# sentences, 256 tokens at a time cost 8.9 ms each by torch and 7.6 by ONNX, 1024 11.2 and 9.8.
FEW_TOKENS = 256
DISTINCT_AT_ONCE = 10_000_000  # tokens that are sorted at once


@dataclass(frozen=True)
class Pairs:
    """Texts that are answered for two by two."""

    first: Sequence[str]
    second: Sequence[str]

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, row: int) -> dict[str, str]:
        """One pair, in the library's own words."""
        return {"text": self.first[row], "text_pair": self.second[row]}


Texts = Sequence[str] | Pairs


def some_texts(texts: Texts, rows: slice) -> Texts:
    """Consecutive texts or pairs, as lists."""
    if isinstance(texts, Pairs):
        return Pairs(texts.first[rows], texts.second[rows])
    return texts[rows]


def join_texts(texts: Texts, others: Texts) -> Texts:
    """Both, single texts or pairs."""
    if isinstance(texts, Pairs):
        assert isinstance(others, Pairs)
        return Pairs([*texts.first, *others.first], [*texts.second, *others.second])
    assert not isinstance(others, Pairs)
    return [*texts, *others]


@dataclass(frozen=True)
class Inputs:
    """Model inputs without padding, one after the other.

    `flat` holds what the tokenizer gives (`input_ids`, `token_type_ids` …), each as one int32 array
    of all tokens, or hidden states in their place, float [tokens, width]; row `i` is
    `flat[name][offsets[i]:offsets[i + 1]]`.
    """

    flat: dict[str, np.ndarray]
    offsets: np.ndarray  # int64 [rows + 1]
    windows: Windows | None = None  # None: every row is a document

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def documents(self) -> np.ndarray:
        """int64 [rows], which document each row is of."""
        return np.arange(len(self)) if self.windows is None else self.windows.documents

    @property
    def shares(self) -> np.ndarray:
        """float64 [rows], how much each row is of its document."""
        return 1 / np.bincount(self.documents)[self.documents]

    def __getitem__(self, row: int) -> dict[str, np.ndarray]:
        start, end = self.offsets[row], self.offsets[row + 1]
        return {name: tokens[start:end] for name, tokens in self.flat.items()}

    @property
    def lengths(self) -> np.ndarray:
        """int64 [rows], tokens of each row."""
        return np.diff(self.offsets)

    @property
    def distinct_tokens(self) -> np.ndarray | None:
        """int32, the tokens that occur, in order; None where hidden states stand in their place."""
        tokens = self.flat.get("input_ids")
        if tokens is None:
            return None
        blocks = range(0, len(tokens), DISTINCT_AT_ONCE)
        parts = [np.unique(tokens[at : at + DISTINCT_AT_ONCE]) for at in blocks]
        return np.unique(np.concatenate(parts))

    def first(self, rows: int) -> Inputs:
        """At most so many rows from the beginning, each by itself."""
        offsets = self.offsets[: rows + 1]
        return Inputs({name: flat[: offsets[-1]] for name, flat in self.flat.items()}, offsets)


def joined(columns: Mapping[str, Sequence[np.ndarray]]) -> Inputs:
    """Inputs of rows that were tokenized one by one; every column has one array a row."""
    sizes = [len(ids) for ids in columns["input_ids"]]
    offsets = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    return Inputs({name: np.concatenate(rows) for name, rows in columns.items()}, offsets)


def pad_rows(
    inputs: Inputs, rows: np.ndarray | list[int], padding: Mapping[str, int], side: str
) -> dict[str, np.ndarray]:
    """Arrays [rows, longest], int64, with `attention_mask`; hidden states stay float32.

    Args:
        padding: the value that fills up, by input name.
        side: right or left.
    """
    starts = np.asarray(rows)
    lengths = inputs.offsets[starts + 1] - inputs.offsets[starts]
    shape = (len(lengths), int(lengths.max()))
    batch = {"attention_mask": np.zeros(shape, dtype=np.int64)}
    for name, tokens in inputs.flat.items():
        kind = np.float32 if np.issubdtype(tokens.dtype, np.floating) else np.int64
        fill = padding.get(name, 0)
        batch[name] = np.full((*shape, *tokens.shape[1:]), fill, dtype=kind)
    for i, (row, n) in enumerate(zip(rows, lengths, strict=True)):
        where = slice(0, n) if side == "right" else slice(shape[1] - n, shape[1])
        batch["attention_mask"][i, where] = 1
        for name, tokens in inputs[int(row)].items():
            batch[name][i, where] = tokens
    return batch


def plan_inference(lengths: np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Length-sorted batches of at most `max_tokens` tokens, padding included; at least one row."""
    batches: list[list[int]] = [[]]
    for row in np.argsort(-lengths, kind="stable"):
        batch = batches[-1]
        if batch and (len(batch) + 1) * lengths[batch[0]] > max_tokens:
            batch = []
            batches.append(batch)
        batch.append(int(row))
    return [np.array(batch) for batch in batches if batch]


def tokens_at_once(device: Any) -> int:
    """Tokens of one forward pass without gradients, padding included.

    A CPU is at its matrix rate with so few, and holds less in memory; a GPU wants more.
    """
    return CPU_TOKENS if device.type == "cpu" else 16384
