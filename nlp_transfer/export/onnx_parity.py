"""Compares an ONNX export with torch, and refuses one that differs too much."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from nlp_transfer.config.sections.evaluation import EvaluationConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.intervals.bootstrap import Interval
from nlp_transfer.evaluation.metric_set import load_metrics
from nlp_transfer.inference.engines import Engine
from nlp_transfer.inference.onnx_engine import OnnxEngine
from nlp_transfer.inference.torch_engine import TorchEngine
from nlp_transfer.models.loading import evaluating
from nlp_transfer.problems import Problem
from nlp_transfer.problems.decoder import Decoder

TOLERANCE = 1e-4  # of a float32 logit
KEPT = 0.98  # of the answers, by int8
TIMED_ROWS = 64  # at most, at each batch size
TRIES = 3
BATCHES = (1, 32)


@dataclass(frozen=True)
class Questions:
    """Texts to compare on, with what they should be answered."""

    texts: list[str]
    references: np.ndarray | None  # as `Corpus.references` gives them; None: not known
    source: str
    pairs: list[str] | None = None  # the second text of each


@dataclass(frozen=True)
class Measured:
    """What one backend is worth beside torch."""

    difference: float  # the largest of a logit
    # Share of the answers (of several labels, of every label's yes or no) that are torch's; of
    # scores, the correlation with torch's.
    agreement: float
    worth: float | None  # by the references; None: there are none
    interval: Interval | None  # of `worth`, 95%
    megabytes: float
    milliseconds: dict[int, float]  # per text, by batch size


def metric_of(problem: Problem) -> str:
    """By which a backend is judged: as an epoch is chosen."""
    return problem.default_metrics[0]


def measure(
    engine: Engine, logits: np.ndarray, expected: np.ndarray, questions: Questions, size: int
) -> Measured:
    """What an engine is worth.

    Args:
        logits: of the engine, for the questions.
        expected: those of torch.
        size: of its files, in bytes.
    """
    worth, interval = worth_of(logits, questions.references, engine.decoder)
    return Measured(
        difference=float(np.abs(logits - expected).max()),
        agreement=_agreement(logits, expected, engine.decoder),
        worth=worth,
        interval=interval,
        megabytes=size / 1e6,
        milliseconds=_milliseconds(engine, questions),
    )


def refuse_difference(
    torch_engine: TorchEngine, engine: OnnxEngine, measured: Measured, expected: np.ndarray
) -> None:
    """Float32 must answer what torch does, on the compared texts and on other shapes.

    Raises:
        UserError: if it does not.
    """
    allowed = TOLERANCE
    if not engine.decoder.problem.has_labels:
        allowed *= max(1.0, float(np.abs(expected).max()))  # scores may be larger than one
    for difference, where in (
        (measured.difference, "the validation texts"),
        (_other_shapes(torch_engine, engine), "other shapes"),
    ):
        if not difference <= allowed:  # so that NaN is refused too
            raise UserError(
                ExitCode.EXPORT,
                f"The ONNX export does not give the logits of torch: on {where} they differ by "
                f"{difference:.2g} (at most {allowed:g}). Nothing was written.",
            )


def int8_refusal(measured: dict[str, Measured], problem: Problem) -> str | None:
    """Why int8 loses too much, else None."""
    int8, float32 = measured["int8"], measured["onnx"]
    if not int8.agreement >= KEPT:  # so that NaN is refused too
        if not problem.has_labels:
            correlation = f"its scores correlate with torch's by {int8.agreement:.3f}"
            return f"{correlation} (at least {KEPT:g})"
        return f"it keeps {int8.agreement:.1%} of the labels (at least {KEPT:.0%})"
    if int8.worth is not None and float32.interval is not None:
        low, high = float32.interval
        if not low <= int8.worth <= high:
            return (
                f"its {metric_of(problem)} {int8.worth:.4f} is outside the 95% interval of "
                f"float32's, {low:.4f} to {high:.4f}"
            )
    return None


def worth_of(
    logits: np.ndarray, references: np.ndarray | None, decoder: Decoder
) -> tuple[float | None, Interval | None]:
    """By its metric, as the classifier decides; with the 95% interval."""
    if references is None:
        return None, None
    name = metric_of(decoder.problem)
    metrics = load_metrics(EvaluationConfig([name]), decoder.labels, decoder.problem)
    metrics = replace(metrics, thresholds=decoder.thresholds)
    figures = metrics.of_rows(logits, references)
    return figures["metrics"][name], figures["intervals"].get(name)


def _agreement(logits: np.ndarray, expected: np.ndarray, decoder: Decoder) -> float:
    if not decoder.problem.has_labels:
        return float(np.corrcoef(logits[:, 0], expected[:, 0])[0, 1])
    ours, torchs = (decoder.decide(decoder.probabilities(x)) for x in (logits, expected))
    return float((ours == torchs).mean())


def _milliseconds(engine: Engine, questions: Questions) -> dict[int, float]:
    """Of a text from its characters to its logits, where so many are given at a time.

    The median text's best try: what else the machine does can only add.
    """
    last = len(questions.texts) - 1
    rows = np.unique(np.linspace(0, last, TIMED_ROWS).astype(int)).tolist()
    some = [questions.texts[row] for row in rows]
    second = None if questions.pairs is None else [questions.pairs[row] for row in rows]
    milliseconds = {}
    for size in BATCHES:
        took = []
        for start in range(0, len(some), size):
            now = some[start : start + size]
            other = None if second is None else second[start : start + size]
            took.append(min(_seconds(engine, now, other) for _ in range(TRIES)) * 1000 / len(now))
        milliseconds[size] = float(np.median(took))
    return milliseconds


def _seconds(engine: Engine, texts: Sequence[str], pairs: Sequence[str] | None) -> float:
    start = time.perf_counter()
    engine.logits(engine.encode(texts, pairs))
    return time.perf_counter() - start


def _other_shapes(torch_engine: TorchEngine, engine: OnnxEngine) -> float:
    """The largest difference of a logit: one short text, one as long as can be read, many."""
    worst = 0.0
    for texts in (["a"], ["a " * engine.tokenizing.max_length], ["a", "a text"] * 16 + ["a b c"]):
        inputs = engine.encode(texts, None)
        batch = engine.padded(inputs, np.arange(len(inputs)))
        with evaluating(torch_engine.model):
            tensors = {name: torch.from_numpy(batch[name]) for name in engine.inputs}
            expected = torch_engine.model(**tensors).logits.numpy()
        worst = max(worst, float(np.abs(engine.run(batch) - expected).max()))
    return worst
