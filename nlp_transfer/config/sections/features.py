"""How the output of frozen layers is stored."""

from __future__ import annotations

from dataclasses import dataclass

from nlp_transfer.config.choices import Cache, StoredAs
from nlp_transfer.config.constants import RUNS


@dataclass
class FeaturesConfig:
    """How the output of a stage's frozen layers is kept between epochs."""

    cache: Cache = Cache.auto
    """Whether the output of frozen layers is stored on disk."""
    dtype: StoredAs = StoredAs.float32
    """The precision of stored features."""
    max_gb: float | None = None
    """The most disk space for one store, in GB; null: what is free."""
    folder: str = f"{RUNS}/.features"
    """Where features are stored."""
    keep_gb: float = 5.0
    """GB of features kept for later runs; those unused for longest are removed first."""
