"""Cuts long documents into windows, and joins what is answered to them into one answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nlp_transfer.config.choices import LongText, WindowPooling
from nlp_transfer.config.sections.tokenization import TokenizationConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.tokenization.model_inputs import Inputs, joined

LONG_TEXT = "long_text"  # in the configuration of a classifier: how it reads long texts


@dataclass(frozen=True)
class LongTextPolicy:
    """What is done with texts that are longer than an input."""

    long_text: LongText = LongText.truncate
    stride: int = 0  # tokens that neighbouring windows share
    pooling: WindowPooling = WindowPooling.mean

    @classmethod
    def from_config(cls, config: TokenizationConfig) -> LongTextPolicy:
        """What a run was told."""
        return cls(config.long_text, config.stride, config.window_pooling)

    @classmethod
    def from_model_config(cls, config: Mapping[str, Any]) -> LongTextPolicy:
        """What a `config.json` says the classifier does; folders of other origin cut."""
        entry = config.get(LONG_TEXT)
        if entry is None:
            return cls()
        how, pooling = LongText(entry["how"]), WindowPooling(entry["pooling"])
        return cls(how, entry["stride"], pooling)

    def write_to(self, model_config: Any) -> None:
        """Write it into a classifier's configuration, so that every command reads the same."""
        entry = {"how": self.long_text.value, "stride": self.stride, "pooling": self.pooling.value}
        setattr(model_config, LONG_TEXT, entry)


@dataclass(frozen=True)
class Windows:
    """Which document each row is a window of, and how their answers become one."""

    documents: np.ndarray  # int64 [rows]: 0 0 0 1 2 2 …
    pooling: WindowPooling

    def join(self, values: np.ndarray) -> np.ndarray:
        """Of each window, to those of each document: [rows, n] to [documents, n]."""
        starts = np.flatnonzero(np.diff(self.documents, prepend=-1))
        if self.pooling is WindowPooling.max:
            return np.maximum.reduceat(values, starts)
        return self.average(values)

    def average(self, values: np.ndarray) -> np.ndarray:
        """The mean over the windows of each document."""
        starts = np.flatnonzero(np.diff(self.documents, prepend=-1))
        sums = np.add.reduceat(values.astype(np.float64), starts)
        return (sums / np.bincount(self.documents)[:, None]).astype(values.dtype)


def spans(tokens: int, room: int, stride: int) -> list[tuple[int, int]]:
    """Where the windows of a text begin and end: each as long as there is room, the last shorter.

    As `transformers` cuts them: `stride` tokens of a window come again in the next one.
    """
    windows = [(0, min(room, tokens))]
    while windows[-1][1] < tokens:
        start = windows[-1][0] + room - stride
        windows.append((start, min(start + room, tokens)))
    return windows


def special_tokens(ids: Callable[[str, bool], Sequence[int]]) -> tuple[int, int]:
    """How many tokens a tokenizer puts before a text and behind it.

    Args:
        ids: of a text, with its special tokens or without.
    """
    bare, full = list(ids("a", False)), list(ids("a", True))
    before = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    return before, len(full) - before - len(bare)


def parts_of(
    tokens: int, length: int, around: tuple[int, int], long_text: LongTextPolicy
) -> list[np.ndarray]:
    """Which tokens of a text each of its inputs has.

    Args:
        tokens: of the whole text, the special ones (`around` it) included.
        length: of the longest input.

    Raises:
        UserError: where windows would not come forward.
    """
    if tokens <= length:
        return [np.arange(tokens)]
    if long_text.long_text is LongText.head_tail:
        head = (length + 1) // 2
        return [np.r_[:head, tokens - (length - head) : tokens]]
    before, behind = around
    room = length - before - behind
    if long_text.stride >= room:
        raise UserError(
            ExitCode.CONFIG,
            f"tokenization.stride={long_text.stride} must be less than the {room} tokens of a text "
            f"that a window of {length} has room for.",
        )
    return [
        np.r_[:before, before + start : before + end, tokens - behind : tokens]
        for start, end in spans(tokens - before - behind, room, long_text.stride)
    ]


def cut_into_parts(
    whole: Mapping[str, Sequence[Any]],
    length: int,
    around: tuple[int, int],
    long_text: LongTextPolicy,
) -> Inputs:
    """Texts of which the middle is left out, or which become several rows.

    Args:
        whole: all the tokens of every text, by input name.
    """
    columns: dict[str, list[np.ndarray]] = {name: [] for name in whole}
    documents: list[int] = []
    for document, ids in enumerate(whole["input_ids"]):
        parts = parts_of(len(ids), length, around, long_text)
        documents += [document] * len(parts)
        for name, texts in whole.items():
            row = np.asarray(texts[document], dtype=np.int32)
            columns[name] += [row[part] for part in parts]
    return replace(joined(columns), windows=windows_of(np.array(documents), long_text))


def windows_of(documents: np.ndarray, long_text: LongTextPolicy) -> Windows | None:
    """How the rows belong together; None: every row is a document."""
    if long_text.long_text is LongText.windows:
        return Windows(documents, long_text.pooling)
    return None
