"""Temperature against scikit-learn, in the last layer of real architectures, and to the end."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from architectures import ARCHITECTURES
from conftest import make_rows, mislabelled_files, slow_but
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from tiny_models import make_tokenizer

from nlp_transfer import compose, run
from nlp_transfer.config.sections.evaluation import EvaluationConfig
from nlp_transfer.evaluation.calibration import (
    Calibration,
    apply_calibration,
    fit_calibration,
    fit_temperature,
    scale,
)
from nlp_transfer.evaluation.metrics.probabilities import log_losses
from nlp_transfer.evaluation.reliability import COVERAGES, accuracy_by_coverage, reliability
from nlp_transfer.export.checkpoint import export
from nlp_transfer.inference.torch_engine import predict_logits
from nlp_transfer.models.head import last_linear
from nlp_transfer.problems.base import softmax
from nlp_transfer.problems.single_label import SINGLE_LABEL
from nlp_transfer.tokenization.batches import encode_texts
from nlp_transfer.tokenization.encoded import Encoded, EncodedSplit
from nlp_transfer.tokenization.encoding import collator_of
from nlp_transfer.utils.distributed import ProcessContext

Typed = Callable[..., list[str]]
ALONE = ProcessContext(0, 1, torch.device("cpu"))
WITHOUT_BIAS = transformers.GPT2Config(
    vocab_size=48, n_embd=32, n_layer=2, n_head=2, n_positions=64, pad_token_id=0
)


class Given(ClassifierMixin, BaseEstimator):
    """Logits as scikit-learn wants to be given them."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Given:
        self.classes_ = np.unique(y)
        self.is_fitted_ = len(x) > 0
        return self

    def decision_function(self, x: np.ndarray) -> np.ndarray:
        return x

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(axis=1)


def answers(over: float, rows: int = 300, labels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `over` times too large for their references, which are drawn from them."""
    generator = np.random.default_rng(0)
    right = generator.normal(size=(rows, labels)) * 1.5
    drawn = [generator.choice(labels, p=row) for row in softmax(right)]
    return (over * right).astype(np.float32), np.array(drawn)


@pytest.mark.parametrize("over", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_one_of_scikit_learn(over: float) -> None:
    logits, references = answers(over)
    frozen = FrozenEstimator(Given().fit(logits, references))
    theirs = CalibratedClassifierCV(frozen, method="temperature").fit(logits, references)
    ours = fit_temperature(logits, references)
    assert ours is not None
    np.testing.assert_allclose(softmax(logits / ours), theirs.predict_proba(logits), atol=1e-4)
    assert ours == pytest.approx(over, rel=0.15)
    # No temperature near it gives a lower log loss.
    losses = [log_losses(references, softmax(logits / t)).mean() for t in (ours, ours / 1.01)]
    assert losses[0] < losses[1]
    assert losses[0] < log_losses(references, softmax(logits / (ours * 1.01))).mean()


def test_blocks_of_rows_give_the_temperature_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, references = answers(3.0)
    whole = fit_temperature(logits, references)
    monkeypatch.setattr("nlp_transfer.evaluation.calibration.BLOCK", 100)
    assert fit_temperature(logits, references) == pytest.approx(whole, rel=1e-9)


def test_where_nothing_is_known_there_is_no_temperature() -> None:
    logits, references = answers(1.0)
    assert fit_temperature(logits, logits.argmin(axis=1)) is None
    assert fit_temperature(logits, references) is not None


def test_where_every_row_is_right_the_temperature_is_drawn_to_one() -> None:
    logits, _ = answers(1.0)
    right = logits.argmax(axis=1)
    temperatures = [fit_temperature(logits[:rows], right[:rows]) for rows in (20, 400)]
    assert 0.05 <= temperatures[1] < temperatures[0] < 1  # type: ignore[operator]
    losses = [log_losses(right, softmax(logits / t)).mean() for t in (*temperatures, 1.0)]
    assert losses[1] < losses[0] < losses[2]


def calibrate(
    model: Any, encoded: Encoded, config: EvaluationConfig, process: ProcessContext
) -> Calibration:
    """As the pipeline does it with a validation split."""
    split, collator = encoded.splits["validation"], encoded.collator
    logits = predict_logits(model, split.inputs, collator, config.max_tokens, process)
    fitted = fit_calibration(logits, split.labels, SINGLE_LABEL, config)
    return apply_calibration(model, fitted, split.inputs, collator, process)


def classifier(architecture: str) -> Any:
    """Random, tiny, of three labels, with logits that differ from text to text."""
    torch.manual_seed(0)
    config = copy.deepcopy({**ARCHITECTURES, "gpt2_without_bias": WITHOUT_BIAS}[architecture])
    config.num_labels, config.initializer_range = 3, 0.5
    return transformers.AutoModelForSequenceClassification.from_config(config)


def overconfident_split(model: Any, over: float) -> tuple[Encoded, list[str]]:
    """Validation whose references are drawn from logits that the model gives `over` times."""
    tokenizer = make_tokenizer("bert")
    texts = [text for text, _ in make_rows(120)]
    inputs, collator = encode_texts(texts, tokenizer, 64), collator_of(tokenizer)
    scale(last_linear(model), over * 2 / predict_logits(model, inputs, collator).std())
    right = softmax(predict_logits(model, inputs, collator) / over)
    generator = np.random.default_rng(0)
    references = np.array([generator.choice(3, p=row) for row in right])
    return Encoded({"validation": EncodedSplit(inputs, references, 0)}, collator), texts


PLAIN = ("bert",)


@pytest.mark.parametrize("architecture", slow_but(PLAIN, [*ARCHITECTURES, "gpt2_without_bias"]))
def test_a_plain_pipeline_gives_the_calibrated_probabilities_and_the_same_answers(
    architecture: str, tmp_path: Path
) -> None:
    model = classifier(architecture)
    encoded, texts = overconfident_split(model, 3.0)
    validation = encoded.splits["validation"]
    before = predict_logits(model, validation.inputs, encoded.collator)
    calibration = calibrate(model, encoded, EvaluationConfig(), ALONE)
    assert calibration.left_out is None
    assert 2 < calibration.temperature < 4.5
    after = predict_logits(model, validation.inputs, encoded.collator)
    np.testing.assert_allclose(calibration.before(after), before, rtol=1e-5, atol=1e-5)
    assert (after.argmax(axis=1) == before.argmax(axis=1)).all()
    losses = [log_losses(validation.labels, softmax(x)).mean() for x in (after, before)]
    assert losses[0] < losses[1]
    export(model, make_tokenizer("bert"), "tiny", 64, tmp_path / "model")
    classify = transformers.pipeline("text-classification", str(tmp_path / "model"), top_k=None)
    expected_rows = softmax(before / calibration.temperature)[:20]
    for answers_of_text, expected in zip(classify(texts[:20]), expected_rows, strict=True):
        answer = {row["label"]: row["score"] for row in answers_of_text}
        probabilities = [answer[f"LABEL_{i}"] for i in range(3)]
        np.testing.assert_allclose(probabilities, expected, atol=1e-5)


@pytest.mark.parametrize("bent", ["tanh", "shifted", "no layer"])
def test_a_model_whose_last_layer_does_not_give_the_logits_stays_as_it_is(bent: str) -> None:
    model = classifier("bert")
    encoded, _ = overconfident_split(model, 3.0)
    if bent == "tanh":
        model.classifier = torch.nn.Sequential(model.classifier, torch.nn.Tanh())
    elif bent == "shifted":
        model.classifier.register_forward_hook(lambda _, __, out: out + 1)
    else:
        model.classifier = torch.nn.Sequential(torch.nn.Linear(32, 6), torch.nn.GLU())
    before = {name: p.clone() for name, p in model.state_dict().items()}
    inputs = encoded.splits["validation"].inputs
    calibration = apply_calibration(model, Calibration(3.0, None), inputs, encoded.collator, ALONE)
    assert calibration == Calibration(1.0, "the logits are not the output of a last linear layer")
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())


def test_what_would_not_help_is_left_out_and_said() -> None:
    model = classifier("bert")
    encoded, _ = overconfident_split(model, 1.0)
    split = encoded.splits["validation"]
    logits = predict_logits(model, split.inputs, encoded.collator)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    wrong = replace(split, labels=logits.argmin(axis=1))
    other = replace(encoded, splits={"validation": wrong})
    unfitted = Calibration(1.0, "no temperature fits the held-out rows")
    assert calibrate(model, other, EvaluationConfig(), ALONE) == unfitted
    off = EvaluationConfig(calibrate=False)
    assert calibrate(model, encoded, off, ALONE).left_out == "evaluation.calibrate=false"
    # As good as it can be: a temperature fitted on some rows does not help the others.
    right = calibrate(model, encoded, EvaluationConfig(), ALONE)
    assert right.left_out is None or "unseen held-out rows" in right.left_out
    if right.left_out is not None:
        assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())


def test_reliability_and_coverage_are_those_counted_by_hand() -> None:
    probabilities = np.array([[0.95, 0.05], [0.05, 0.95], [0.94, 0.06], [0.4, 0.6], [0.55, 0.45]])
    references = np.array([0, 1, 1, 1, 1])
    probabilities, references = np.tile(probabilities, (2, 1)), np.tile(references, 2)
    bins = reliability(references, probabilities)
    assert [row["rows"] for row in bins] == [2, 2, 6]
    assert bins[2]["confidence"] == pytest.approx((0.95 + 0.95 + 0.94) / 3)
    assert bins[2]["accuracy"] == pytest.approx(2 / 3)
    assert bins[2]["low"] <= 0.94 < 0.95 <= bins[2]["high"]
    curve = {row["coverage"]: row for row in accuracy_by_coverage(references, probabilities)}
    assert tuple(curve) == COVERAGES
    assert curve[1.0]["accuracy"] == 0.6
    assert curve[0.6] == {"coverage": 0.6, "rows": 6, "accuracy": 2 / 3, "confidence": 0.94}
    assert curve[0.4]["accuracy"] == 1
    assert curve[0.1]["rows"] == 1
    fewer = (references[:9], probabilities[:9])
    assert reliability(*fewer) == accuracy_by_coverage(*fewer) == []


def test_what_is_measured_exported_and_answered_is_one_calibrated_model(
    typed: Typed, tmp_path: Path
) -> None:
    sizes = {"train": 101, "validation": 90, "test": 90}
    files = mislabelled_files(tmp_path, sizes, share=0.25)
    learns = ("strategy.learning_rate=1e-3", "strategy.epochs=12", "training.keep_best=false")
    names = "evaluation.metrics=[accuracy,log_loss,ece]"
    result = run(compose(*typed(*files, *learns, names, "run_dir=on")))
    calibration = json.loads(Path("on/run.json").read_text())["calibration"]
    assert calibration["left_out"] is None
    assert abs(np.log(calibration["temperature"])) > 0.1
    assert (
        calibration["validation"]["after"]["log_loss"]
        < calibration["validation"]["before"]["log_loss"]
    )
    for split in ("validation", "test"):
        measured = result.metrics[split]["metrics"]
        assert calibration[split]["after"]["log_loss"] == pytest.approx(measured["log_loss"])
        assert calibration[split]["after"]["ece"] == pytest.approx(measured["ece"])
    printed = str(result)
    assert f"temperature {calibration['temperature']:.3f}" in printed
    low, high = result.metrics["test"]["intervals"]["accuracy"]
    value = result.metrics["test"]["metrics"]["accuracy"]
    assert f"{value:.3f} [{low:.3f}, {high:.3f}]" in printed

    # As whoever is given the folder would find out.
    with (tmp_path / "test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    classify = transformers.pipeline("text-classification", str(result.model), top_k=None)
    losses = []
    for row, answer in zip(rows, classify([row["text"] for row in rows]), strict=True):
        scores = {entry["label"]: entry["score"] for entry in answer}
        losses.append(-np.log(scores[row["label"]]))
    measured = result.metrics["test"]["metrics"]["log_loss"]
    assert np.mean(losses) == pytest.approx(measured, abs=1e-6)
