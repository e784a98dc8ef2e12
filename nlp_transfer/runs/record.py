"""What a finished run writes down in `run.json`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RunEntries:
    """The entries of `run.json` beside its state, the corpus's fingerprint and the decisions."""

    seed: int
    problem: str
    labels: tuple[str, ...]
    lower_is_better: list[str]
    """Those of the metrics; of one given from Python nobody else knows it."""
    rows: dict[str, int]
    """Documents of each split."""
    cut: dict[str, int]
    """Texts of each split that lost tokens."""
    max_length: int
    """Tokens of the longest input."""
    folds: int
    """Folds of train that were cross-validated; 0: a validation split decided."""
    recipe: str
    """The strategy, with `+names` where label names were training texts."""
    ladder: list[dict[str, Any]]
    """What cross-validation said of each recipe, in the order of their cost."""
    stages: list[dict[str, Any]]
    """Of the model that the figures are of."""
    thresholds: dict[str, Any]
    calibration: dict[str, Any]
    verified: dict[str, Any]
    predictions: dict[str, str]
    """SHA-256 of the rows of each split whose logits are kept."""
    ms_per_text: float | None
    """None where no split was answered by the final model."""
    seconds: float
    finished: str
    """Date and time in UTC, ISO 8601."""
    refit: dict[str, Any] | None = None
    """Rows, seconds and epochs of the final model, where it has also learned from held-out rows."""
    processor_seconds: float | None = None
    """Of `seconds`, what this process computed: CPU seconds over all threads; on a GPU the same."""
    peak_memory: dict[str, int | None] = field(default_factory=dict)
    """Bytes that the process held at most, on the host and on a GPU."""
    budget: dict[str, Any] | None = None
    """What `strategy.max_minutes` has changed, where it is given."""
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    checkpoint: dict[str, Any] = field(default_factory=dict)
