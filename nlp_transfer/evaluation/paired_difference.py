"""Compares two sets of answers on the same rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PairedDifference:
    """The mean of a difference over rows, with its standard error."""

    mean: float
    standard_error: float

    @classmethod
    def of(cls, one: np.ndarray, other: np.ndarray) -> PairedDifference:
        """Of `one - other`, row by row: float [rows] each."""
        differences = one - other
        deviation = float(differences.std(ddof=1)) if len(differences) > 1 else np.inf
        return cls(float(differences.mean()), deviation / np.sqrt(len(differences)))

    @property
    def is_lower(self) -> bool:
        """Whether the first is lower by more than the standard error."""
        return self.mean < -self.standard_error

    @property
    def is_higher(self) -> bool:
        """Whether the first is higher by more than the standard error."""
        return self.mean > self.standard_error
