"""Which pretrained encoder."""

from __future__ import annotations

from dataclasses import dataclass

from nlp_transfer.config.choices import Pooling
from nlp_transfer.config.constants import MISSING


@dataclass
class CheckpointConfig:
    """Which pretrained encoder, and how far it is trusted."""

    name: str = MISSING
    """A name on the Hub, a local folder, or embedded:all-MiniLM-L6-v2."""
    revision: str | None = None
    """Branch, tag or commit on the Hub; null: the default branch."""
    pretrained: bool = True
    """false: the same architecture from random weights, to show what pretraining gives."""
    dropout: float | None = None
    """Probability of every dropout layer; null: the checkpoint's own."""
    pooling: Pooling = Pooling.auto
    """What the head reads: the first token or the mean of all tokens."""
    layers: int | None = None
    """How many of the encoder's layers are used, from the bottom; null: all of them. Where only a
    head is solved, pooling=auto then chooses among the last three as well."""
    trust_remote_code: bool = False
    """Run Python code that comes with the checkpoint."""
    allow_pickle: bool = False
    """Load weights that are not safetensors; a pickle can run code when it is read."""
