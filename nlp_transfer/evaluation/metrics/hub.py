"""Converts metrics between the registry and the `evaluate` library."""

from __future__ import annotations

import difflib
from typing import Any

import numpy as np

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.registry import Form, IntervalMethod, Kind, Metric, metrics_of
from nlp_transfer.evaluation.rows import Classes, EvaluatedRows, Predictions
from nlp_transfer.problems import problem_named
from nlp_transfer.utils.logging import logger


def hub_metric(name: str, problem: str, *, trust_remote_code: bool) -> Metric:
    """A metric that only the Hub (or a script of `evaluate`) has; it is tried on two rows.

    Raises:
        UserError: if its code is not trusted, or cannot be loaded or run.
    """
    registered = list(metrics_of(problem))
    if not trust_remote_code:
        raise untrusted_metric(name, registered)
    try:
        import evaluate

        loaded = evaluate.load(name)
        loaded.compute(predictions=[0, 1], references=[0, 1])
    except Exception as error:  # noqa: BLE001 (it is code from the Hub: anything can come)
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            ExitCode.CONFIG,
            f"{_unknown(name, registered)} and cannot be used from the Hub: {reason}",
        ) from error
    logger.info("metric %s comes from the Hub", name)

    def compute(references: np.ndarray, predictions: np.ndarray) -> dict[str, Any]:
        return loaded.compute(predictions=predictions, references=references)

    kind = Kind(problem, Predictions.decisions, Form.hub)
    return Metric(name, kind, compute, interval=IntervalMethod.none)


def untrusted_metric(name: str, registered: list[str]) -> UserError:
    """The error about a name that is not registered, where remote code may not run."""
    near = difflib.get_close_matches(name, registered, 1)
    return UserError(
        ExitCode.CONFIG,
        f"{_unknown(name, registered)}. {f'Did you mean {near[0]}? ' if near else ''}A metric of "
        "the Hub is code that runs here: if you trust it, add evaluation.trust_remote_code=true.",
    )


def _unknown(name: str, registered: list[str]) -> str:
    return f"evaluation.metrics has {name!r}, which is not one of ours ({', '.join(registered)})"


def as_evaluate_metric(metric: Metric, classes: Classes) -> Any:
    """A metric of decisions or probabilities as an `evaluate.Metric`, for `evaluate.combine`."""
    import datasets
    import evaluate

    several = problem_named(metric.kind.problem).several
    label, probability = datasets.Value("int64"), datasets.Value("float64")
    features = {
        Predictions.decisions: datasets.Sequence(label) if several else label,
        Predictions.probabilities: datasets.Sequence(probability),
        Predictions.scores: probability,
    }
    reference = features[Predictions.decisions]
    if metric.kind.predictions is Predictions.scores:
        reference = probability

    class Shell(evaluate.Metric):
        def _info(self) -> evaluate.MetricInfo:
            return evaluate.MetricInfo(
                description=f"{metric.name} of nlp_transfer",
                citation="",
                features=datasets.Features(
                    {"predictions": features[metric.kind.predictions], "references": reference}
                ),
            )

        def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
            answers, right = np.asarray(predictions), np.asarray(references)
            return metric.values(EvaluatedRows(right, answers, answers, classes))

    return Shell(keep_in_memory=True)
