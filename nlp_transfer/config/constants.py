"""Words with a meaning of their own in the configuration."""

from __future__ import annotations

from typing import Any

# An exported folder answers without OmegaConf, whose word this is for a value that has to be given.
MISSING: Any = "???"
AUTO = "auto"
RUNS = "runs"  # the folder of everything that is written without being told where
CROSS_VALIDATION = "cross_validation"  # the split name of out-of-fold figures
