"""Calls the tokenizer, some texts at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from nlp_transfer.config.choices import LongText
from nlp_transfer.tokenization.model_inputs import BACKEND_NAMES, Inputs, Pairs, Texts
from nlp_transfer.tokenization.stored_tokens import TokenBatch, join_batches
from nlp_transfer.tokenization.windows import LongTextPolicy, cut_into_parts, special_tokens

BATCH = 1000  # texts of one call


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
    """What the tokenizer gives for some texts or pairs, by input name; None: of whole texts."""
    if _is_plain(tokenizer):
        backend = tokenizer.backend_tokenizer
        backend.no_padding()
        backend.encode_special_tokens = tokenizer.split_special_tokens
        if longest is None:
            backend.no_truncation()
        else:
            backend.enable_truncation(longest, direction=tokenizer.truncation_side)
        questions = list(first) if second is None else list(zip(first, second, strict=True))
        rows = backend.encode_batch_fast(questions)
        names = [name for name in BACKEND_NAMES if name in tokenizer.model_input_names]
        return {name: [getattr(row, BACKEND_NAMES[name]) for row in rows] for name in names}
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


def _is_plain(tokenizer: Any) -> bool:
    """Whether the tokenizer gives what its backend, which works on all cores, gives alone.

    Calling the tokenizer itself takes 40% longer, all of that on one core.
    """
    kind, fast = type(tokenizer), PreTrainedTokenizerFast
    return (
        isinstance(tokenizer, fast)
        and kind._encode_plus is fast._encode_plus
        and kind.__call__ is fast.__call__
    )


def special_tokens_of(tokenizer: Any) -> tuple[int, int]:
    """How many tokens a tokenizer puts before a text and behind it."""
    return special_tokens(lambda text, added: tokenizer(text, add_special_tokens=added).input_ids)


def encode_split(
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
