"""How often the 95% intervals hold the truth, on made-up models whose truth is known.

python scripts/interval_coverage.py --simulations 2000
python scripts/interval_coverage.py --others --simulations 1000     several labels, and scores
python scripts/interval_coverage.py --seconds 10000     how long they take on so many rows

A made-up model of two labels gives log odds that are right but 1.5 times too large (`--over`), as
those of a fine-tuned encoder are. Its true figures are those of four million rows.

Of several labels there are eight, the rarest with 2% of the rows; scores are exponential, and
answered with a normal error. Their true figures are those of 400,000 rows.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np

from nlp_transfer.config.schema import EvaluationConfig, Problem
from nlp_transfer.evaluation.bootstrap import intervals
from nlp_transfer.evaluation.evaluator import load_metrics
from nlp_transfer.evaluation.metrics import (
    BINARY,
    BY_LABEL,
    BY_PROBABILITY,
    Classes,
    Counts,
    confusion_matrix,
)
from nlp_transfer.evaluation.problem_metrics import BY_DECISION, BY_VALUE

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


def draw_several(rows: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """References and logits, both [rows, 8 labels]."""
    references = generator.random((rows, 8)) < np.linspace(0.35, 0.02, 8)
    logits = generator.normal(size=references.shape) + 3 * references - 2.5
    return references.astype(np.float32), logits.astype(np.float32)


def draw_scores(rows: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """References [rows] and answers [rows, 1]."""
    references = generator.exponential(size=rows)
    answers = references + generator.normal(size=rows)
    return references.astype(np.float32), answers[:, None].astype(np.float32)


OTHERS = {
    Problem.multi_label: (draw_several, 8, (*BY_DECISION, *BY_VALUE[Problem.multi_label])),
    Problem.regression: (draw_scores, 1, tuple(BY_VALUE[Problem.regression])),
}


def print_others(rows: int, simulations: int) -> None:
    """The share of samples whose interval holds the truth, of several labels and of scores."""
    for problem, (draw, columns, names) in OTHERS.items():
        labels = tuple(map(str, range(columns)))
        metrics = load_metrics(EvaluationConfig(metrics=list(names)), labels, problem)
        generator = np.random.default_rng(0)
        references, logits = draw(400_000, generator)
        truth = metrics.compute(logits, references)
        held = dict.fromkeys(names, 0)
        for _ in range(simulations):
            references, logits = draw(rows, generator)
            found = metrics.intervals(metrics.compute(logits, references), logits, references)
            for name in names:
                held[name] += found[name][0] <= truth[name] <= found[name][1]
        for name in names:
            print(
                f"{rows:>6} {problem.name:<12} {name:<18}{held[name] / simulations:.1%}", flush=True
            )


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
    parser.add_argument("--others", action="store_true", help="several labels, and scores")
    parser.add_argument("--seconds", type=int, metavar="ROWS")
    asked = parser.parse_args()
    if asked.seconds:
        print_seconds(asked.seconds)
        return
    if asked.others:
        for rows in asked.rows:
            print_others(rows, asked.simulations)
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
