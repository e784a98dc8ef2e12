"""Cuts rows into parts: by drawing, by group, or by hash."""

from __future__ import annotations

import numpy as np


def deal(strata: np.ndarray, parts: int, seed: int) -> np.ndarray:
    """The part of each row, 0 to `parts` - 1: drawn, each stratum shared out as evenly as can be.

    Args:
        strata: int [rows], a label say.
    """
    order = np.random.default_rng(seed).permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]
    found = np.empty(len(strata), dtype=np.int64)
    found[order] = np.arange(len(strata)) % parts
    return found
