"""How messages name the label column, and what they advise where it holds something else."""

from __future__ import annotations

from dataclasses import dataclass

from nlp_transfer.config.sections.dataset import DatasetConfig


@dataclass(frozen=True)
class LabelColumn:
    """The label column as the user knows it: an option, or an argument."""

    name: str
    """`dataset.label='label'`, or `y` of an estimator."""
    advice: str = "Name the column that holds the labels."
    """What to do where nearly every row has a label of its own."""
    take_scores: str = "set dataset.problem=regression"
    """What to do where the labels are scores."""

    @staticmethod
    def of(config: DatasetConfig) -> LabelColumn:
        """The column that a configuration names."""
        return LabelColumn(f"dataset.label={config.label!r}")
