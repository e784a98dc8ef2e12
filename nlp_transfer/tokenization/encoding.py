"""Makes model inputs of the texts of every split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from nlp_transfer.config.sections.tokenization import TokenizationConfig
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.data.table import column_of
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.tokenization.batches import encode_split
from nlp_transfer.tokenization.encoded import Collator, Encoded, EncodedSplit
from nlp_transfer.tokenization.model_inputs import PAIRS, Inputs, Pairs, Texts
from nlp_transfer.tokenization.token_cache import TokenCache
from nlp_transfer.tokenization.windows import LongTextPolicy
from nlp_transfer.utils.distributed import ProcessContext
from nlp_transfer.utils.logging import logger


def encode(
    corpus: Corpus,
    tokenizer: Any,
    max_tokens: int,
    config: TokenizationConfig,
    process: ProcessContext | None = None,
) -> Encoded:
    """Tokenize every split with the checkpoint's own tokenizer.

    Args:
        max_tokens: the longest input the checkpoint can read.
        process: where given, the first process tokenizes, keeps the tokens (`tokenization.folder`)
            and the others, and later runs, read them.

    Raises:
        UserError: if `tokenization.max_length` is more than that.
    """
    length, long_text = input_length(max_tokens, config), LongTextPolicy.from_config(config)

    def inputs_of(texts: Texts, name: str) -> tuple[Inputs, int]:
        if tokenizer.split_special_tokens:
            _refuse_endings(texts, tokenizer.eos_token, name)
        if process is None or not tokenizer.is_fast:  # of a slow one, the content cannot be named
            return encode_split(texts, tokenizer, length, long_text)
        return TokenCache(Path(config.folder), tokenizer, length, long_text).encode(texts, process)

    splits, unlabeled = {}, None
    for name, rows in corpus.splits.items():
        inputs, cut = inputs_of(stored_texts(rows), name)
        splits[name] = EncodedSplit(inputs, corpus.references(name), cut)
    if corpus.unlabeled is not None:
        inputs, cut = inputs_of(stored_texts(corpus.unlabeled), "unlabeled")
        unlabeled = EncodedSplit(inputs, np.zeros(len(corpus.unlabeled)), cut)
    for name, split in splits.items():
        if split.inputs.windows is not None:
            rows, documents = len(split.inputs), len(split.labels)
            logger.info("%s: %d texts are read in %d windows", name, documents, rows)
        if split.cut:
            share = split.cut / len(split.labels)
            logger.info(
                "%s: %d texts (%.1f%%) are cut at %d tokens", name, split.cut, 100 * share, length
            )
    return Encoded(splits, collator_of(tokenizer), unlabeled)


def _refuse_endings(texts: Texts, ending: str, split: str) -> None:
    """Refuse texts that hold the end token where a checkpoint answers at that token."""
    columns = (texts.first, texts.second) if isinstance(texts, Pairs) else (texts,)
    rows = [row for row, some in enumerate(zip(*columns, strict=True)) if ending in "".join(some)]
    if rows:
        raise UserError(
            ExitCode.DATA,
            f"{len(rows)} texts of {split} contain {ending!r} (row {rows[0] + 1} of the split "
            "first), which ends a text for this checkpoint. Take it out of them.",
        )


def texts_of(rows: Dataset) -> Texts:
    """The texts of a split, or its pairs, as lists: they can be read in any order."""
    first = rows["text"][:]  # a hundred times as fast as list() of it
    return Pairs(first, rows["text_pair"][:]) if "text_pair" in rows.column_names else first


def stored_texts(rows: Dataset) -> Texts:
    """The same as they are stored, to be read once from the first to the last."""
    first = column_of(rows, "text")
    return Pairs(first, column_of(rows, "text_pair")) if "text_pair" in rows.column_names else first


def select_texts(texts: Texts, rows: np.ndarray | list[int]) -> Texts:
    """Some of the texts or pairs, in the order of `rows`."""
    if isinstance(texts, Pairs):
        return Pairs([texts.first[row] for row in rows], [texts.second[row] for row in rows])
    return [texts[row] for row in rows]


def write_input_settings(model_config: Any, texts: Texts, config: TokenizationConfig) -> None:
    """Write into a classifier's configuration how it reads texts, the same for every command."""
    setattr(model_config, PAIRS, isinstance(texts, Pairs))
    LongTextPolicy.from_config(config).write_to(model_config)


def input_length(max_tokens: int, config: TokenizationConfig) -> int:
    """Tokens of the longest input: what was asked, or all the checkpoint can read."""
    if config.max_length is not None and config.max_length > max_tokens:
        raise UserError(
            ExitCode.CONFIG,
            f"tokenization.max_length={config.max_length} is more than the {max_tokens} tokens "
            "this checkpoint can read. Lower it, or leave it out.",
        )
    return config.max_length or max_tokens


def collator_of(tokenizer: Any) -> Collator:
    """How inputs of this tokenizer are padded."""
    padding = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    return Collator(padding, tokenizer.padding_side)
