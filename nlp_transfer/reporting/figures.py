"""What was measured, as `metrics.json` and `run.json` hold it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from nlp_transfer.evaluation.metrics.probabilities import gaps, log_losses
from nlp_transfer.evaluation.registry import MIN_ROWS
from nlp_transfer.evaluation.reliability import accuracy_by_coverage, reliability

if TYPE_CHECKING:
    from nlp_transfer.evaluation.calibration import Calibration
    from nlp_transfer.evaluation.evaluator import SplitEvaluation

ON_VALIDATION = "these figures come from validation, on which choices were made, too."


def no_test_note(splits: Collection[str], evaluated: Collection[str]) -> str | None:
    """Why there are no figures of a test split, or None where there are some.

    Args:
        splits: the splits of the data.
        evaluated: the splits that were measured.
    """
    if "test" in evaluated or "validation" not in evaluated:
        return None
    if "test" in splits:
        return f"The test split was not used (evaluation.test=false): {ON_VALIDATION}"
    return f"There is no labelled test split: {ON_VALIDATION}"


def refit_note(rows: int) -> str:
    """What to know of the figures where the final model has also learned from held-out rows.

    Args:
        rows: that the final model was trained on.
    """
    return (
        "These figures are of a model that was trained without these rows; the final model was "
        f"then trained on all {rows:,}."
    )


def split_figures(
    evaluations: dict[str, SplitEvaluation],
    note: str | None = None,
    notes: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, dict[str, Any]]:
    """The content of `metrics.json`: rows, metrics and intervals of each split, by class too.

    Args:
        note: a caution about all these figures, as `no_test_note` gives it.
        notes: more about those of a split; of splits that were not measured they are left out.
    """
    more = {split: [*evaluation.notes] for split, evaluation in evaluations.items()}
    for split, sentences in (notes or {}).items():
        more.setdefault(split, []).extend(sentences)
    return {
        split: {
            "rows": len(evaluation.references),
            "metrics": evaluation.metrics,
            "intervals": {name: [*pair] for name, pair in evaluation.intervals.items()},
            **_at_one_half(evaluation),
            "per_class": evaluation.per_class,
            **_by_confidence(evaluation),
            "slices": evaluation.slices,
            **({} if note is None else {"note": note}),
            **({"notes": more[split]} if more[split] else {}),
        }
        for split, evaluation in evaluations.items()
    }


def _at_one_half(evaluation: SplitEvaluation) -> dict[str, Any]:
    """The metrics without the chosen thresholds, where thresholds were chosen."""
    plain = evaluation.at_one_half
    if plain is None:
        return {}
    return {"at_one_half": {name: plain[name] for name in ("metrics", "intervals")}}


def _by_confidence(evaluation: SplitEvaluation) -> dict[str, Any]:
    """Confusion, reliability and coverage; of several labels reliability, of scores nothing."""
    if not evaluation.decoder.problem.has_labels:
        return {}
    answers = _as_single_label(evaluation, evaluation.probabilities)
    if evaluation.confusion is None:
        return {"reliability": reliability(*answers)}
    return {
        "confusion": evaluation.confusion.tolist(),
        "reliability": reliability(*answers),
        "coverage": accuracy_by_coverage(*answers),
    }


def describe_calibration(
    calibration: Calibration, evaluations: dict[str, SplitEvaluation]
) -> dict[str, Any]:
    """For `run.json`: the temperature, and log loss, ECE and reliability before and after it."""
    description: dict[str, Any] = asdict(calibration)
    for split, evaluation in evaluations.items():
        decoder = evaluation.decoder
        if not decoder.problem.has_labels:
            continue
        before = decoder.probabilities(calibration.before(evaluation.logits))
        after = evaluation.probabilities
        description[split] = {
            "before": _confidence(*_as_single_label(evaluation, before)),
            "after": _confidence(*_as_single_label(evaluation, after)),
        }
    return description


def _as_single_label(
    evaluation: SplitEvaluation, probabilities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Unchanged for one label a text; of several labels, each label is a decision of no or yes.

    Returns:
        int64 [decisions] and float [decisions, 2].
    """
    classes = evaluation.decoder.problem.classes(evaluation.references)
    if classes is not None:
        return classes, probabilities
    yes = probabilities.ravel()
    return evaluation.references.ravel().astype(np.int64), np.stack([1 - yes, yes], axis=1)


def _confidence(references: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    figures: dict[str, Any] = {"log_loss": float(log_losses(references, probabilities).mean())}
    if len(references) >= MIN_ROWS:
        figures["ece"] = float(np.abs(gaps(references, probabilities).mean(axis=0)).sum())
    return figures | {"reliability": reliability(references, probabilities)}
