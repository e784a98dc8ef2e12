"""Says with what a run was made, and what of it is different here."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nlp_transfer.config.schema import Config
from nlp_transfer.runs.identity import local_weights
from nlp_transfer.utils.distributed import ProcessContext

if TYPE_CHECKING:
    import torch

CPUS = Path("/proc/cpuinfo")


def provenance(config: Config, model_config: Any, process: ProcessContext) -> dict[str, Any]:
    """For `run.json`: the versions, the machine and the checkpoint that a run depends on."""
    commit = getattr(model_config, "_commit_hash", None)  # where it comes from the Hub
    return {
        "versions": versions(),
        "machine": machine_of(process),
        "checkpoint": {"commit": commit, "weights": weights_of(config)},
    }


def machine_of(process: ProcessContext) -> dict[str, Any]:
    """What computes: two of the same kind take about the same time."""
    import torch  # inside: commands that only read do not wait for it

    return {
        "processor": _processor(process.device),
        "device": process.device.type,
        "processes": process.world_size,
        "threads": torch.get_num_threads(),
    }


def weights_of(config: Config) -> str | None:
    """SHA-256 of the weights of a checkpoint that is a folder."""
    return local_weights(config) if Path(config.checkpoint.name).is_dir() else None


def differences(there: dict[str, Any], here: dict[str, Any], prefix: str = "") -> list[str]:
    """What two of these do not have in common, in words."""
    lines = []
    for name in sorted({*there, *here}):
        one, other = there.get(name), here.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            lines += differences(one, other, f"{prefix}{name} ")
        elif one != other:
            lines.append(f"{prefix}{name}: {one} there, {other} here")
    return lines


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        import torch

        return torch.cuda.get_device_name(device)
    if CPUS.is_file():
        for line in CPUS.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


VERSIONS = (
    "torch",
    "transformers",
    "datasets",
    "accelerate",
    "evaluate",
    "hydra-core",
    "scikit-learn",
)


def versions() -> dict[str, str]:
    """Of Python and of what a run depends on."""
    return {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}}
