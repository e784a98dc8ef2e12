"""Cuts texts into model inputs and pads them into batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nlp_transfer.batches import IGNORED_LABEL
from nlp_transfer.config import TokenizationConfig
from nlp_transfer.data import Corpus
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inputs import Inputs, joined, pad_rows
from nlp_transfer.machine import Machine, first_decides, logger, wait
from nlp_transfer.stores import find_or_make, forget_the_oldest

BATCH = 1000  # texts of one tokenizer call
ABOUT = "about.npz"
KEEP_GB = 1.0  # of tokens, for later runs; those not used for longest go first


@dataclass(frozen=True)
class EncodedSplit:
    """One split: inputs, labels by row, and how many texts lost their end."""

    inputs: Inputs
    labels: np.ndarray  # int64 [rows]
    cut: int


@dataclass(frozen=True)
class Encoded:
    """Every split of a corpus, and how its rows are padded."""

    splits: dict[str, EncodedSplit]
    collator: Collator


@dataclass(frozen=True)
class Collator:
    """Pads rows to the longest of their batch, on the tokenizer's own side."""

    padding: dict[str, int]  # value by input name
    side: str  # right or left

    def pad(self, inputs: Inputs, rows: np.ndarray | list[int]) -> dict[str, torch.Tensor]:
        """Tensors [rows, longest], int64, with `attention_mask`; hidden states stay float32."""
        batch = pad_rows(inputs, rows, self.padding, self.side)
        return {name: torch.from_numpy(array) for name, array in batch.items()}


class TrainingRows(torch.utils.data.Dataset[dict[str, Any]]):
    """Rows of a split as `PlannedBatches` asks for them: `(row, counts)`."""

    def __init__(self, split: EncodedSplit, collator: Collator) -> None:
        self.split = split
        self.collator = collator

    def __len__(self) -> int:
        return len(self.split.inputs)

    def __getitems__(self, rows: list[tuple[int, bool]]) -> dict[str, torch.Tensor]:
        """One micro-batch; a row that does not count has the label that the loss ignores."""
        batch = self.collator.pad(self.split.inputs, [row for row, _ in rows])
        labels = [self.split.labels[row] if counts else IGNORED_LABEL for row, counts in rows]
        return {**batch, "labels": torch.tensor(labels, dtype=torch.int64)}


def encode(
    corpus: Corpus,
    tokenizer: Any,
    max_tokens: int,
    config: TokenizationConfig,
    machine: Machine | None = None,
) -> Encoded:
    """Tokenize every split with the checkpoint's own tokenizer.

    Args:
        max_tokens: the longest input the checkpoint can read.
        machine: where given, the first process tokenizes, keeps the tokens (`tokenization.folder`)
            and the others, and later runs, read them.

    Raises:
        UserError: if `tokenization.max_length` is more than that.
    """
    length = input_length(max_tokens, config)
    splits = {}
    for name, rows in corpus.splits.items():
        texts, labels = list(rows["text"]), np.array(rows["label"], dtype=np.int64)
        if machine is None or not tokenizer.is_fast:  # of a slow one, the content cannot be named
            inputs, cut = _encode_split(texts, tokenizer, length)
        else:
            inputs, cut = _kept(texts, tokenizer, length, Path(config.folder), machine)
        splits[name] = EncodedSplit(inputs, labels, cut)
    for name, split in splits.items():
        if split.cut:
            share = split.cut / len(split.labels)
            logger.info(
                "%s: %d texts (%.1f%%) are cut at %d tokens", name, split.cut, 100 * share, length
            )
    return Encoded(splits, collator_of(tokenizer))


def input_length(max_tokens: int, config: TokenizationConfig) -> int:
    """Tokens of the longest input: what was asked, or all the checkpoint can read."""
    if config.max_length is not None and config.max_length > max_tokens:
        raise UserError(
            ExitCode.CONFIG,
            f"tokenization.max_length={config.max_length} is more than the {max_tokens} tokens "
            "this checkpoint can read. Lower it, or leave it out.",
        )
    return config.max_length or max_tokens


def encode_texts(
    texts: Sequence[str], tokenizer: Any, length: int, pairs: Sequence[str] | None = None
) -> Inputs:
    """Texts as inputs of at most `length` tokens, special tokens included.

    Args:
        pairs: the second text of each, for models of text pairs.
    """
    columns: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(texts), BATCH):
        tokens = tokenizer(
            list(texts[start : start + BATCH]),
            None if pairs is None else list(pairs[start : start + BATCH]),
            truncation=True,
            max_length=length,
            padding=False,
            return_attention_mask=False,
        )
        for name, rows in tokens.items():
            columns.setdefault(name, []).extend(np.asarray(row, dtype=np.int32) for row in rows)
    return joined(columns)


def collator_of(tokenizer: Any) -> Collator:
    """How inputs of this tokenizer are padded."""
    padding = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    return Collator(padding, tokenizer.padding_side)


def _encode_split(texts: list[str], tokenizer: Any, length: int) -> tuple[Inputs, int]:
    """The inputs, and how many texts are cut."""
    # One token of room tells a text that fits exactly from one that was cut.
    roomy = encode_texts(texts, tokenizer, length + 1)
    cut = int((roomy.lengths > length).sum())
    return encode_texts(texts, tokenizer, length) if cut else roomy, cut


def _kept(
    texts: list[str], tokenizer: Any, length: int, home: Path, machine: Machine
) -> tuple[Inputs, int]:
    """The same, computed by one process of a node and once for all runs."""

    def write(folder: Path) -> None:
        inputs, cut = _encode_split(texts, tokenizer, length)
        for name, flat in inputs.flat.items():
            np.save(folder / f"{name}.npy", flat)
        np.savez(folder / ABOUT, offsets=inputs.offsets, cut=cut)

    folder = home / first_decides(lambda: _key(texts, tokenizer, length), machine)
    find_or_make(folder, write, lambda _: None, machine, lambda: None)
    with np.load(folder / ABOUT) as about:
        offsets, cut = about["offsets"], int(about["cut"])
    flat = {file.stem: np.load(file) for file in sorted(folder.glob("*.npy"))}
    wait(machine)
    if machine.is_first_of_node:
        forget_the_oldest(home, KEEP_GB)
    return Inputs(flat, offsets), cut


def _key(texts: list[str], tokenizer: Any, length: int) -> str:
    """The content that tokens are a function of."""
    about = [type(tokenizer).__name__, length, tokenizer.padding_side, tokenizer.truncation_side]
    digest = hashlib.sha256(repr(about).encode())
    itself = json.loads(tokenizer.backend_tokenizer.to_str())
    for name in ("truncation", "padding"):  # as the last call left them
        itself.pop(name, None)
    digest.update(json.dumps(itself).encode())
    for text in texts:
        digest.update(f"\0{text}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:24]
