"""Metrics against scikit-learn, and the one forward loop against the model asked row by row."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import evaluate
import numpy as np
import pytest
import torch
from conftest import make_rows
from scipy import special
from sklearn import metrics as sk
from tiny_models import make_tokenizer
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from nlp_transfer.config.sections.evaluation import EvaluationConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.calibration import Calibration
from nlp_transfer.evaluation.evaluator import evaluate_split
from nlp_transfer.evaluation.metric_set import Metrics, load_metrics, with_defined_best
from nlp_transfer.evaluation.metrics.hub import as_evaluate_metric
from nlp_transfer.evaluation.registry import greater_is_better, metrics_of
from nlp_transfer.evaluation.rows import Classes
from nlp_transfer.inference.torch_engine import predict_logits
from nlp_transfer.problems.base import softmax
from nlp_transfer.problems.multi_label import MULTI_LABEL
from nlp_transfer.problems.regression import REGRESSION
from nlp_transfer.reporting.console import metric_table
from nlp_transfer.reporting.figures import describe_calibration, split_figures
from nlp_transfer.reporting.splits import figures_source
from nlp_transfer.tokenization.batches import encode_texts
from nlp_transfer.tokenization.encoding import collator_of

NAMES = ("a", "b", "c", "d", "e")
OURS = metrics_of("single_label")
BINARY = ("f1", "precision", "recall")
Score = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


def labels(count: int) -> tuple[str, ...]:
    return NAMES[:count]


def metrics_for(metrics: list[str], count: int, positive: str | None = None) -> Metrics:
    return load_metrics(
        EvaluationConfig(metrics, metrics[0], positive_label=positive), labels(count)
    )


def answers(count: int, rows: int = 80, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random logits that know a little, and references with every label."""
    generator = np.random.default_rng(seed)
    references = generator.permutation(np.arange(rows) % count)
    logits = generator.normal(size=(rows, count)) + np.eye(count)[references]
    return logits.astype(np.float32), references


def sk_auc(references: np.ndarray, probabilities: np.ndarray) -> float:
    if probabilities.shape[1] == 2:
        return sk.roc_auc_score(references, probabilities[:, 1])
    return sk.roc_auc_score(references, probabilities, multi_class="ovr", average="macro")


def by_hand_ece(references: np.ndarray, probabilities: np.ndarray) -> float:
    """Guo et al. 2017, row by row."""
    bins: dict[int, list[float]] = {}
    for reference, row in zip(references, probabilities, strict=True):
        confidence = max(row)
        right = float(list(row).index(confidence) == reference)
        bins.setdefault(min(int(confidence * 15), 14), []).append(right - confidence)
    return sum(abs(sum(gaps)) for gaps in bins.values()) / len(references)


# name: what scikit-learn says of references, predicted ids and probabilities
EXPECTED: dict[str, Score] = {
    "accuracy": lambda r, p, _: sk.accuracy_score(r, p),
    "f1": lambda r, p, _: sk.f1_score(r, p),
    "f1_macro": lambda r, p, _: sk.f1_score(r, p, average="macro"),
    "f1_weighted": lambda r, p, _: sk.f1_score(r, p, average="weighted"),
    "precision": lambda r, p, _: sk.precision_score(r, p),
    "precision_macro": lambda r, p, _: sk.precision_score(r, p, average="macro"),
    "recall": lambda r, p, _: sk.recall_score(r, p),
    "recall_macro": lambda r, p, _: sk.recall_score(r, p, average="macro"),
    "matthews": lambda r, p, _: sk.matthews_corrcoef(r, p),
    "roc_auc": lambda r, _, q: sk_auc(r, q),
    "log_loss": lambda r, _, q: sk.log_loss(r, q),
    "brier": lambda r, _, q: sk.brier_score_loss(r, q if q.shape[1] > 2 else q[:, 1]),
    "ece": lambda r, _, q: by_hand_ece(r, q),
}


def test_every_metric_we_have_is_compared_below() -> None:
    assert set(EXPECTED) == {*OURS}
    assert [name for name in OURS if OURS[name].binary] == [*BINARY]


@pytest.mark.parametrize("count", [2, 5])
def test_metrics_are_those_of_scikit_learn(count: int) -> None:
    names = [name for name in EXPECTED if count == 2 or name not in BINARY]
    logits, references = answers(count)
    values = metrics_for(names, count).compute(logits, references)
    assert set(values) == set(names)
    predicted, probabilities = logits.argmax(axis=1), special.softmax(logits.astype(float), axis=1)
    for name in names:
        assert values[name] == pytest.approx(EXPECTED[name](references, predicted, probabilities))


@pytest.mark.parametrize(("positive", "number"), [(None, 1), ("b", 1), ("a", 0)])
def test_binary_metrics_are_of_the_positive_label(positive: str | None, number: int) -> None:
    # More of one label than of the other, or both would score alike.
    logits, references = answers(2)
    logits[:, 0] += 0.7
    predicted = logits.argmax(axis=1)
    values = metrics_for(["f1", "precision", "recall"], 2, positive).compute(logits, references)
    for name, score in (
        ("f1", sk.f1_score),
        ("precision", sk.precision_score),
        ("recall", sk.recall_score),
    ):
        assert values[name] == pytest.approx(score(references, predicted, pos_label=number))
        assert values[name] != pytest.approx(score(references, predicted, pos_label=1 - number))


def test_a_positive_label_that_is_no_label_is_an_error() -> None:
    with pytest.raises(UserError) as caught:
        metrics_for(["f1"], 2, "spam")
    assert caught.value.code is ExitCode.CONFIG
    assert "evaluation.positive_label='spam'" in str(caught.value)
    assert "a, b" in str(caught.value)


@pytest.mark.parametrize("name", BINARY)
def test_a_binary_metric_of_three_labels_is_refused_before_training(name: str) -> None:
    with pytest.raises(UserError) as caught:
        metrics_for([name], 3)
    assert caught.value.code is ExitCode.CONFIG
    assert f"{name}_macro" in str(caught.value)


@pytest.mark.parametrize("name", ["accurracy", "glue-of-nowhere"])
def test_an_unknown_metric_is_one_error_that_lists_ours(name: str) -> None:
    with pytest.raises(UserError) as caught:
        metrics_for(["accuracy", name], 2)
    assert caught.value.code is ExitCode.CONFIG
    assert repr(name) in str(caught.value)
    assert ", ".join(OURS) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_metric_that_chooses_the_epoch_knows_which_way_is_better(name: str) -> None:
    logits, references = answers(2)
    right = np.where(np.eye(2)[references] == 1, 30.0, -30.0)
    metrics = metrics_for([name], 2)
    gained = metrics.compute(right, references)[name] - metrics.compute(logits, references)[name]
    assert metrics.greater_is_better is (gained > 0)
    assert greater_is_better(name) is (gained > 0)


def test_choosing_by_what_is_not_measured_is_an_error() -> None:
    with pytest.raises(UserError, match="evaluation.best='f1_macro'") as caught:
        load_metrics(EvaluationConfig(["accuracy"], "f1_macro"), labels(2))
    assert caught.value.code is ExitCode.CONFIG


@pytest.mark.parametrize("count", [2, 5])
@pytest.mark.parametrize("name", EXPECTED)
def test_a_split_of_one_class_gives_a_number_or_none_and_no_warning(name: str, count: int) -> None:
    asked_for = f"{name}_macro" if name in BINARY and count > 2 else name
    metrics = metrics_for([asked_for], count)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # All of it right, then some of it wrong.
        right = metrics.compute(4 * np.eye(count)[[0] * 12], np.zeros(12, dtype=int))
        wrong = metrics.compute(4 * np.eye(count)[[0, 1, 1] * 4], np.zeros(12, dtype=int))
    for values in (right, wrong):
        value = values[asked_for]
        assert (value is None) == (name == "roc_auc")
        assert value is None or np.isfinite(value)


def test_roc_auc_of_many_labels_is_averaged_over_those_that_the_split_has() -> None:
    logits, references = answers(5)
    here = references != 3
    logits, references = logits[here], references[here]
    probabilities = special.softmax(logits.astype(float), axis=1)
    each = [sk.roc_auc_score(references == i, probabilities[:, i]) for i in (0, 1, 2, 4)]
    assert metrics_for(["roc_auc"], 5).compute(logits, references)["roc_auc"] == pytest.approx(
        np.mean(each)
    )


def test_a_label_that_is_nowhere_is_left_out_of_a_macro_average_as_in_scikit_learn() -> None:
    names = ["f1_macro", "precision_macro", "recall_macro", "log_loss"]
    metrics = metrics_for(names, 4)
    # The label 3 is neither here nor answered; the label 2 is only answered.
    logits, references = 4 * np.eye(4)[[0, 1, 2]], np.array([0, 1, 0])
    values = metrics.compute(logits, references)
    scores = (sk.f1_score, sk.precision_score, sk.recall_score)
    for name, score in zip(names, scores, strict=False):
        expected = score(references, logits.argmax(axis=1), average="macro", zero_division=0)
        assert values[name] == pytest.approx(expected)
    losses = -special.log_softmax([[4.0, 0, 0, 0], [0, 0, 4.0, 0]], axis=1)[:, 0]
    assert values["log_loss"] == pytest.approx((2 * losses[0] + losses[1]) / 3)
    # One row that is right is all right, and the figures say over how many labels they are.
    one = metrics.of_rows(logits[:1], references[:1])
    assert one["metrics"]["f1_macro"] == 1
    assert one["labels"] == 1
    evaluation = evaluate_split(logits, references, metrics, labels(4))
    assert "over 3 of 4 labels" in " ".join(evaluation.notes)
    # Of several labels as scikit-learn does if it is told that 0 of 0 is undefined.
    many = load_metrics(EvaluationConfig(["f1_macro"]), labels(4), MULTI_LABEL)
    several = np.eye(4, dtype=np.float32)[[0, 1, 0]]
    f1 = sk.f1_score(several, logits > 0, average="macro", zero_division=np.nan)
    assert many.compute(logits - 0.1, several)["f1_macro"] == pytest.approx(f1)


def test_fewer_than_ten_rows_have_no_intervals_and_no_calibration_error() -> None:
    logits, references = answers(2, rows=10)
    metrics = metrics_for(["accuracy", "log_loss", "ece"], 2)
    ten = evaluate_split(logits, references, metrics, labels(2))
    assert set(ten.intervals) == {"accuracy", "log_loss", "ece"}
    assert ten.notes == ()
    nine = evaluate_split(logits[:9], references[:9], metrics, labels(2))
    assert nine.intervals == {}
    assert nine.metrics["ece"] is None
    assert nine.metrics["log_loss"] is not None
    assert nine.notes == (
        "9 rows are too few for intervals and calibration figures (at least 10).",
    )
    figures = split_figures({"test": nine})["test"]
    assert figures["notes"] == list(nine.notes)
    assert figures["reliability"] == figures["coverage"] == []
    assert "test: 9 rows are too few" in metric_table({"test": figures})
    assert "(at least 10)" in figures_source({"test": figures})
    assert "notes" not in split_figures({"test": ten})["test"]
    before = describe_calibration(Calibration(1.0, None), {"test": nine})["test"]["before"]
    assert set(before) == {"log_loss", "reliability"}


def test_our_metrics_can_be_used_as_metrics_of_the_evaluate_library() -> None:
    logits, references = answers(2)
    predicted = logits.argmax(axis=1)
    classes = Classes(labels(2), 1)
    ours = [as_evaluate_metric(OURS[name], classes) for name in ("accuracy", "f1", "matthews")]
    by_probability = as_evaluate_metric(OURS["log_loss"], classes)
    assert all(isinstance(metric, evaluate.Metric) for metric in [*ours, by_probability])
    together = evaluate.combine(ours).compute(predictions=predicted, references=references)
    assert together == {
        "accuracy": pytest.approx(sk.accuracy_score(references, predicted)),
        "f1": pytest.approx(sk.f1_score(references, predicted)),
        "matthews": pytest.approx(sk.matthews_corrcoef(references, predicted)),
    }
    alone = by_probability.compute(predictions=softmax(logits), references=references)
    assert alone == {"log_loss": pytest.approx(sk.log_loss(references, softmax(logits)))}
    # As the library is used for rows that come in portions.
    for start in range(0, len(references), 32):
        part = slice(start, start + 32)
        ours[0].add_batch(predictions=predicted[part], references=references[part])
    assert ours[0].compute() == {"accuracy": together["accuracy"]}


def test_the_table_by_class_is_that_of_scikit_learn() -> None:
    logits, references = answers(5)
    # One label is never predicted, another is nowhere: not in the split and not predicted.
    here = references != 2
    logits, references = logits[here], references[here]
    logits[:, 1:3] = -100
    evaluation = evaluate_split(logits, references, metrics_for(["accuracy"], 5), labels(5))
    report = sk.classification_report(
        references,
        logits.argmax(axis=1),
        labels=range(5),
        target_names=labels(5),
        output_dict=True,
        zero_division=0.0,
    )
    assert [row["label"] for row in evaluation.per_class] == list(labels(5))
    for row in evaluation.per_class:
        expected = report[row["label"]]
        for ours, theirs in (("f1", "f1-score"), *((n, n) for n in ("precision", "recall"))):
            assert row[ours] == pytest.approx(expected[theirs])
        assert row["support"] == expected["support"]
    theirs = sk.confusion_matrix(references, logits.argmax(axis=1), labels=range(5))
    assert evaluation.confusion.tolist() == theirs.tolist()
    assert evaluation.metrics == metrics_for(["accuracy"], 5).compute(logits, references)


@pytest.mark.parametrize("size", [1.0, 1e3, 1e30])
def test_softmax_is_stable_for_large_logits(size: float) -> None:
    logits = np.array([[1, 0, -1], [0, 0, 0], [-1, -1, 1]], dtype=np.float32) * np.float32(size)
    probabilities = softmax(logits)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities, special.softmax(logits.astype(float), axis=1))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer("bert")


@pytest.fixture
def model(tokenizer: PreTrainedTokenizerFast) -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,  # logits that differ from text to text
        num_labels=3,
    )
    return BertForSequenceClassification(config)


@pytest.mark.parametrize("max_tokens", [1, 60, 100_000])
@pytest.mark.parametrize("training", [True, False])
def test_logits_come_in_the_order_of_the_rows_whatever_the_batches(
    model: BertForSequenceClassification,
    tokenizer: PreTrainedTokenizerFast,
    max_tokens: int,
    training: bool,
) -> None:
    texts = [text for text, _ in make_rows(23)]
    model.eval()
    with torch.no_grad():
        alone = [model(**tokenizer(t, return_tensors="pt")).logits[0].tolist() for t in texts]
    # Texts that all got the same answer would show no mistake in their order.
    assert np.ptp(np.array(alone), axis=0).min() > 0.1
    model.train(training)
    inputs = encode_texts(texts, tokenizer, 64)
    logits = predict_logits(model, inputs, collator_of(tokenizer), max_tokens)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, alone, rtol=0, atol=1e-5)
    assert model.training is training
    assert all(module.training is training for module in model.modules())


def test_asking_leaves_no_gradients_and_no_changed_weights(
    model: BertForSequenceClassification, tokenizer: PreTrainedTokenizerFast
) -> None:
    before = {name: p.clone() for name, p in model.state_dict().items()}
    inputs = encode_texts([text for text, _ in make_rows(5)], tokenizer, 64)
    predict_logits(model.train(), inputs, collator_of(tokenizer), 100)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())


def test_where_the_first_metric_is_undefined_the_next_that_is_defined_chooses() -> None:
    metrics = load_metrics(EvaluationConfig(), ("score",), REGRESSION)
    alone = np.array([1.0])
    assert metrics.best == "pearson"
    assert with_defined_best(metrics, alone, 1, named=False).best == "mse"
    with pytest.raises(UserError, match="pearson is undefined on validation"):
        with_defined_best(metrics, alone, 1, named=True)
