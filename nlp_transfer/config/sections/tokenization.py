"""How texts become tokens."""

from __future__ import annotations

from dataclasses import dataclass

from nlp_transfer.config.choices import LongText, WindowPooling
from nlp_transfer.config.constants import RUNS


@dataclass
class TokenizationConfig:
    """How texts are cut into tokens."""

    max_length: int | None = None
    """The longest input, in tokens; null: as long as the checkpoint can read."""
    long_text: LongText = LongText.truncate
    """What to do with a text that is longer than an input."""
    stride: int = 0
    """How many tokens neighbouring windows share."""
    window_pooling: WindowPooling = WindowPooling.mean
    """How the logits of a document's windows become one answer."""
    folder: str = f"{RUNS}/.tokens"
    """Where tokens are kept for other processes and later runs."""
