"""How often the 95% intervals hold the truth, on made-up models whose truth is known.

python scripts/interval_coverage.py --simulations 2000
python scripts/interval_coverage.py --others --simulations 1000     several labels, and scores
python scripts/interval_coverage.py --labels 77 --rows 770 --simulations 200     macro averages
python scripts/interval_coverage.py --seconds 10000     how long they take on so many rows
python scripts/interval_coverage.py --seconds 10000 --labels 1000

A made-up model of two labels gives log odds that are right but 1.5 times too large (`--over`), as
those of a fine-tuned encoder are. Its true figures are those of four million rows.

Of `--labels` that exclude each other the share is equal, or as 1, 1/2, 1/3 … with `--skew 1`, about
85% of each are right, and the others go to five other labels. Of several labels a text has three.

Of several labels there are eight, the rarest with 2% of the rows; scores are exponential, and
answered with a normal error. Their true figures are those of 400,000 rows.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np

from nlp_transfer.config.sections.evaluation import EvaluationConfig
from nlp_transfer.evaluation.intervals.bootstrap import intervals
from nlp_transfer.evaluation.metric_set import load_metrics
from nlp_transfer.evaluation.registry import metrics_of
from nlp_transfer.evaluation.rows import Classes, Counts, EvaluatedRows
from nlp_transfer.problems.multi_label import MULTI_LABEL
from nlp_transfer.problems.regression import REGRESSION
from nlp_transfer.problems.single_label import SINGLE_LABEL

CLASSES = Classes(("no", "yes"), 1)
KNOWN_FROM = 4_000_000  # rows
# Share of the positive label, and how far apart the labels lie: 89% and 98% accuracy.
SETTINGS = {"balanced": (0.5, 2.5), "5% positive": (0.05, 3.0)}
OURS = metrics_of("single_label")
EVERY = tuple(name for name in OURS if name not in ("precision", "recall"))


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


def evaluated(references: np.ndarray, probabilities: np.ndarray) -> EvaluatedRows:
    """A sample as metrics take it."""
    return EvaluatedRows(references, probabilities, probabilities.argmax(axis=1), CLASSES)


def measure(names: tuple[str, ...], rows: EvaluatedRows) -> dict[str, float]:
    """Every metric by name."""
    return {name: OURS[name].values(rows)[name] for name in names}


def coverage(
    population: Population, names: tuple[str, ...], rows: int, simulations: int, seed: int = 0
) -> dict[str, float]:
    """The share of samples whose interval holds the truth, by metric."""
    generator = np.random.default_rng(seed)
    truth = measure(names, evaluated(*population.draw(KNOWN_FROM, generator)))
    metrics = [OURS[name] for name in names]
    hits = dict.fromkeys(names, 0)
    for _ in range(simulations):
        sample = evaluated(*population.draw(rows, generator))
        between = intervals(metrics, measure(names, sample), sample)
        for name in names:
            low, high = between[name]
            hits[name] += low <= truth[name] <= high
    return {name: count / simulations for name, count in hits.items()}


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
    MULTI_LABEL: (draw_several, 8, tuple(metrics_of("multi_label"))),
    REGRESSION: (draw_scores, 1, tuple(metrics_of("regression"))),
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
            intervals = metrics.intervals(metrics.compute(logits, references), logits, references)
            for name in names:
                held[name] += intervals[name][0] <= truth[name] <= intervals[name][1]
        for name in names:
            print(
                f"{rows:>6} {problem.name:<12} {name:<18}{held[name] / simulations:.1%}", flush=True
            )


def draw_confusion(labels: int, skew: float, generator: np.random.Generator) -> np.ndarray:
    """Shares of reference and prediction, [labels, labels]: how a made-up model confuses them."""
    shares = np.arange(1, labels + 1.0) ** -skew
    confusion = np.zeros((labels, labels))
    for label, right in enumerate(np.clip(generator.normal(0.85, 0.1, labels), 0.2, 0.99)):
        others = np.delete(np.arange(labels), label)
        others = generator.permutation(others)[: min(labels - 1, 5)]
        confusion[label, others] = (1 - right) * generator.dirichlet(np.full(len(others), 0.7))
        confusion[label, label] = right
    return (shares / shares.sum())[:, None] * confusion


def macro_of(counts: Counts, names: tuple[str, ...], classes: Classes) -> dict[str, float]:
    """Macro averages of counts."""
    return {name: float(OURS[name].weighted_fn(counts, classes)) for name in names}


def labels_coverage(labels: int, rows: int, skew: float, simulations: int) -> dict[str, float]:
    """The share of samples whose interval holds the truth, of macro averages of many labels."""
    generator, names = np.random.default_rng(0), ("f1_macro", "precision_macro", "recall_macro")
    classes, metrics = Classes(tuple(map(str, range(labels))), 0), [OURS[name] for name in names]
    confusion = draw_confusion(labels, skew, generator)
    truth = macro_of(Counts.of(confusion), names, classes)
    held = dict.fromkeys(names, 0)
    for _ in range(simulations):
        cells = generator.choice(labels**2, rows, p=confusion.ravel() / confusion.sum())
        references, decisions = np.divmod(cells, labels)
        sample = EvaluatedRows(references, np.eye(labels)[decisions], decisions, classes)
        between = intervals(metrics, {m.name: m.values(sample)[m.name] for m in metrics}, sample)
        for name, (low, high) in between.items():
            held[name] += low <= truth[name] <= high
    return {name: count / simulations for name, count in held.items()}


def print_labels(labels: int, rows: int, skew: float, simulations: int) -> None:
    """One line of it."""
    held = labels_coverage(labels, rows, skew, simulations)
    shares = "".join(f"  {name} {share:.1%}" for name, share in held.items())
    print(f"{labels} labels, {rows} rows, skew {skew:g}:{shares}", flush=True)


def print_several_labels(labels: int, rows: int, skew: float, simulations: int) -> None:
    """The same where a text has three labels on average."""
    generator, names = np.random.default_rng(0), ("f1_macro", "precision_macro", "recall_macro")
    shares = np.arange(1, labels + 1.0) ** -skew
    shares = np.clip(3 * shares / shares.sum(), 0, 0.5)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        references = generator.random((count, labels)) < shares
        logits = generator.normal(size=references.shape) + 3.5 * references - 2.6
        return references.astype(np.float32), logits.astype(np.float32)

    labels_by_name = tuple(map(str, range(labels)))
    metrics = load_metrics(EvaluationConfig(metrics=list(names)), labels_by_name, MULTI_LABEL)
    references, logits = draw(400_000)
    truth, held = metrics.compute(logits, references), dict.fromkeys(names, 0)
    for _ in range(simulations):
        references, logits = draw(rows)
        between = metrics.intervals(metrics.compute(logits, references), logits, references)
        for name in names:
            held[name] += between[name][0] <= truth[name] <= between[name][1]
    coverage = "".join(f"  {name} {count / simulations:.1%}" for name, count in held.items())
    print(f"{labels} labels, several a text, {rows} rows, skew {skew:g}:{coverage}", flush=True)


def print_seconds(rows: int, labels: int | None) -> None:
    """CPU seconds of the default metrics and their intervals, for each kind of answer.

    Args:
        labels: None: 4 that exclude each other, 28 that do not.
    """
    generator = np.random.default_rng(0)
    columns = {
        SINGLE_LABEL: labels or 4,
        MULTI_LABEL: labels or 28,
        REGRESSION: 1,
    }
    for problem, count in columns.items():
        logits = generator.normal(size=(rows, count)).astype(np.float32)
        noisy = logits + generator.normal(size=logits.shape)
        references = {
            SINGLE_LABEL: noisy.argmax(axis=1),
            MULTI_LABEL: (noisy > 2).astype(np.float32),
            REGRESSION: noisy[:, 0].astype(np.float32),
        }[problem]
        if labels and problem is MULTI_LABEL:  # about three of them a text
            references = (generator.random((rows, count)) < 3 / count).astype(np.float32)
            logits += (4 * references - 3).astype(np.float32)
        metrics = load_metrics(EvaluationConfig(), tuple(map(str, range(count))), problem)
        start = time.process_time()
        metrics.of_rows(logits, references)
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
    parser.add_argument("--labels", type=int, help="how many labels")
    parser.add_argument("--skew", type=float, default=0.0, help="with --labels: 0, all alike")
    options = parser.parse_args()
    if options.seconds:
        print_seconds(options.seconds, options.labels)
        return
    if options.labels:
        for rows in options.rows:
            print_labels(options.labels, rows, options.skew, options.simulations)
            print_several_labels(options.labels, rows, options.skew, options.simulations)
        return
    if options.others:
        for rows in options.rows:
            print_others(rows, options.simulations)
        return
    names = tuple(options.metrics)
    print(f"{'rows':>6} {'labels':<12}" + "".join(f"{name:>{len(name) + 2}}" for name in names))
    for rows in options.rows:
        for setting, (share, apart) in SETTINGS.items():
            start = time.perf_counter()
            population = Population(share, apart, options.over)
            coverages = coverage(population, names, rows, options.simulations)
            values = "".join(f"{coverages[name]:>{len(name) + 2}.1%}" for name in names)
            seconds = time.perf_counter() - start
            print(f"{rows:>6} {setting:<12}{values}  ({seconds:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
