"""Words with a meaning of their own in the configuration."""

from __future__ import annotations

from typing import Any

# An exported folder answers without OmegaConf, whose word this is for a value that has to be given.
MISSING: Any = "???"
AUTO = "auto"
RUNS = "runs"  # the folder of everything that is written without being told where
CROSS_VALIDATION = "cross_validation"  # the split name of out-of-fold figures
# Decisions of a run about what a solved head reads: where the encoder stays as it is, and where it
# learns afterwards.
POOLED_LAYER, POOLED_LAST_LAYER = "pooled_layer", "pooled_last_layer"
