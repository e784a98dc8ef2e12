"""Gives a sweep (`--multirun`) a folder, and says at its end what its jobs gave."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from nlp_transfer.config.constants import RUNS
from nlp_transfer.errors import UserError

SWEEP_FLAGS = ("--multirun", "-m")


def is_sweep(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for several runs."""
    return bool(set(SWEEP_FLAGS) & set(arguments))


def in_a_sweep() -> bool:
    """Whether Hydra runs this job as one of several."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def sweep_folder(arguments: Sequence[str]) -> Path:
    """`runs/sweep-<hash>`: the same sweep has the same folder with every launcher."""
    overrides = [a for a in arguments if not a.startswith(("-", "hydra"))]
    digest = hashlib.sha256("\0".join(overrides).encode()).hexdigest()[:12]
    return Path(RUNS) / f"sweep-{digest}"


def note_job(metric: str, run: Path, best: float, previous_state: str) -> None:
    """Write down what the present job gave.

    Args:
        metric: the one that `best` is, on validation.
        previous_state: what the run's folder held before: absent, unfinished or finished.
    """
    _write({"metric": metric, "best": best, "run": str(run), "begun": previous_state})


def note_failure(error: UserError) -> None:
    """Write down that the present job could not be done."""
    _write({"error": str(error)})


def summary(folder: Path) -> str:
    """The jobs of a sweep, one line each, by what sets them apart."""
    files = sorted(folder.glob("job-*.json"))
    jobs = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    succeeded = [job for job in jobs if "error" not in job]
    reused = sum(job["begun"] == "finished" for job in succeeded)
    lines = [
        f"Sweep {folder}: {len(jobs)} jobs, {reused} were finished before, "
        f"{len(jobs) - len(succeeded)} failed."
    ]
    common = set.intersection(*(set(job["overrides"]) for job in jobs)) if jobs else set()
    for job in jobs:
        differs = " ".join(override for override in job["overrides"] if override not in common)
        result = (
            f"{job['metric']} {job['best']:.4f}  {job['run']}" if job in succeeded else "failed"
        )
        lines.append(f"  {result}  {differs}")
    return "\n".join(lines)


def _write(entry: dict[str, object]) -> None:
    """One file for each job: several may end at once."""
    hydra = HydraConfig.get()
    typed = list(hydra.overrides.task)
    file = Path(hydra.sweep.dir) / f"job-{int(hydra.job.num):04d}.json"
    file.write_text(json.dumps({"overrides": typed, **entry}, indent=2), encoding="utf-8")
