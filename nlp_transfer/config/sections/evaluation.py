"""What is measured."""

from __future__ import annotations

from dataclasses import dataclass, field

from nlp_transfer.config.choices import Refit, Thresholds
from nlp_transfer.config.constants import AUTO


@dataclass
class EvaluationConfig:
    """What is measured, and by what the best epoch is chosen."""

    metrics: list[str] | None = None
    """Names of metrics; null: those of the kind of label."""
    best: str | None = None
    """The metric that chooses the epoch; null: the first of the metrics."""
    test: bool = True
    """Evaluate the test split; false while you compare runs."""
    positive_label: str | None = None
    """The positive label of binary F1, precision and recall; null: the last of two."""
    folds: str = AUTO
    """Folds of cross-validation over train: a number, 0 for none, or auto: four if rows are few."""
    refit: Refit = Refit.auto
    """Train the final model on all rows, once a model without the rows that were cut for validation
    and test has given the figures; auto: with 1,000 to 10,000 rows that are fewer than 200 a
    label, unless you compare runs (evaluation.test=false or dataset.folds)."""
    max_tokens: int | None = None
    """Tokens of one forward pass, padding included; null: by the device."""
    calibrate: bool = True
    """Fold a temperature, fitted on validation or out-of-fold rows, into the last layer."""
    thresholds: Thresholds = Thresholds.auto
    """What the probability is chosen for from which a label is given."""
    wanted_precision: float = 0.9
    """The precision that thresholds=precision keeps."""
    slices: list[str] = field(default_factory=list)
    """Columns of the data; every metric is also computed for each of their values."""
    trust_remote_code: bool = False
    """Run the code of metrics that only the Hub has."""
