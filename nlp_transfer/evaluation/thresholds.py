"""Chooses on validation from which probability on a label is given."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from nlp_transfer.config.choices import Thresholds
from nlp_transfer.config.sections.evaluation import EvaluationConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.metric_set import Metrics
from nlp_transfer.problems.base import HALF
from nlp_transfer.problems.decoder import Decoder
from nlp_transfer.utils.logging import logger
from nlp_transfer.utils.text import number

LEAST = 10  # rows of validation that have a label, or would get it: fewer decide nothing
FOLDS = 5
NEVER = 1.0
LOGGED = 10  # labels without a threshold of their own that the log names


@dataclass(frozen=True)
class ChosenThresholds:
    """From which probability on each label is given."""

    how: str = Thresholds.none.name
    thresholds: dict[str, float] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)  # what was not chosen freely, and why


def threshold_rule(config: EvaluationConfig, decoder: Decoder) -> Thresholds:
    """What was asked for, or suits the problem.

    Raises:
        UserError: where there is nothing to choose.
    """
    how, problem = config.thresholds, decoder.problem
    if how is Thresholds.auto:
        return Thresholds.f1 if problem.several else Thresholds.none
    labels = len(decoder.labels)
    if how is not Thresholds.none and not problem.may_have_thresholds(labels):
        here = f"{labels} labels" if problem.has_labels else "scores"
        raise UserError(
            ExitCode.CONFIG,
            f"evaluation.thresholds={how.name} is for several labels a text, or for one of two; "
            f"here are {here}. Leave it out.",
        )
    return how


def choose(
    logits: np.ndarray, references: np.ndarray, metrics: Metrics, config: EvaluationConfig
) -> ChosenThresholds:
    """A threshold for every label; of two, for the positive one.

    Args:
        logits: of validation, calibrated, [rows, labels].
        references: as `Corpus.references` gives them.
    """
    choice = _choose(logits, references, metrics, config)
    if choice.thresholds:
        _log_exceptions(choice.thresholds, choice.left)
        logger.info("thresholds for %s were chosen on validation", choice.how)
    return choice


def unseen_values(
    logits: np.ndarray, references: np.ndarray, metrics: Metrics, config: EvaluationConfig
) -> dict[str, float | None]:
    """The metrics where each fifth of the rows is decided by thresholds of the other four fifths.

    Args:
        logits, references: as for `choose`.
    """
    rows = metrics.rows(logits, references)
    decisions = np.empty_like(rows.decisions)
    parts = np.random.default_rng(0).permutation(len(logits)) % FOLDS
    for part in range(FOLDS):
        here = parts == part
        choice = _choose(logits[~here], references[~here], metrics, config)
        decisions[here] = replace(metrics, thresholds=choice.thresholds).decide(logits[here])
    return metrics.values_of(replace(rows, decisions=decisions))


def unseen_note(values: dict[str, float | None], unseen: dict[str, float | None]) -> str | None:
    """How much figures owe to thresholds that were chosen on the same rows; None: nothing.

    Args:
        values: of the rows on which the thresholds were chosen.
        unseen: as `unseen_values` gives them.
    """
    changed = [
        f"{name} is {number(value)} instead of {number(values[name])}"
        for name, value in unseen.items()
        if value != values[name]
    ]
    if not changed:
        return None
    return (
        "The thresholds were chosen on these rows, which flatters what depends on them. With "
        f"thresholds chosen on the other four fifths of the rows, {', '.join(changed)}."
    )


def _choose(
    logits: np.ndarray, references: np.ndarray, metrics: Metrics, config: EvaluationConfig
) -> ChosenThresholds:
    decoder, positive = metrics.decoder, metrics.classes.positive
    probabilities, how = decoder.probabilities(logits), threshold_rule(config, decoder)
    if how is Thresholds.none:
        return ChosenThresholds()
    columns, right = range(len(decoder.labels)), references > 0
    if decoder.problem.one_label:
        columns, right = range(positive, positive + 1), np.eye(2)[references] > 0
    precision = config.wanted_precision if how is Thresholds.precision else None
    thresholds, exceptions = {}, {}
    for column in columns:
        label = decoder.labels[column]
        thresholds[label], reason = of_label(probabilities[:, column], right[:, column], precision)
        if reason is not None:
            exceptions[label] = reason
    return ChosenThresholds(how.name, thresholds, exceptions)


def _log_exceptions(thresholds: dict[str, float], exceptions: dict[str, str]) -> None:
    for label in list(exceptions)[:LOGGED]:
        logger.info("threshold of %s: %g, %s", label, thresholds[label], exceptions[label])
    if len(exceptions) > LOGGED:
        more = len(exceptions) - LOGGED
        logger.info("%d more labels keep a fixed threshold: run.json says why", more)


def of_label(
    probabilities: np.ndarray, right: np.ndarray, precision: float | None = None
) -> tuple[float, str | None]:
    """The threshold of one label, and why it was not chosen freely, if so.

    Args:
        right: bool [rows], which rows have the label.
        precision: precision; None: the threshold is for F1.
    """
    count = int(right.sum())
    if count < LEAST:
        return HALF, f"{count} rows of validation have it, at least {LEAST} are needed"
    if precision is not None:
        threshold = for_precision(probabilities, right, precision)
        if threshold is None:
            return NEVER, f"no threshold has a precision of {precision:g}: it is never assigned"
        return threshold, None
    if _f1(_unseen(probabilities, right), right) <= _f1(probabilities > HALF, right):
        return HALF, "another would not raise the F1 of unseen validation texts"
    return for_f1(probabilities, right), None


def for_f1(probabilities: np.ndarray, right: np.ndarray) -> float:
    """Of all thresholds the one of the largest F1."""
    return _largest_f1(*_cuts(probabilities, right), right.sum())


def _largest_f1(
    thresholds: np.ndarray, positives: np.ndarray, hits: np.ndarray, count: int
) -> float:
    """The threshold whose F1 is largest, where `count` rows have the label."""
    return float(thresholds[np.argmax(2 * hits / (positives + count))])


def for_precision(probabilities: np.ndarray, right: np.ndarray, precision: float) -> float | None:
    """The lowest threshold with this precision, of at least `LEAST` rows; None: there is none."""
    thresholds, positives, hits = _cuts(probabilities, right)
    good = np.flatnonzero((positives >= LEAST) & (hits >= precision * positives))
    return float(thresholds[good[-1]]) if len(good) else None


def _cuts(
    probabilities: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds between neighbouring probabilities, falling; rows above each, and their hits."""
    order = np.argsort(-probabilities, kind="stable")
    return _cuts_of_ranked(probabilities[order], right[order])


def _cuts_of_ranked(
    ranked: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `_cuts`, of rows that are in the order of falling probabilities."""
    ends = np.flatnonzero(np.diff(ranked, append=-1) < 0)
    middles = (ranked[ends] + np.append(ranked[1:], 0)[ends]) / 2
    return middles, ends + 1, np.cumsum(right)[ends]


def _unseen(probabilities: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Which rows get the label by a threshold that was chosen on the others."""
    parts = np.empty(len(right), dtype=int)
    for here in (right, ~right):
        parts[here] = np.arange(here.sum()) % FOLDS
    order = np.argsort(-probabilities, kind="stable")  # once; a fold keeps it
    decisions = np.empty(len(right), dtype=bool)
    for part in range(FOLDS):
        here, others = parts == part, order[parts[order] != part]
        cuts = _cuts_of_ranked(probabilities[others], right[others])
        decisions[here] = probabilities[here] > _largest_f1(*cuts, right[others].sum())
    return decisions


def _f1(decisions: np.ndarray, right: np.ndarray) -> float:
    return 2 * (decisions & right).sum() / (decisions.sum() + right.sum())
