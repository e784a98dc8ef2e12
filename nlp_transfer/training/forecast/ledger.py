"""Estimates, and what the runs then took: the next estimate is corrected by it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from nlp_transfer.config.constants import RUNS
from nlp_transfer.runs.folder import State
from nlp_transfer.runs.names import RUN_FILE
from nlp_transfer.runs.provenance import machine_of
from nlp_transfer.utils.distributed import ProcessContext
from nlp_transfer.utils.files import read_json

FILE = Path(RUNS) / ".estimates.jsonl"
LAST = 10  # runs that count
FEWEST = 2  # that correct an estimate
USUAL = (0.75, 1.4)  # of the estimate, where fewer have shown it
MARGIN = 0.1  # on both sides of what was seen


@dataclass(frozen=True)
class Estimate:
    """What was said of a run, before any correction."""

    run: str  # folder
    strategy: str
    seconds: float
    processor: float  # seconds of the processor, without the process that verifies
    memory: int | None  # bytes at the peak, on the host
    machine: dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """An estimate and what its run then took."""

    estimate: Estimate
    seconds: float
    processor: float
    memory: int | None

    @property
    def ratio(self) -> float:
        """Seconds of the processor, seen by estimated: the same on a busy machine."""
        return self.processor / self.estimate.processor


@dataclass(frozen=True)
class Correction:
    """What finished runs say of the estimates on this machine."""

    outcomes: list[Outcome]

    @property
    def factor(self) -> float:
        """By which seconds are multiplied."""
        ratios = [outcome.ratio for outcome in self.outcomes]
        return median(ratios) if len(ratios) >= FEWEST else 1.0

    @property
    def memory_factor(self) -> float:
        """By which the memory of the host is multiplied."""
        ratios = [
            outcome.memory / outcome.estimate.memory
            for outcome in self.outcomes
            if outcome.memory and outcome.estimate.memory
        ]
        return median(ratios) if len(ratios) >= FEWEST else 1.0

    @property
    def bounds(self) -> tuple[float, float]:
        """The range of a corrected estimate, as factors."""
        ratios = [outcome.ratio / self.factor for outcome in self.outcomes]
        if len(ratios) < 2 * FEWEST:
            return USUAL
        return min([1 - MARGIN, *ratios]), max([1 + MARGIN, *ratios])

    def range_of(self, seconds: float) -> tuple[float, float, float]:
        """Corrected seconds with their range: least, expected, most."""
        low, high = self.bounds
        expected = seconds * self.factor
        return low * expected, expected, high * expected


def remember(estimate: Estimate) -> None:
    """Keep an estimate beside the runs for later ones; errors of the disk are ignored."""
    try:
        FILE.parent.mkdir(parents=True, exist_ok=True)
        with FILE.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(estimate)) + "\n")
    except OSError:
        return


def correction(process: ProcessContext) -> Correction:
    """What the last finished runs that were estimated on such a machine say."""
    machine = machine_of(process)
    newest = {e.run: e for e in _read() if e.machine == machine}
    outcomes = [outcome for e in newest.values() if (outcome := _outcome(e)) is not None]
    return Correction(outcomes[-LAST:])


def describe(outcomes: Sequence[Outcome]) -> str:
    """How good the last estimates were, in one sentence."""
    if not outcomes:
        return "No run that was estimated on this machine has finished yet."
    errors = [abs(outcome.ratio - 1) for outcome in outcomes]
    within = sum(error <= 0.25 for error in errors)
    runs = "estimated run" if len(outcomes) == 1 else f"{len(outcomes)} estimated runs"
    return (
        f"The last {runs} took {median(o.ratio for o in outcomes):.2f} "
        f"times the processor's seconds of their estimates ({min(o.ratio for o in outcomes):.2f} "
        f"to {max(o.ratio for o in outcomes):.2f}); {within} of {len(outcomes)} were within 25%."
        f"{' Estimates are multiplied by it.' if len(outcomes) >= FEWEST else ''}"
    )


def _outcome(estimate: Estimate) -> Outcome | None:
    file = Path(estimate.run) / RUN_FILE
    if not file.is_file():
        return None
    about = read_json(file)
    if about.get("state") != State.finished.value or about.get("recipe") is None:
        return None
    if about["recipe"].partition("+")[0] != estimate.strategy.partition("+")[0]:
        return None  # `auto` has taken another one
    memory = (about.get("peak_memory") or {}).get("host")
    processor = about.get("processor_seconds")
    return None if processor is None else Outcome(estimate, about["seconds"], processor, memory)


def _read() -> list[Estimate]:
    if not FILE.is_file():
        return []
    estimates = []
    for line in FILE.read_text(encoding="utf-8").splitlines():
        try:
            estimates.append(Estimate(**json.loads(line)))
        except (ValueError, TypeError):
            continue  # half a line, or one of another version
    return estimates
