"""Ordered classes: the distance between them is learned, measured and answered by the median."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
import torch
from conftest import QUIETLY, texts_by_kindness
from fastapi.testclient import TestClient
from transformers import AutoModelForSequenceClassification

from nlp_transfer import Classifier, compose, run
from nlp_transfer.analysis.evaluate import LabelledTexts, evaluate_model
from nlp_transfer.cli.main import main
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.config.sections.evaluation import EvaluationConfig
from nlp_transfer.data.corpus import load_corpus
from nlp_transfer.errors import UserError
from nlp_transfer.evaluation.metric_set import load_metrics
from nlp_transfer.export.onnx import export_onnx
from nlp_transfer.export.references import of_run
from nlp_transfer.problems.decoder import Decoder
from nlp_transfer.problems.ordinal import ORDINAL, Ordinal
from nlp_transfer.serving.app import Limits, make_app
from nlp_transfer.training.losses import LossOptions, find_loss

STARS = ("1", "2", "3", "4", "5")


def stars(rows: int) -> list[tuple[str, str]]:
    """How many of four words are kind? One star more each."""
    return [(text, STARS[kind]) for text, kind in texts_by_kindness(rows)]


def write(path: Path, rows: list[tuple[str, str]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return str(path)


@pytest.fixture(scope="module")
def run_of_stars(
    checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, str]:
    """A finished run, and the file of its test split."""
    home = tmp_path_factory.mktemp("stars")
    files = {split: write(home / f"{split}.csv", stars(rows)) for split, rows in SIZES.items()}
    words = ["+task=classify", f"checkpoint.name={checkpoints['bert']}", *QUIETLY]
    words += [f"dataset.{split}={file}" for split, file in files.items()]
    words += ["dataset.problem=ordinal", "strategy=probe_then_full", f"run_dir={home / 'run'}"]
    words += ["strategy.stages.all.epochs=1"]
    words += [f"tokenization.folder={home / 'tokens'}", "strategy.min_steps=0"]
    return run(compose(*words)), files["test"]


SIZES = {"train": 200, "validation": 100, "test": 120}


def test_ordered_classes_go_the_whole_way(run_of_stars: tuple[Any, str]) -> None:
    result, file = run_of_stars
    figures = result.metrics["test"]
    assert result.chosen_by == "quadratic_kappa"
    assert set(figures["metrics"]) == {"quadratic_kappa", "mae", "accuracy"}
    assert set(figures["intervals"]) == set(figures["metrics"])
    assert figures["metrics"]["quadratic_kappa"] > 0.5
    assert [row["label"] for row in figures["per_class"]] == list(STARS)
    config = json.loads((result.model / "config.json").read_text(encoding="utf-8"))
    assert config["problem_type"] == "single_label_classification"
    assert config["nlp_transfer_problem"] == "ordinal"
    plain = AutoModelForSequenceClassification.from_pretrained(result.model)
    assert list(plain.config.id2label.values()) == list(STARS)
    card = (result.model / "README.md").read_text(encoding="utf-8")
    assert "one of 5 ordered labels" in card
    assert "the median" in card
    assert "one of 5 ordered labels" in (result.folder / "report.html").read_text(encoding="utf-8")
    again = evaluate_model(result.folder, LabelledTexts(file)).measured["test"]["metrics"]
    assert again == pytest.approx(figures["metrics"])


@pytest.mark.slow
def test_every_way_of_asking_answers_with_the_median(run_of_stars: tuple[Any, str]) -> None:
    result, file = run_of_stars
    classifier = Classifier.load(result.model)
    texts = [text for text, _ in stars(SIZES["test"])]
    probabilities = classifier.probabilities(texts)
    median = [STARS[int(np.searchsorted(np.cumsum(row), 0.5))] for row in probabilities]
    assert [answer.label for answer in classifier.predict(texts)] == median
    assert median != [STARS[i] for i in probabilities.argmax(axis=1)]
    command = ["predict", str(result.folder), "--file", file, "--text", "text"]
    main([*command, "--prefix", "predicted_", "--out", "answers.csv", "--threads", "1"])
    with Path("answers.csv").open(encoding="utf-8") as rows:
        assert [row["predicted_label"] for row in csv.DictReader(rows)] == median
    with TestClient(make_app(classifier, Limits()), "http://localhost") as client:
        answer = client.post("/classify", json={"texts": texts[:3]}).json()["predictions"]
        assert [one["label"] for one in answer] == median[:3]
    exported = export_onnx(result.folder, of_run(result.folder), threads=1)
    assert exported.metric == "quadratic_kappa"
    assert exported.measured["onnx"].agreement == 1
    by_onnx = Classifier.load(result.model, "onnx", threads=1).predict(texts)
    assert [answer.label for answer in by_onnx] == median


def test_metrics_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    references = generator.integers(0, 5, 400)
    logits = generator.normal(size=(400, 5)) + 2 * np.eye(5)[references]
    metrics = load_metrics(EvaluationConfig(), STARS, ORDINAL)
    decided = metrics.decide(logits)
    values = metrics.compute(logits, references)
    kappa = sk.cohen_kappa_score(references, decided, weights="quadratic")
    assert values["quadratic_kappa"] == pytest.approx(kappa)
    assert values["mae"] == pytest.approx(sk.mean_absolute_error(references, decided))
    assert values["accuracy"] == pytest.approx(sk.accuracy_score(references, decided))
    weights = generator.integers(0, 4, 400)
    rows = metrics.rows(logits, references)
    weighted = next(m for m in metrics.metrics if m.name == "quadratic_kappa").on(rows)(weights)
    kappa = sk.cohen_kappa_score(references, decided, weights="quadratic", sample_weight=weights)
    assert float(weighted) == pytest.approx(kappa)
    same = np.zeros(20, dtype=np.int64)
    assert metrics.compute(np.eye(5)[same] * 9, same)["quadratic_kappa"] is None


def test_the_median_is_where_half_of_the_probability_is_reached() -> None:
    decoder = Decoder(STARS, ORDINAL)
    rows = np.array([[0.3, 0.1, 0.1, 0.1, 0.4], [0.5, 0.5, 0, 0, 0], [0, 0, 0, 0, 1.0]])
    assert decoder.decide(rows).tolist() == [2, 0, 4]
    assert decoder.prediction(rows[0]).label == "3"
    assert decoder.prediction(rows[0]).score == pytest.approx(0.1)


def test_the_loss_grows_with_the_distance() -> None:
    loss = find_loss(None, ORDINAL).function
    answers = torch.tensor([[0.0], [0.0], [1.0]])
    logits = torch.log(torch.tensor([[0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.25, 0.5, 0.25]]))
    losses = loss(logits, answers, LossOptions())
    # Cumulative differences: (-0.9, -0.1), (-0.9, -0.8), (0.25, -0.25).
    assert losses.tolist() == pytest.approx([0.82, 1.45, 0.125], abs=1e-6)
    weights = LossOptions(label_weights=torch.tensor([2.0, 1.0, 1.0]))
    assert loss(logits, answers, weights).tolist() == pytest.approx([1.64, 2.9, 0.125], abs=1e-6)


@pytest.mark.parametrize(
    ("cells", "order", "expected"),
    [
        (["10", "9", "2"], None, ("2", "9", "10")),
        (["high", "low", "medium"], ["low", "medium", "high"], ("low", "medium", "high")),
        (["low", "high"], ["low", "medium", "high"], ("low", "medium", "high")),
    ],
)
def test_the_order_is_the_integers_or_what_the_configuration_says(
    tmp_path: Path, cells: list[str], order: list[str] | None, expected: tuple[str, ...]
) -> None:
    file = write(tmp_path / "rows.csv", [(f"text {i}", cell) for i, cell in enumerate(cells)])
    config = DatasetConfig(train=file, validation=file, problem="ordinal", order=order)
    corpus = load_corpus(config, 0)
    assert corpus.labels == expected
    references = corpus.references("train")
    assert [corpus.labels[i] for i in references] == cells


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (None, r"needs the order of the labels.*dataset.order=\[low,medium,high\]"),
        (["low", "high"], "leaves out medium"),
        (["low", "medium", "high", "low"], "names a label twice"),
    ],
)
def test_an_order_that_is_not_clear_is_refused(
    tmp_path: Path, order: list[str] | None, message: str
) -> None:
    rows = [("a", "low"), ("b", "medium"), ("c", "high")]
    file = write(tmp_path / "rows.csv", rows)
    with pytest.raises(UserError, match=f"(?s){message}"):
        load_corpus(DatasetConfig(train=file, validation=file, problem="ordinal", order=order), 0)


def test_an_order_needs_ordered_labels(typed: Callable[..., list[str]]) -> None:
    with pytest.raises(UserError, match="dataset.order is for dataset.problem=ordinal"):
        compose(*typed("dataset.order=[low,high]"))
    with pytest.raises(UserError, match="'ordnal' is not one of.*Did you mean ordinal"):
        compose(*typed("dataset.problem=ordnal"))


@pytest.mark.parametrize(
    ("cells", "problem", "hinted"),
    [
        (["1", "2", "3"], "auto", True),
        (["0", "1"], "auto", False),
        (["1", "2", "4"], "auto", False),
        (["1", "2", "3"], "single_label", False),
    ],
)
def test_consecutive_integers_get_a_word_about_their_order(
    tmp_path: Path, cells: list[str], problem: str, hinted: bool
) -> None:
    file = write(tmp_path / "rows.csv", [(f"text {i}", cell) for i, cell in enumerate(cells)])
    corpus = load_corpus(DatasetConfig(train=file, validation=file, problem=problem), 0)
    assert corpus.problem.name == "single_label"
    assert any("dataset.problem=ordinal" in note for note in corpus.notes) == hinted


def test_a_kind_of_another_package_may_name_a_loss_of_ours() -> None:
    class Stars(Ordinal):
        """Written as stars."""

        name = "stars"

    assert find_loss(None, Stars()).name == "squared_earth_mover"
    with pytest.raises(UserError, match="is for regression, and the problem is stars"):
        find_loss("squared_error", Stars())
