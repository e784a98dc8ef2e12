"""How often the 95% intervals hold the truth, on made-up models whose truth is known.

python scripts/interval_coverage.py --simulations 2000
python scripts/interval_coverage.py --seconds 10000     how long they take on so many rows

A made-up model of two labels gives log odds that are right but 1.5 times too large (`--over`), as
those of a fine-tuned encoder are. Its true figures are those of four million rows.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np

from nlp_transfer.config import EvaluationConfig, Problem
from nlp_transfer.evaluation import load_metrics
from nlp_transfer.intervals import intervals
from nlp_transfer.scores import (
    BINARY,
    BY_LABEL,
    BY_PROBABILITY,
    Classes,
    Counts,
    confusion_matrix,
)

CLASSES = Classes(("no", "yes"), 1)
KNOWN_FROM = 4_000_000  # rows
# Share of the positive label, and how far apart the labels lie: 89% and 98% accuracy.
SETTINGS = {"balanced": (0.5, 2.5), "5% positive": (0.05, 3.0)}
EVERY = tuple(name for name in (*BY_LABEL, *BY_PROBABILITY) if name not in BINARY[1:])


@dataclass(frozen=True)
class Population:
    """Where rows come from."""

    share: float
    apart: float
    over: float

    def draw(self, rows: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """References [rows] and probabilities [rows, labels]."""
        references = (generator.random(rows) < self.share).astype(np.int64)
        signal = generator.normal(size=rows) + self.apart * (references - 0.5)
        odds = self.over * (signal * self.apart + np.log(self.share / (1 - self.share)))
        yes = 1 / (1 + np.exp(-odds))
        return references, np.stack([1 - yes, yes], axis=1)


def measure(
    names: tuple[str, ...], references: np.ndarray, probabilities: np.ndarray
) -> dict[str, float]:
    """Every metric by name."""
    confusion = confusion_matrix(references, probabilities.argmax(axis=1), 2)
    counts = Counts.of(confusion.astype(float))
    once = np.ones(len(references))
    return {
        name: float(
            BY_LABEL[name](counts, CLASSES)
            if name in BY_LABEL
            else BY_PROBABILITY[name](references, probabilities, CLASSES, once)
        )
        for name in names
    }


def coverage(
    population: Population, names: tuple[str, ...], rows: int, simulations: int, seed: int = 0
) -> dict[str, float]:
    """The share of samples whose interval holds the truth, by metric."""
    generator = np.random.default_rng(seed)
    truth = measure(names, *population.draw(KNOWN_FROM, generator))
    held = dict.fromkeys(names, 0)
    for _ in range(simulations):
        sample = population.draw(rows, generator)
        found = intervals(measure(names, *sample), *sample, CLASSES)
        for name in names:
            low, high = found[name]
            held[name] += low <= truth[name] <= high
    return {name: count / simulations for name, count in held.items()}


def print_seconds(rows: int) -> None:
    """CPU seconds of all intervals of one evaluation, for each kind of answer."""
    generator = np.random.default_rng(0)
    labels = {Problem.single_label: 4, Problem.multi_label: 28, Problem.regression: 1}
    for problem, count in labels.items():
        logits = generator.normal(size=(rows, count)).astype(np.float32)
        noisy = logits + generator.normal(size=logits.shape)
        references = {
            Problem.single_label: noisy.argmax(axis=1),
            Problem.multi_label: (noisy > 2).astype(np.float32),
            Problem.regression: noisy[:, 0].astype(np.float32),
        }[problem]
        metrics = load_metrics(EvaluationConfig(), tuple(map(str, range(count))), problem)
        values = metrics.compute(logits, references)
        start = time.process_time()
        metrics.intervals(values, logits, references)
        seconds = time.process_time() - start
        print(f"{rows:,} rows, {problem.name}, {count} columns: {seconds:.2f} CPU seconds")


def main() -> None:
    """Print a table, one line for each setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--rows", type=int, nargs="+", default=[300, 2000])
    parser.add_argument("--over", type=float, default=1.5)
    parser.add_argument("--metrics", nargs="+", default=list(EVERY))
    parser.add_argument("--seconds", type=int, metavar="ROWS")
    asked = parser.parse_args()
    if asked.seconds:
        print_seconds(asked.seconds)
        return
    names = tuple(asked.metrics)
    print(f"{'rows':>6} {'labels':<12}" + "".join(f"{name:>{len(name) + 2}}" for name in names))
    for rows in asked.rows:
        for setting, (share, apart) in SETTINGS.items():
            start = time.perf_counter()
            population = Population(share, apart, asked.over)
            found = coverage(population, names, rows, asked.simulations)
            values = "".join(f"{found[name]:>{len(name) + 2}.1%}" for name in names)
            seconds = time.perf_counter() - start
            print(f"{rows:>6} {setting:<12}{values}  ({seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
