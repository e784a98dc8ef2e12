"""A metric is registered once, also from another package, and used by its name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from nlp_transfer.config.sections.evaluation import EvaluationConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.intervals.bootstrap import intervals
from nlp_transfer.evaluation.metric_set import load_metrics
from nlp_transfer.evaluation.metrics.ranking import (
    _precision_influence,
    average_precision,
    interval_of_average_precision,
    interval_of_roc_auc,
    ranking_precisions,
)
from nlp_transfer.evaluation.registry import (
    Form,
    Kind,
    Metric,
    bounds_of,
    greater_is_better,
    metrics_of,
    register,
)
from nlp_transfer.evaluation.rows import Classes, EvaluatedRows, Predictions

PLUGIN = """
import numpy as np
from nlp_transfer.evaluation.registry import register_metric

@register_metric("mean_margin", "single_label", predictions="probabilities", bounds=(-1, 1))
def mean_margin(references, probabilities, weights, classes):
    right = probabilities[np.arange(len(references)), references]
    return weights @ (2 * right - 1) / weights.sum(axis=-1)

@register_metric("errors", "single_label", form="counts", greater_is_better=False)
def errors(counts, classes):
    return 1 - counts.hits.sum(axis=-1) / counts.actual.sum(axis=-1)
"""
HUB_SCRIPT = """
import datasets
import evaluate

class Shared(evaluate.Metric):
    def _info(self):
        value = datasets.Value("int64")
        features = datasets.Features({"predictions": value, "references": value})
        return evaluate.MetricInfo(description="", citation="", features=features)

    def _compute(self, predictions, references):
        return {"shared": sum(p == r for p, r in zip(predictions, references)) / len(references)}
"""


def install(folder: Path) -> None:
    """A package with metrics, as pip leaves it."""
    about = folder / "more_metrics-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "more_metrics.py").write_text(PLUGIN)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: more-metrics\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[nlp_transfer.metrics]\nmore = more_metrics\n")


@pytest.mark.slow
def test_a_metric_of_another_package_is_used_by_name_from_the_command_line(
    typed: Callable[..., list[str]], tmp_path: Path
) -> None:
    install(tmp_path / "site")
    words = typed(
        "strategy.epochs=1",
        "run_dir=run",
        "evaluation.metrics=[accuracy,errors,mean_margin]",
        "evaluation.best=errors",
    )
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "nlp_transfer.train", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(Path("run/metrics.json").read_text())["validation"]
    values, intervals = figures["metrics"], figures["intervals"]
    assert values["errors"] == pytest.approx(1 - values["accuracy"])
    assert intervals["errors"] == pytest.approx([1 - end for end in intervals["accuracy"][::-1]])
    low, high = intervals["mean_margin"]
    assert -1 <= low < values["mean_margin"] < high <= 1
    report = Path("run/report.html").read_text()
    assert "lower is better" in report
    assert "errors" in report
    assert "mean_margin" in (Path("run/model") / "README.md").read_text()
    listed = "import nlp_transfer.evaluation.registry as r; print(r.metrics_of('single_label'))"
    broken = tmp_path / "site" / "more_metrics.py"
    broken.write_text("raise RuntimeError('no licence')")
    done = subprocess.run(
        [sys.executable, "-c", listed],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert "entry point 'more' (more_metrics) cannot be loaded: RuntimeError: no lic" in done.stderr


def test_a_metric_of_the_hub_needs_trust(tmp_path: Path) -> None:
    script = tmp_path / "shared.py"
    script.write_text(HUB_SCRIPT)
    names = ["accuracy", str(script)]
    with pytest.raises(UserError, match="evaluation.trust_remote_code=true") as caught:
        load_metrics(EvaluationConfig(names), ("a", "b"))
    assert caught.value.code is ExitCode.CONFIG
    with pytest.raises(UserError, match="Did you mean accuracy"):
        load_metrics(EvaluationConfig(["acuracy"]), ("a", "b"))
    metrics = load_metrics(EvaluationConfig(names, trust_remote_code=True), ("a", "b"))
    references, logits = np.arange(12) % 2, np.eye(2)[[0, 1, 1] * 4]
    figures = metrics.of_rows(logits, references)
    assert figures["metrics"]["shared"] == figures["metrics"]["accuracy"]
    assert set(figures["intervals"]) == {"accuracy"}
    with pytest.raises(UserError, match="evaluation.best=.*direction is known: accuracy"):
        load_metrics(EvaluationConfig(names, names[1], trust_remote_code=True), ("a", "b"))


def test_a_function_is_a_metric_whose_interval_comes_from_resampled_rows() -> None:
    def agreement(references: np.ndarray, decisions: np.ndarray) -> float:
        return float(sk.cohen_kappa_score(references, decisions))

    generator = np.random.default_rng(0)
    references = generator.integers(0, 3, 200)
    logits = generator.normal(size=(200, 3)) + 1.5 * np.eye(3)[references]
    metrics = load_metrics(EvaluationConfig(), tuple("abc"), more=[agreement])
    figures = metrics.of_rows(logits, references)
    assert figures["metrics"]["agreement"] == agreement(references, logits.argmax(axis=1))
    theirs = stats.bootstrap(
        (references, logits.argmax(axis=1)),
        agreement,
        vectorized=False,
        paired=True,
        n_resamples=500,
        method="percentile",
        rng=1,
    )
    np.testing.assert_allclose(
        figures["intervals"]["agreement"],
        theirs.confidence_interval,
        atol=theirs.standard_error / 2,
    )
    with pytest.raises(UserError, match="has no name"):
        load_metrics(EvaluationConfig(), tuple("abc"), more=[lambda *_: 0.0])


def test_what_the_registry_says_of_a_metric_holds_for_every_kind_of_labels() -> None:
    assert not greater_is_better("log_loss") and greater_is_better("of_nobody")
    assert bounds_of("matthews") == (-1, 1)
    assert bounds_of("log_loss") == (0, np.inf) == bounds_of("mse")
    accuracy = metrics_of("single_label")["accuracy"]
    with pytest.raises(ValueError, match="exists already"):
        register(accuracy)
    kind = Kind("of_nobody", Predictions.decisions, Form.plain)
    with pytest.raises(ValueError, match="other greater_is_better"):
        register(Metric("accuracy", kind, lambda *_: 0.0, greater_is_better=False))
    assert "of_nobody" not in metrics_of("of_nobody")


def ranked(rows: int, labels: int) -> EvaluatedRows:
    """Rows with several labels; some probabilities are the same."""
    generator = np.random.default_rng(0)
    references = (generator.random((rows, labels)) < 0.1).astype(np.float32)
    scores = (generator.normal(size=references.shape) + 2 * references).round(1)
    probabilities = 1 / (1 + np.exp(-scores))
    classes = Classes(tuple(map(str, range(labels))), 0)
    return EvaluatedRows(references, probabilities, (probabilities > 0.5).astype(int), classes)


def test_intervals_of_many_labels_hold_the_macro_f1_that_few_rows_a_label_hide() -> None:
    names, classes = ("accuracy", "f1_macro"), Classes(tuple(map(str, range(200))), 0)
    metrics = [metrics_of("single_label")[name] for name in names]
    generator = np.random.default_rng(0)

    def draw(rows: int) -> EvaluatedRows:
        references = generator.integers(0, 200, rows)
        guessed = generator.integers(0, 200, rows)
        answers = np.where(generator.random(rows) < 0.75, references, guessed)
        return EvaluatedRows(references, np.zeros((rows, 1)), answers, classes)

    truth = {m.name: m.values(many)[m.name] for many in [draw(1_000_000)] for m in metrics}
    held = dict.fromkeys(names, 0)
    for _ in range(20):
        rows = draw(1500)
        values = {m.name: m.values(rows)[m.name] for m in metrics}
        for name, (low, high) in intervals(metrics, values, rows).items():
            held[name] += low <= truth[name] <= high
    assert min(held.values()) >= 17


def test_many_labels_have_the_intervals_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn, counted or approximated otherwise because it would take too long."""
    rows = ranked(300, 6)
    single = EvaluatedRows(
        rows.probabilities.argmax(axis=1),
        np.random.default_rng(1).dirichlet(np.ones(6), 300) + rows.probabilities,
        rows.decisions.argmax(axis=1),
        rows.classes,
    )
    of_kinds = ((rows, "multi_label"), (single, "single_label"))
    limits = {
        "nlp_transfer.evaluation.intervals.resampling.DENSE_LABELS": 0,
        "nlp_transfer.evaluation.intervals.bootstrap.PERCENTILE_LABELS": 0,
        "nlp_transfer.evaluation.metrics.ranking.DENSE_LABELS": 0,
        "nlp_transfer.evaluation.metrics.ranking.RANKED_CELLS": 0,
    }

    def measured(evaluated: EvaluatedRows, kind: str) -> tuple[dict, dict]:
        metrics = [m for m in metrics_of(kind).values() if not m.binary and m.name != "ece"]
        values = {m.name: m.values(evaluated)[m.name] for m in metrics}
        return values, intervals(metrics, values, evaluated)

    few = [measured(*one) for one in of_kinds]
    for limit, value in limits.items():
        monkeypatch.setattr(limit, value)
    many = [measured(*one) for one in of_kinds]
    for (values, exact), (again, quick) in zip(few, many, strict=True):
        assert values == pytest.approx(again)
        for name, (low, high) in exact.items():
            if name.endswith("_macro"):  # of many labels mirrored at the value
                low, high = 2 * values[name] - high, 2 * values[name] - low
            np.testing.assert_allclose(quick[name], (low, high), atol=0.2 * (high - low))
    precisions = ranking_precisions(rows.references, rows.probabilities)
    by_row = [
        sk.label_ranking_average_precision_score(r[None], p[None])
        for r, p in zip(rows.references, rows.probabilities, strict=True)
    ]
    np.testing.assert_allclose(precisions, by_row)
    # What rows contribute is the derivative of the metric by their weights.
    positive, scores = rows.references[:, 0] > 0, rows.probabilities[:, 0]
    influence = _precision_influence(positive, scores)
    weights = np.ones((300, 300)) + 1e-3 * np.eye(300)
    column = (rows.references[:, :1], rows.probabilities[:, :1])
    once = average_precision(*column, np.ones(300))
    moved = (average_precision(*column, weights) - once) * 1e3 * 300 + once
    np.testing.assert_allclose(influence, moved, rtol=0.05, atol=0.1)
    assert influence.mean() == pytest.approx(float(once), rel=1e-5)
    assert interval_of_roc_auc(single)[0] < interval_of_roc_auc(single)[1]
    assert interval_of_average_precision(rows)[0] < interval_of_average_precision(rows)[1]
