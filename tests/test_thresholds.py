"""Decision thresholds are chosen on validation and are the same for every command."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FILLING, NASTY, NICE, mislabelled_files
from sklearn import metrics as sk

from nlp_transfer import Classifier, compose, run
from nlp_transfer.cli.main import main
from nlp_transfer.config.choices import Thresholds
from nlp_transfer.config.sections.evaluation import EvaluationConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.metric_set import load_metrics
from nlp_transfer.evaluation.thresholds import (
    LEAST,
    NEVER,
    choose,
    for_f1,
    for_precision,
    of_label,
    unseen_values,
)
from nlp_transfer.export.onnx_parity import worth_of
from nlp_transfer.problems import Problem
from nlp_transfer.problems.decoder import Decoder
from nlp_transfer.problems.multi_label import MULTI_LABEL
from nlp_transfer.problems.regression import REGRESSION
from nlp_transfer.problems.single_label import SINGLE_LABEL

Typed = Callable[..., list[str]]


def column(rows: int, share: float, apart: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of one label that know a little, some of them equal; and who has it."""
    generator = np.random.default_rng(rows)
    right = generator.random(rows) < share
    logits = generator.normal(size=rows) + apart * right - 3
    return (1 / (1 + np.exp(-logits))).round(2), right


@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_no_threshold_has_a_larger_f1(share: float) -> None:
    probabilities, right = column(400, share)
    f1 = sk.f1_score(right, probabilities > for_f1(probabilities, right))
    precision, recall, _ = sk.precision_recall_curve(right, probabilities)
    best = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    assert f1 == pytest.approx(best.max())
    assert for_f1(probabilities, right) not in probabilities  # it lies between two of them


@pytest.mark.parametrize("precision", [0.3, 0.6, 0.9])
def test_a_wanted_precision_keeps_as_much_recall_as_it_can(precision: float) -> None:
    probabilities, right = column(2000, 0.3)
    threshold = for_precision(probabilities, right, precision)
    assert threshold is not None
    decisions = probabilities > threshold
    assert sk.precision_score(right, decisions) >= precision
    lower = [t for t in np.unique(probabilities) if t < threshold - 0.01]
    worse = [sk.precision_score(right, probabilities > t) for t in lower]
    assert max(worse, default=0) < precision


def test_too_few_rows_and_thresholds_that_would_not_help_leave_one_half() -> None:
    probabilities, right = column(400, 0.3)
    few = right & (np.cumsum(right) < LEAST)
    assert of_label(probabilities, few) == (
        0.5,
        "9 rows of validation have it, at least 10 are needed",
    )
    perfect = np.where(right, 0.9, 0.1)
    threshold, why = of_label(perfect, right)
    assert threshold == 0.5
    assert why is not None and "not raise the F1 of unseen" in why
    nothing = np.random.default_rng(0).random(400)
    threshold, why = of_label(nothing, right, precision=0.95)
    assert threshold == NEVER
    assert why is not None and "never assigned" in why
    assert not (nothing > threshold).any()


def test_every_label_has_its_own_threshold_and_what_was_left_is_said() -> None:
    columns = [column(600, share) for share in (0.1, 0.4, 0.005)]
    probabilities = np.stack([p for p, _ in columns], axis=1).clip(0.001, 0.999)
    references = np.stack([right for _, right in columns], axis=1).astype(np.float32)
    logits = np.log(probabilities / (1 - probabilities))
    metrics = load_metrics(EvaluationConfig(), ("a", "b", "c"), MULTI_LABEL)
    choice = choose(logits, references, metrics, EvaluationConfig())
    assert choice.how == "f1"
    assert set(choice.left) == {"c"}
    for i, label in enumerate("ab"):
        assert choice.thresholds[label] == pytest.approx(
            for_f1(probabilities[:, i], references[:, i] > 0)
        )
    off = EvaluationConfig(thresholds=Thresholds.none)
    assert choose(logits, references, metrics, off).thresholds == {}


def drawn(seed: int, rows: int = 90) -> tuple[np.ndarray, np.ndarray]:
    """Logits that know little of six labels, and which rows have them."""
    generator = np.random.default_rng(seed)
    references = (generator.random((rows, 6)) < 0.25).astype(np.float32)
    return generator.normal(size=references.shape) + 0.8 * references - 1.5, references


def test_figures_by_thresholds_of_other_rows_are_those_of_new_texts() -> None:
    config = EvaluationConfig()
    plain = load_metrics(config, tuple("abcdef"), MULTI_LABEL)
    gaps = []
    for seed in range(20):
        thresholds = choose(*drawn(seed), plain, config).thresholds
        metrics = replace(plain, thresholds=thresholds)
        same_rows = metrics.compute(*drawn(seed))["f1_macro"]
        unseen = unseen_values(*drawn(seed), metrics, config)["f1_macro"]
        new = metrics.compute(*drawn(seed + 100, 5000))["f1_macro"]
        assert same_rows is not None and unseen is not None and new is not None
        gaps.append((same_rows - new, unseen - new))
    flattering, left = np.mean(gaps, axis=0)
    assert flattering > 0.03
    assert abs(left) < flattering / 2


def test_of_two_labels_one_has_a_threshold_and_else_the_other_is_given() -> None:
    decoder = Decoder(("no", "yes"), thresholds={"yes": 0.2})
    rows = np.array([[0.9, 0.1], [0.7, 0.3], [0.1, 0.9]])
    assert decoder.decide(rows).tolist() == [0, 1, 1]
    prediction = decoder.prediction(rows[1])
    assert (prediction.label, prediction.score) == ("yes", 0.3)


def test_an_export_is_judged_by_the_labels_that_it_would_give() -> None:
    generator = np.random.default_rng(0)
    references = (generator.random((50, 2)) < 0.4).astype(np.float32)
    logits = generator.normal(size=(50, 2)) + references - 1
    thresholds = {"a": 0.2, "b": 0.3}
    decoder = Decoder(("a", "b"), MULTI_LABEL, thresholds)
    worth, interval = worth_of(logits, references, decoder)
    decided = decoder.probabilities(logits) > list(thresholds.values())
    assert worth == pytest.approx(sk.f1_score(references, decided, average="micro"))
    assert interval is not None and interval[0] < worth < interval[1]


def mixed(path: Path, rows: int) -> Path:
    """Kind words are rare; some of the labels are wrong."""
    generator = random.Random(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "nice", "nasty"])
        for _ in range(rows):
            has = [int(generator.random() < share) for share in (0.25, 0.5)]
            words = [generator.choice(FILLING) for _ in range(6)]
            words += [generator.choice(w) for w, h in zip((NICE, NASTY), has, strict=True) if h]
            noisy = [h if generator.random() > 0.15 else 1 - h for h in has]
            writer.writerow([" ".join(words), *noisy])
    return path


def test_what_is_chosen_is_measured_exported_answered_and_said(
    typed: Typed, tmp_path: Path
) -> None:
    sizes = {"train": 120, "validation": 90, "test": 80}
    files = {split: mixed(tmp_path / f"{split}.csv", size) for split, size in sizes.items()}
    overrides = [f"dataset.{split}={file}" for split, file in files.items()]
    learns = ("strategy.learning_rate=1e-3", "strategy.epochs=6", "dataset.label=[nice,nasty]")
    result = run(compose(*typed(*overrides, *learns, "run_dir=several")))
    printed = str(result)

    entries = json.loads(Path("several/run.json").read_text())
    assert entries["thresholds"]["how"] == "f1"
    thresholds = entries["thresholds"]["thresholds"]
    config = json.loads((result.model / "config.json").read_text())
    assert config["label_thresholds"] == thresholds
    assert thresholds["nice"] != 0.5

    # As whoever is given the folder would find out.
    with files["test"].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    references = np.array([[int(row[name]) for name in ("nice", "nasty")] for row in rows])
    answers = Classifier.load(result.model).predict([row["text"] for row in rows])
    decided = np.array([[name in a.labels for name in ("nice", "nasty")] for a in answers])
    shares = np.array([list(a.probabilities.values()) for a in answers])
    test = result.metrics["test"]
    assert test["metrics"]["f1_macro"] == pytest.approx(
        sk.f1_score(references, decided, average="macro")
    )
    plain = test["at_one_half"]["metrics"]["f1_macro"]
    assert plain == pytest.approx(sk.f1_score(references, shares > 0.5, average="macro"))
    assert plain != test["metrics"]["f1_macro"]
    for figures in (test, test["at_one_half"]):
        assert set(figures["intervals"]) == set(test["metrics"])
        for name, (low, high) in figures["intervals"].items():
            assert low <= figures["metrics"][name] <= high
    assert [row["threshold"] for row in test["per_class"]] == list(thresholds.values())
    for split in ("validation", "test"):
        confidence = entries["calibration"][split]["after"]["log_loss"]
        measured = sk.log_loss(references.ravel(), shares.ravel())
        assert split == "validation" or confidence == pytest.approx(measured, abs=1e-5)

    assert "Thresholds for f1, chosen on validation" in printed
    note = next(n for n in result.metrics["validation"]["notes"] if "four fifths" in n)
    assert " ".join(note.split()) in " ".join(printed.split())
    assert "notes" not in test
    assert f"f1_macro {plain:.3f} [" in " ".join(printed.split())
    card = (result.model / "README.md").read_text(encoding="utf-8")
    assert "| test, threshold 0.5 | 80 |" in card
    assert f"{thresholds['nice']:.4f}" in card
    assert "`label_thresholds`" in card

    main(
        [
            "predict",
            "several",
            "--file",
            str(files["test"]),
            "--text",
            "text",
            "--prefix",
            "p_",
            "--out",
            "out.csv",
        ]
    )
    with Path("out.csv").open(newline="", encoding="utf-8") as file:
        assert [row["p_labels"] for row in csv.DictReader(file)] == [
            "|".join(answer.labels) for answer in answers
        ]


@pytest.mark.slow
def test_of_two_classes_the_positive_one_has_a_threshold_on_request(
    typed: Typed, tmp_path: Path
) -> None:
    sizes = {"train": 101, "validation": 90, "test": 60}
    files = mislabelled_files(tmp_path, sizes, share=0.3)
    options = ("strategy=feature_extraction", "evaluation.metrics=[f1,accuracy]", "run_dir=two")
    result = run(compose(*typed(*files, *options, "evaluation.thresholds=f1")))
    config = json.loads((result.model / "config.json").read_text())
    assert set(config["label_thresholds"]) == {"positive"}
    with (tmp_path / "test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    answers = Classifier.load("two").predict([row["text"] for row in rows])
    labels = [answer.label for answer in answers]
    references = [row["label"] for row in rows]
    measured = result.metrics["test"]["metrics"]
    assert measured["accuracy"] == pytest.approx(sk.accuracy_score(references, labels))
    assert measured["f1"] == pytest.approx(sk.f1_score(references, labels, pos_label="positive"))
    confusion = sk.confusion_matrix(references, labels)
    assert result.metrics["test"]["confusion"] == confusion.tolist()
    low, high = result.metrics["test"]["intervals"]["f1"]
    assert low <= measured["f1"] <= high


@pytest.mark.parametrize(
    ("labels", "problem", "rule", "message"),
    [
        (("score",), REGRESSION, Thresholds.f1, "here are scores"),
        (("a", "b", "c"), SINGLE_LABEL, Thresholds.precision, "here are 3 labels"),
    ],
)
def test_thresholds_that_have_nothing_to_decide_are_refused(
    labels: tuple[str, ...], problem: Problem, rule: Thresholds, message: str
) -> None:
    config = EvaluationConfig(thresholds=rule)
    metrics = load_metrics(EvaluationConfig(), labels, problem)
    with pytest.raises(UserError, match=message) as caught:
        choose(np.zeros((4, len(labels))), np.zeros(4), metrics, config)
    assert caught.value.code is ExitCode.CONFIG


@pytest.mark.parametrize(
    ("typed_in", "message"),
    [
        ("evaluation.wanted_precision=0.8", "needs evaluation.thresholds=precision"),
        ("evaluation.wanted_precision=1.5", "at most 1"),
        ("evaluation.thresholds=recall", "evaluation.thresholds"),
    ],
)
def test_impossible_thresholds_are_refused(typed_in: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        compose("+task=classify", "dataset.train=rows.csv", typed_in)
    assert caught.value.code is ExitCode.CONFIG


def test_a_folder_without_thresholds_answers_as_before() -> None:
    two: dict[str, Any] = {"id2label": {"0": "a", "1": "b"}}
    assert Decoder.from_model_config(two).thresholds == {}
    several = Decoder.from_model_config(two | {"problem_type": "multi_label_classification"})
    assert several.decide(np.array([[0.51, 0.5]])).tolist() == [[True, False]]
    # One output is read as `pipeline` reads it: yes or no.
    alone = Decoder.from_model_config({"id2label": {"0": "spam"}})
    assert alone.problem is MULTI_LABEL
