"""Cuts texts into model inputs and pads them into batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from nlp_transfer.config.choices import LongText
from nlp_transfer.config.sections.tokenization import TokenizationConfig
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.data.table import column_of
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.tokenization.encoded import Collator, Encoded, EncodedSplit
from nlp_transfer.tokenization.model_inputs import PAIRS, Inputs, Pairs, Texts
from nlp_transfer.tokenization.stored_tokens import (
    TokenBatch,
    join_batches,
    read_inputs,
    write_batches,
    write_inputs,
)
from nlp_transfer.tokenization.windows import LongTextPolicy, cut_into_parts, special_tokens
from nlp_transfer.utils.cache import find_or_make, forget_the_oldest
from nlp_transfer.utils.distributed import ProcessContext, broadcast_from_rank_zero, wait
from nlp_transfer.utils.logging import logger

BATCH = 1000  # texts of one tokenizer call
KEEP_GB = 1.0  # of tokens, for later runs; those not used for longest go first


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
            return _encode_split(texts, tokenizer, length, long_text)
        home = Path(config.folder)
        return _encode_once(texts, tokenizer, length, long_text, home, process)

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


def encode_texts(
    texts: Texts, tokenizer: Any, length: int, long_text: LongTextPolicy | None = None
) -> Inputs:
    """Texts as inputs of at most `length` tokens, special tokens included.

    Of a pair, the longer text is cut first.

    Args:
        long_text: what is done with longer texts; None: they are cut.
    """
    long_text = long_text or LongTextPolicy()
    if long_text.long_text is LongText.truncate:
        return join_batches(list(cut_batches(texts, tokenizer, length)))[0]
    assert not isinstance(texts, Pairs), "refused before"
    columns: dict[str, list[np.ndarray]] = {}  # an array for each text
    for start in range(0, len(texts), BATCH):
        for name, rows in _tokens(tokenizer, texts[start : start + BATCH], None, None).items():
            columns.setdefault(name, []).extend(np.asarray(row, dtype=np.int32) for row in rows)
    return cut_into_parts(columns, length, special_tokens_of(tokenizer), long_text)


def cut_batches(texts: Texts, tokenizer: Any, length: int) -> Iterator[TokenBatch]:
    """Texts as inputs of at most `length` tokens, and how many are cut, some texts at a time."""
    firsts, seconds = (texts.first, texts.second) if isinstance(texts, Pairs) else (texts, None)

    for start in range(0, len(firsts), BATCH):
        part = slice(start, start + BATCH)
        first, second = firsts[part], None if seconds is None else seconds[part]
        # One token of room tells a text that fits exactly from one that was cut.
        tokens = _tokens(tokenizer, first, second, length + 1)
        cut = [row for row, ids in enumerate(tokens["input_ids"]) if len(ids) > length]
        if cut:
            pairs = None if second is None else [second[row] for row in cut]
            shorter = _tokens(tokenizer, [first[row] for row in cut], pairs, length)
            for name, rows in tokens.items():
                for row, ids in zip(cut, shorter[name], strict=True):
                    rows[row] = ids
        lengths = np.fromiter(map(len, tokens["input_ids"]), dtype=np.int64)
        flat = {
            name: np.fromiter(chain.from_iterable(rows), dtype=np.int32)
            for name, rows in tokens.items()
        }
        yield TokenBatch(flat, lengths, len(cut))


def _tokens(
    tokenizer: Any, first: Sequence[str], second: Sequence[str] | None, longest: int | None
) -> dict[str, list[list[int]]]:
    """What the tokenizer gives for some texts or pairs; None: of whole texts."""
    tokens = tokenizer(
        first,
        second,
        truncation=False if longest is None else "longest_first",
        max_length=longest,
        padding=False,
        return_attention_mask=False,
        verbose=False,
    )
    return dict(tokens)


def special_tokens_of(tokenizer: Any) -> tuple[int, int]:
    """How many tokens a tokenizer puts before a text and behind it."""
    return special_tokens(lambda text, added: tokenizer(text, add_special_tokens=added).input_ids)


def collator_of(tokenizer: Any) -> Collator:
    """How inputs of this tokenizer are padded."""
    padding = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    return Collator(padding, tokenizer.padding_side)


def _encode_split(
    texts: Texts, tokenizer: Any, length: int, long_text: LongTextPolicy
) -> tuple[Inputs, int]:
    """The inputs, and how many texts lose something."""
    if long_text.long_text is LongText.truncate:
        return join_batches(list(cut_batches(texts, tokenizer, length)))
    inputs = encode_texts(texts, tokenizer, length, long_text)
    if long_text.long_text is LongText.windows:
        return inputs, 0
    # One token of room tells a text that fits exactly from one that was cut.
    return inputs, int((encode_texts(texts, tokenizer, length + 1).lengths > length).sum())


def _encode_once(  # noqa: PLR0913
    texts: Texts,
    tokenizer: Any,
    length: int,
    long_text: LongTextPolicy,
    home: Path,
    process: ProcessContext,
) -> tuple[Inputs, int]:
    """The same, computed by one process of a node and once for all runs."""

    def write(folder: Path) -> None:
        if long_text.long_text is LongText.truncate:
            write_batches(folder, cut_batches(texts, tokenizer, length))
        else:
            write_inputs(folder, *_encode_split(texts, tokenizer, length, long_text))

    folder = home / broadcast_from_rank_zero(
        lambda: _key(texts, tokenizer, length, long_text), process
    )
    find_or_make(folder, write, lambda _: None, process, lambda: None)
    inputs, cut = read_inputs(folder, long_text)
    wait(process)
    if process.is_first_of_node:
        forget_the_oldest(home, KEEP_GB)
    return inputs, cut


def _key(texts: Texts, tokenizer: Any, length: int, long_text: LongTextPolicy) -> str:
    """The content that tokens are a function of."""
    about = [type(tokenizer).__name__, length, tokenizer.padding_side, tokenizer.truncation_side]
    about += [long_text.long_text.value, long_text.stride]
    digest = hashlib.sha256(repr(about).encode())
    itself = json.loads(tokenizer.backend_tokenizer.to_str())
    for name in ("truncation", "padding"):  # as the last call left them
        itself.pop(name, None)
    digest.update(json.dumps(itself).encode())
    for column in (texts.first, texts.second) if isinstance(texts, Pairs) else (texts,):
        digest.update(f"\0\0{len(column)}".encode())
        for text in column:
            digest.update(f"\0{text}".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:24]
