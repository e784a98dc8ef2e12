"""Mean pooling as one more layer, and heads solved exactly, both inside a plain checkpoint."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES, last_of_each, make_rows, slow_but, write_csv
from prepared_runs import Prepared, prepare
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    LeaveOneOut,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
)
from transformers import AutoModelForSequenceClassification, AutoTokenizer, ElectraConfig

from nlp_transfer import compose, run
from nlp_transfer.config.choices import Pooling
from nlp_transfer.errors import UserError
from nlp_transfer.export.checkpoint import export
from nlp_transfer.features import solvers
from nlp_transfer.features.head_solver import solve_head
from nlp_transfer.features.linear_models import PENALTIES, STRENGTHS, Table, leave_one_out, solve
from nlp_transfer.features.many_labels import ManyLabels
from nlp_transfer.features.pooling import (
    best_pooled_layer,
    choose_pooled_layers,
    with_chosen_pooling,
)
from nlp_transfer.features.solvers import SOLVERS
from nlp_transfer.models.loading import Pretrained
from nlp_transfer.models.mean_pooling import with_pooling
from nlp_transfer.models.structure import find_structure
from nlp_transfer.problems.multi_label import MULTI_LABEL
from nlp_transfer.problems.registry import PROBLEMS
from nlp_transfer.problems.regression import REGRESSION
from nlp_transfer.problems.single_label import SINGLE_LABEL

Typed = Callable[..., list[str]]


def averages(prepared: Prepared, split: str) -> np.ndarray:
    """Mean over the real tokens of the encoder's last hidden states, by hand, row by row."""
    encoder = prepared.pretrained.model.base_model.eval()
    inputs = prepared.encoded.splits[split].inputs
    rows = []
    for i in range(len(inputs)):
        with torch.no_grad():
            batch = prepared.encoded.collator.pad(inputs, [i])
            rows.append(encoder(**batch).last_hidden_state[0].numpy().mean(axis=0))
    return np.stack(rows)


def layer_norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)


def silence(layer: torch.nn.Module) -> None:
    """Let a layer give every token the same states."""
    for name, parameter in layer.named_parameters():
        if "norm" in name.lower() and name.endswith("weight"):
            torch.nn.init.zeros_(parameter)


def electra(prepared: Prepared) -> Prepared:
    """The same corpus under a head with a GELU."""
    torch.manual_seed(0)
    config = ElectraConfig(
        vocab_size=48,
        embedding_size=32,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    model = AutoModelForSequenceClassification.from_config(config)
    model.config.problem_type = "single_label_classification"
    pretrained = Pretrained(model, prepared.pretrained.tokenizer, find_structure(model), 64)
    return Prepared(**{**vars(prepared), "pretrained": pretrained})


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "electra"])
def test_the_added_layer_is_the_mean_of_the_real_tokens(
    architecture: str, typed: Typed, tmp_path: Path
) -> None:
    known = architecture if architecture in ARCHITECTURES else "bert"
    prepared = prepare(typed(architecture=known), tmp_path / "run")
    prepared = electra(prepared) if architecture == "electra" else prepared
    before = prepared.pretrained.structure.layers
    expected = layer_norm(averages(prepared, "validation"))
    pooled = with_pooling(prepared.pretrained, Pooling.mean)
    assert pooled.structure.layers == before + 1
    assert pooled.model.config.num_hidden_layers == before + 1
    # In one padded batch, so that padding would show.
    split = prepared.encoded.splits["validation"]
    batch = prepared.encoded.collator.pad(split.inputs, np.arange(len(split.inputs)))
    with torch.no_grad():
        pooled_states = pooled.model.base_model.eval()(**batch).last_hidden_state[:, 0].numpy()
    assert np.abs(pooled_states - expected).max() < 0.02  # the residual's share is 1/1024


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "electra"])
@pytest.mark.parametrize("pooling", [Pooling.first, Pooling.mean])
def test_a_solved_head_is_the_regression_of_scikit_learn(
    architecture: str, pooling: Pooling, typed: Typed, tmp_path: Path
) -> None:
    known = architecture if architecture in ARCHITECTURES else "bert"
    prepared = prepare(typed(architecture=known), tmp_path / "run")
    prepared = electra(prepared) if architecture == "electra" else prepared
    pretrained = with_pooling(prepared.pretrained, pooling)
    splits, collator = prepared.encoded.splits, prepared.encoded.collator
    arguments = (pretrained, splits["train"], splits["validation"], collator, 512)
    strength = solve_head(*arguments, join(prepared), 0)
    assert strength is not None
    features = {}
    for name in ("train", "test"):
        batch = collator.pad(splits[name].inputs, np.arange(len(splits[name].inputs)))
        with torch.no_grad():
            states = pretrained.model.base_model.eval()(**batch).last_hidden_state[:, 0]
        features[name] = states.numpy().astype(np.float64)
    oracle = LogisticRegression(C=strength, max_iter=5000, tol=1e-8)
    oracle.fit(features["train"], splits["train"].labels)
    margin = oracle.decision_function(features["test"])
    logits = Prepared(**{**vars(prepared), "pretrained": pretrained}).logits("test")
    margins = logits[:, 1] - logits[:, 0]
    # The curve of the head bends the features by a thousandth or so.
    assert np.abs(margins - margin).max() < 0.02 * np.abs(margin).max()
    sure = np.abs(margin) > 0.02 * np.abs(margin).max()
    assert ((margins > 0) == (margin > 0))[sure].all()


def join(prepared: Prepared) -> object:
    from nlp_transfer.utils.distributed import join as on_this_machine

    return on_this_machine(prepared.config.training)


def test_more_labels_than_two_and_one_that_train_has_not(typed: Typed, tmp_path: Path) -> None:
    prepared = prepare(typed(), tmp_path / "run")
    model = prepared.pretrained.model
    model.config.id2label = dict(enumerate("abcd"))
    model.classifier = torch.nn.Linear(32, 4)
    splits = dict(prepared.encoded.splits)
    labels = np.arange(101) % 3
    splits["train"] = type(splits["train"])(splits["train"].inputs, labels, 0)
    arguments = (prepared.pretrained, splits["train"], splits["validation"])
    assert solve_head(*arguments, prepared.encoded.collator, 512, join(prepared), 0) is not None
    assert set(prepared.logits("test").argmax(axis=1)) <= {0, 1, 2}
    assert prepared.logits("test")[:, 3].max() < -50


def table(x: np.ndarray, labels: np.ndarray, counts: np.ndarray | None = None) -> Table:
    return Table(x, labels, np.ones(len(x)) if counts is None else counts)


def made_up(rows: int, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Features, and how much each label wants them."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, 8))
    targets = x @ generator.normal(size=(8, labels)) + generator.normal(size=(rows, labels))
    return x, targets


def test_several_labels_are_as_many_regressions_of_scikit_learn() -> None:
    x, targets = made_up(200, 3)
    answers = (targets > 0).astype(np.int64)
    never = np.concatenate([answers, np.zeros((200, 1), np.int64)], axis=1)
    strength, solution = solve(MULTI_LABEL, 4, table(x, never), table(x, never), seed=0)
    logits = x @ solution.weight.T + solution.bias
    for label in range(3):
        oracle = LogisticRegression(C=strength, tol=1e-8).fit(x, answers[:, label])
        assert np.abs(logits[:, label] - oracle.decision_function(x)).max() < 1e-2
    assert logits[:, 3].max() < -50


def test_scores_are_a_ridge_of_scikit_learn() -> None:
    x, targets = made_up(200, 1)
    rows = table(x, targets[:, 0])
    strength, solution = solve(REGRESSION, 1, rows, rows, seed=0)
    oracle = Ridge(alpha=1 / strength).fit(x, targets[:, 0])
    assert solution.weight.shape == (1, 8)
    assert np.allclose(x @ solution.weight[0] + solution.bias[0], oracle.predict(x))


def test_rows_count_as_much_as_their_label_says() -> None:
    x, targets = made_up(300, 1)
    labels = (targets[:, 0] > 1.5).astype(np.int64)
    counts = np.where(labels == 1, 5.0, 0.5)
    rows = table(x, labels, counts)
    strength, solution = solve(SINGLE_LABEL, 2, rows, rows, seed=0)
    oracle = LogisticRegression(C=strength, tol=1e-8).fit(x, labels, counts)
    logits = x @ solution.weight.T + solution.bias
    assert np.abs(logits[:, 1] - logits[:, 0] - oracle.decision_function(x)).max() < 1e-2
    even = LogisticRegression(C=strength, tol=1e-8).fit(x, labels)
    assert np.abs(logits[:, 1] - logits[:, 0] - even.decision_function(x)).max() > 0.5


def test_the_strength_is_the_one_with_the_lowest_cross_validated_loss() -> None:
    x, targets = made_up(60, 1)
    labels = (targets[:, 0] > 0).astype(np.int64)
    rows = table(x, labels)
    strength, _ = solve(SINGLE_LABEL, 2, rows, rows, seed=3)
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    losses = {
        c: -cross_val_score(
            LogisticRegression(C=c, tol=1e-8), x, labels, cv=folds, scoring="neg_log_loss"
        ).mean()
        for c in STRENGTHS
    }
    assert losses[strength] == pytest.approx(min(losses.values()), abs=1e-3)


def test_class_weights_reach_a_solved_head(typed: Typed, tmp_path: Path) -> None:
    logits = []
    for kind in ("none", "balanced"):
        few = write_csv(tmp_path / "few.csv", [*make_rows(60)[1::2], *make_rows(10, 3)[::2]])
        more = ("strategy=feature_extraction", f"dataset.train={few}")
        prepared = prepare(typed(*more, f"training.class_weights={kind}"), tmp_path / "run")
        prepared.train()
        logits.append(prepared.logits("test"))
    margins = [float((part[:, 0] - part[:, 1]).mean()) for part in logits]
    assert margins[1] > margins[0] + 0.1  # the rare label is answered more readily


def test_a_head_over_features_with_an_outlier_is_solved_too(typed: Typed, tmp_path: Path) -> None:
    prepared = prepare(typed(), tmp_path / "run")
    norm = prepared.pretrained.model.base_model.encoder.layer[-1].output.LayerNorm
    with torch.no_grad():
        norm.bias[0] = 15.0
    splits = prepared.encoded.splits
    arguments = (prepared.pretrained, splits["train"], splits["validation"])
    assert solve_head(*arguments, prepared.encoded.collator, 512, join(prepared), 0) is not None
    scale = prepared.pretrained.model.base_model.pooler.dense.weight[0, 0].item()
    assert scale == pytest.approx(0.005)


def test_a_head_that_cannot_hold_a_linear_function_is_left_as_it_was(
    typed: Typed, tmp_path: Path
) -> None:
    prepared = prepare(typed(), tmp_path / "run")
    prepared.pretrained.model.bert.pooler.activation = torch.nn.Threshold(1e6, 0.0)
    before = prepared.weights()
    splits = prepared.encoded.splits
    arguments = (prepared.pretrained, splits["train"], splits["validation"])
    assert solve_head(*arguments, prepared.encoded.collator, 512, join(prepared), 0) is None
    after = prepared.weights()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("architecture", slow_but(["distilbert"], ARCHITECTURES))
def test_a_pooled_and_solved_folder_is_plain_and_answers_the_same(
    architecture: str, typed: Typed, tmp_path: Path
) -> None:
    overrides = typed("checkpoint.pooling=mean", "strategy=probe_then_full", "strategy.epochs=1")
    prepared = prepare(
        last_of_each(*overrides, *typed(architecture=architecture)[1:2]), tmp_path / "run"
    )
    history = prepared.train()
    assert [stage.steps > 0 for stage in history] == [False, True]
    pretrained, corpus = prepared.pretrained, prepared.corpus
    folder = export(pretrained.model, pretrained.tokenizer, "tiny", 64, tmp_path / "model")
    reopened = AutoModelForSequenceClassification.from_pretrained(folder)
    assert type(reopened) is type(pretrained.model)
    assert reopened.config.num_hidden_layers == 3
    texts = list(corpus.splits["validation"]["text"])
    batch = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        probabilities = reopened.eval()(**batch).logits.softmax(dim=1)
    expected = torch.tensor(prepared.logits("validation")).softmax(dim=1)
    torch.testing.assert_close(probabilities, expected, rtol=0, atol=1e-5)


def test_the_layer_and_the_pooling_are_chosen_on_train(typed: Typed, tmp_path: Path) -> None:
    prepared = prepare(typed(), tmp_path / "run")
    layers = prepared.pretrained.structure.layers
    # The label is a word somewhere in the text: an untrained first token knows little of it.
    (chosen,) = choose_pooled_layers(prepared.pretrained, prepared.encoded, 0, range(1, layers + 1))
    assert chosen["pooling"] == "mean"
    # A last layer that gives every token the same states knows nothing.
    prefix = prepared.pretrained.structure.layer_prefixes[-1]
    silence(prepared.pretrained.model.get_submodule(prefix))
    (chosen,) = choose_pooled_layers(prepared.pretrained, prepared.encoded, 0, range(1, layers + 1))
    assert chosen == {"layer": layers - 1, "pooling": "mean"}


def test_an_encoder_that_learns_afterwards_keeps_all_its_layers(
    typed: Typed, tmp_path: Path
) -> None:
    prepared = prepare(typed(), tmp_path / "run")
    prefix = prepared.pretrained.structure.layer_prefixes[-1]
    silence(prepared.pretrained.model.get_submodule(prefix))
    decisions: dict[str, Any] = {}

    def decide(name: str, decision: Callable[[], Any]) -> Any:
        return decisions.setdefault(name, decision())

    layers = {}
    for strategy in ("feature_extraction", "probe_then_full"):
        config = compose(*last_of_each(*typed(f"strategy={strategy}")))
        fresh = replace(prepared.pretrained, model=copy.deepcopy(prepared.pretrained.model))
        chosen = with_chosen_pooling(fresh, prepared.encoded, config, decide)
        layers[strategy] = chosen.structure.layers - chosen.structure.mean_layer
    whole = prepared.pretrained.structure.layers
    assert layers == {"feature_extraction": whole - 1, "probe_then_full": whole}


@pytest.mark.parametrize(
    ("errors", "layer", "pooling"),
    [
        ([[0.4, 0.4], [0.2, 0.2], [0.3, 0.3], [0.3, 0.3]], 2, "mean"),
        ([[0.3, 0.3], [0.298, 0.298], [0.3, 0.3], [0.3, 0.3]], 3, "mean"),  # too little
        ([[0.3, 0.3], [0.3, 0.3], [0.3, 0.3], [0.0, 0.4]], 3, "mean"),  # may be chance
        ([[0.3, 0.3], [0.2, 0.2], [0.3, 0.3], [0.1, 0.1]], 3, "first"),
    ],
)
def test_the_last_layer_and_its_mean_are_preferred(
    errors: list[list[float]], layer: int, pooling: str
) -> None:
    chosen = best_pooled_layer(np.array(errors), range(1, 4))
    assert (chosen.layer, chosen.pooling) == (layer, pooling)


def test_leave_one_out_is_a_ridge_that_has_not_seen_the_row() -> None:
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(30, 5)), generator.normal(size=(30, 2))

    def refitted(penalty: float) -> np.ndarray:
        ridge = Ridge(alpha=penalty)
        return cross_val_predict(ridge, x, y, cv=LeaveOneOut())

    best = min(PENALTIES, key=lambda penalty: ((refitted(penalty) - y) ** 2).mean())
    np.testing.assert_allclose(leave_one_out(x, y), refitted(best), atol=1e-9)


def test_layers_above_the_chosen_one_are_left_out_of_the_folder(
    typed: Typed, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(checkpoints["bert"])
    silence(model.bert.encoder.layer[-1])
    shutil.copytree(checkpoints["bert"], tmp_path / "silent")
    model.save_pretrained(tmp_path / "silent")
    words = typed("strategy=feature_extraction", f"checkpoint.name={tmp_path / 'silent'}")
    result = run(compose(*last_of_each(*words), "run_dir=mine"))
    layers = model.config.num_hidden_layers
    chosen = {"layer": layers - 1, "pooling": "mean"}
    assert json.loads(Path("mine/run.json").read_text())["decisions"]["pooled_layer"] == chosen
    exported = AutoModelForSequenceClassification.from_pretrained(result.model)
    assert exported.config.num_hidden_layers == layers  # one less, and the one that averages
    where = f"the mean of all tokens, layer {layers - 1}"
    for page in (result.model / "README.md", result.folder / "report.html"):
        assert where in page.read_text()
    assert result.best > 0.6


def test_mean_pooling_that_cannot_be_is_refused_and_not_left_out(
    typed: Typed, tmp_path: Path
) -> None:
    prepared = prepare(typed(), tmp_path / "run")
    prepared.pretrained.model.config.model_type = "mpnet"
    with pytest.raises(UserError, match="not possible for mpnet"):
        with_pooling(prepared.pretrained, Pooling.mean)


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "soft"])
def test_many_labels_at_once_are_the_regressions_of_scikit_learn(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, targets = made_up(600, 12)
    x[:, 0] *= 30  # axes of very different lengths
    counts = np.random.default_rng(1).uniform(0.5, 2, 600)
    labels = {
        "single_label": targets.argmax(axis=1),
        "multi_label": (targets > 2).astype(np.int64),
        "soft": np.exp(targets) / np.exp(targets).sum(axis=1, keepdims=True),
    }[kind]
    if kind == "multi_label":  # two labels that nothing tells apart
        labels = np.concatenate([labels, np.zeros((600, 1), int), np.ones((600, 1), int)], axis=1)
    if kind == "single_label":
        labels = np.where(labels == 3, 4, labels)  # one that no row has
    rows, outputs = Table(x, labels, counts), 14 if kind == "multi_label" else 12
    few = SOLVERS[PROBLEMS[kind].solver].prepare(outputs)
    solutions = [few(rows, strength) for strength in (0.03, 1.0)]
    monkeypatch.setattr(solvers, "LARGE", 0)
    many = SOLVERS[PROBLEMS[kind].solver].prepare(outputs)
    for strength, expected in zip((0.03, 1.0), solutions, strict=True):
        solution = many(rows, strength)
        difference = solution.logits(x) - expected.logits(x)
        assert np.abs(difference).max() < 1e-2
        assert (solution.bias == expected.bias)[np.abs(expected.bias) == 100].all()


def test_a_large_table_gets_the_strength_that_a_small_one_gets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    x, targets = made_up(300, 8)
    rows = table(x, targets.argmax(axis=1))
    strength, solution = solve(SINGLE_LABEL, 8, rows, None, seed=0)
    monkeypatch.setattr(solvers, "LARGE", 0)
    other, of_many = solve(SINGLE_LABEL, 8, rows, None, seed=0)
    assert other == strength
    assert np.abs(of_many.logits(x) - solution.logits(x)).max() < 1e-2


def test_a_thousand_labels_take_few_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(3000) % 1000
    x = generator.normal(size=(1000, 32))[labels] + 0.7 * generator.normal(size=(3000, 32))
    evaluations = []
    whole = ManyLabels._loss
    monkeypatch.setattr(
        ManyLabels, "_loss", lambda self, s: evaluations.append(1) or whole(self, s)
    )
    solution = SOLVERS["logistic"].prepare(1000)(table(x, labels), 1.0)
    assert (solution.logits(x).argmax(axis=1) == labels).mean() > 0.9
    assert len(evaluations) < 60
