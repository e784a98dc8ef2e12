"""Stages with the real `Trainer`: what learns, what does not, and what must not matter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES, make_rows, slow_but, write_csv
from prepared_runs import FAST, STRATEGIES, Prepared, prepare, shallow

from nlp_transfer import compose, run
from nlp_transfer.config.choices import Solver
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.export.checkpoint import export
from nlp_transfer.export.verification import Claim, verify
from nlp_transfer.models.strategies.learning import frozen_below, parameter_groups
from nlp_transfer.models.structure import ModelStructure
from nlp_transfer.problems.multi_label import MULTI_LABEL
from nlp_transfer.problems.single_label import SINGLE_LABEL
from nlp_transfer.training.objectives.class_weights import weigh_labels

Typed = Callable[..., list[str]]


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


COMBINATIONS = [f"{strategy} {name}" for strategy in STRATEGIES for name in ARCHITECTURES]
# All strategies, and all architectures where some layers learn.
QUICK = [c for c in COMBINATIONS if c.endswith(" bert") or c.startswith("gradual_unfreezing ")]


@pytest.mark.parametrize("combination", slow_but(QUICK, COMBINATIONS))
def test_each_stage_changes_exactly_what_it_says(
    combination: str, typed: Typed, tmp_path: Path
) -> None:
    strategy, architecture = combination.split()
    overrides = typed(*shallow(strategy), *FAST, architecture=architecture)
    prepared = prepare(overrides, tmp_path / "run")
    structure = prepared.pretrained.structure
    expected_depths = {
        "head": {3},
        "top": {2, 3},
        "all": {0, 1, 2, 3},
    }
    for stage in prepared.stages:
        before = prepared.weights()
        prepared.train([stage])
        learned = {
            name
            for name, _ in prepared.pretrained.model.named_parameters()
            if structure.depth(name) in expected_depths[stage.name]
        }
        if stage.after_solver:  # a solved head is not touched again
            learned = {name for name in learned if structure.depth(name) <= structure.layers}
        changes = changed(before, prepared.weights())
        if stage.solver is Solver.exact:
            # A new dense layer's bias is zero, and may be just what the solution wants.
            assert changes <= learned
            assert {name for name in learned if name.endswith("weight")} <= changes
        else:
            assert changes == learned


@pytest.mark.slow
def test_every_strategy_and_architecture_ends_in_a_folder_that_answers_the_same(
    typed: Typed, tmp_path: Path
) -> None:
    claims = []
    for architecture in ARCHITECTURES:
        for strategy in (*STRATEGIES, "lora"):
            overrides = typed(*shallow(strategy), *FAST, architecture=architecture)
            prepared = prepare(overrides, tmp_path / "run")
            prepared.train()
            pretrained, corpus = prepared.pretrained, prepared.corpus
            folder = tmp_path / f"{architecture}-{strategy}"
            export(pretrained.model, pretrained.tokenizer, "tiny", pretrained.max_tokens, folder)
            texts = corpus.splits["validation"]["text"]
            claims.append(Claim(folder, list(texts), corpus.labels, prepared.logits("validation")))
    assert len(claims) == 21
    assert max(verify(claims)) <= 1e-5


def test_a_tiny_encoder_learns_what_is_plain_to_see(typed: Typed, tmp_path: Path) -> None:
    prepared = prepare(
        typed(
            "checkpoint.dropout=0",
            "strategy.learning_rate=1e-3",
            "strategy.epochs=12",
            "training.batch_size=8",
        ),
        tmp_path / "run",
    )
    history = prepared.train()[0]
    labels = prepared.encoded.splits["test"].labels
    assert (prepared.logits("test").argmax(1) == labels).mean() > 0.9
    losses = [entry["loss"] for entry in history.log if "loss" in entry]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_frozen_modules_stay_in_eval_mode_and_have_no_gradients(
    strategy: str, typed: Typed, tmp_path: Path
) -> None:
    prepared = prepare(typed(*shallow(strategy)), tmp_path / "run")
    model, structure = prepared.pretrained.model, prepared.pretrained.structure
    for stage in prepared.stages:
        with frozen_below(model, stage, structure):
            model.eval()
            model.train()
            dropouts = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Dropout)}
            assert dropouts
            for name, module in dropouts.items():
                assert module.training == stage.learns(structure, name), name
            for name, parameter in model.named_parameters():
                assert parameter.requires_grad == stage.learns(structure, name)
        model.train()
        assert all(module.training for module in model.modules())
        assert "train" not in vars(model)


def test_accumulation_does_not_change_the_weights(typed: Typed, tmp_path: Path) -> None:
    weights = []
    for micro_batch in (16, 4):
        prepared = prepare(
            typed(
                "checkpoint.dropout=0",
                "strategy.epochs=2",
                "strategy.learning_rate=5e-4",
                "training.batch_size=16",
                f"training.micro_batch_size={micro_batch}",
            ),
            tmp_path / "run",
        )
        start = prepared.weights()
        prepared.train()
        weights.append(prepared.weights())
    moved = max(float((weights[0][n] - start[n]).abs().max()) for n in start)
    apart = max(float((weights[0][n] - weights[1][n]).abs().max()) for n in start)
    assert moved > 1e-3
    assert apart < 1e-6


def test_the_same_seed_gives_the_same_weights_to_the_bit(typed: Typed, tmp_path: Path) -> None:
    weights = []
    for seed in (1, 1, 2):
        prepared = prepare(typed(f"seed={seed}", *FAST), tmp_path / "run")
        prepared.train()
        weights.append(prepared.weights())
    assert not changed(weights[0], weights[1])
    assert changed(weights[0], weights[2])


def test_layers_learn_at_their_own_rates_and_vectors_and_tokens_are_not_decayed(
    typed: Typed, tmp_path: Path
) -> None:
    prepared = prepare(
        typed(
            "strategy.stages.all.encoder_learning_rate=1e-4",
            "strategy.stages.all.head_learning_rate=1e-3",
            "strategy.stages.all.layer_decay=0.5",
        ),
        tmp_path / "run",
    )
    model, structure = prepared.pretrained.model, prepared.pretrained.structure
    names = {parameter: name for name, parameter in model.named_parameters()}
    rate_of_depth = {3: 1e-3, 2: 1e-4, 1: 5e-5, 0: 2.5e-5}
    groups = parameter_groups(model, prepared.stages[0], structure, 0.01)
    assert sum(len(group["params"]) for group in groups) == len(names)
    for group in groups:
        for parameter in group["params"]:
            name = names[parameter]
            assert group["lr"] == pytest.approx(rate_of_depth[structure.depth(name)])
            is_vector = name.endswith("bias") or "LayerNorm" in name
            stays = is_vector or name.endswith("word_embeddings.weight")
            assert group["weight_decay"] == (0.0 if stays else 0.01)


def test_the_short_forms_apply_where_they_make_sense(typed: Typed, tmp_path: Path) -> None:
    rates = {
        "feature_extraction": [(7e-4, None)],
        "full": [(7e-4, 7e-4)],
        "two_phase": [(1e-3, None), (7e-4, 7e-4)],
    }
    for strategy, expected in rates.items():
        short = ("strategy.learning_rate=7e-4", "strategy.epochs=5")
        stages = prepare(typed(f"strategy={strategy}", *short), tmp_path / "run").stages
        assert all(stage.epochs == 5 for stage in stages)
        for stage, (head, encoder) in zip(stages, expected, strict=True):
            assert stage.head_learning_rate == pytest.approx(head)
            if encoder is not None:
                assert stage.encoder_learning_rate == pytest.approx(encoder)


def test_more_layers_than_there_are_is_refused(typed: Typed, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="top 9 layers, but there are 2") as refusal:
        prepare(typed("strategy=top_layers", "strategy.top_layers=9"), tmp_path / "run")
    assert refusal.value.code is ExitCode.CONFIG


def test_a_loss_that_is_not_finite_stops_the_run_and_says_at_which_step(
    typed: Typed, tmp_path: Path
) -> None:
    prepared = prepare(typed("training.batch_size=16", "strategy.epochs=3"), tmp_path / "run")
    spoil_at_step(prepared, 5)
    with pytest.raises(UserError, match="not finite at step 5") as stopped:
        prepared.train()
    assert stopped.value.code is ExitCode.TRAINING


def spoil_at_step(prepared: Prepared, step: int) -> None:
    """Make the logits infinite in the given training step, as an exploding model would."""
    steps = 0

    def hook(module: torch.nn.Module, _: object, output: torch.Tensor) -> torch.Tensor:
        nonlocal steps
        steps += module.training
        return output * float("inf") if module.training and steps == step else output

    prepared.pretrained.model.classifier.register_forward_hook(hook)


def test_the_best_epoch_is_handed_back_not_the_last(typed: Typed, tmp_path: Path) -> None:
    overrides = typed(
        "strategy.learning_rate=1e-3",
        "strategy.epochs=5",
        "training.batch_size=8",
        "evaluation.best=log_loss",
        "training.schedule=constant",
    )
    prepared = prepare(overrides, tmp_path / "run")
    history = prepared.train()[0]
    losses = [entry["eval_log_loss"] for entry in history.log if "eval_log_loss" in entry]
    assert len(losses) == 5
    validation = prepared.encoded.splits["validation"]
    now = prepared.metrics.compute(prepared.logits("validation"), validation.labels)["log_loss"]
    assert history.best == min(losses)
    assert now == pytest.approx(min(losses), abs=1e-6)


def test_without_a_validation_split_the_last_weights_are_kept(
    typed: Typed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Training is the same, whether somebody looks or not.
    words = typed("strategy=probe_then_full", "strategy.epochs=12", "training.batch_size=64")
    measured = prepare([*words, "training.keep_best=false"], tmp_path / "measured")
    measured.train()
    caplog.clear()
    alone = prepare(words, tmp_path / "alone")
    del alone.encoded.splits["validation"]
    with caplog.at_level("INFO", logger="nlp_transfer"):
        history = alone.train()
    assert not changed(measured.weights(), alone.weights())
    assert [stage.best for stage in history] == [None, None]
    assert not any(
        name.startswith("eval_") for stage in history for entry in stage.log for name in entry
    )
    assert "nan" not in caplog.text
    assert 2 <= caplog.text.count("stage all: epoch") <= 12
    assert "stage all: epoch 12, step 24 of 24, loss 0." in caplog.text


def test_early_stopping_ends_a_stage_that_no_longer_gets_better(
    typed: Typed, tmp_path: Path
) -> None:
    # A rate of next to nothing: the first epoch is as good as it gets.
    overrides = typed(
        "strategy.learning_rate=1e-12", "strategy.epochs=20", "training.early_stopping=2"
    )
    history = prepare(overrides, tmp_path / "run").train()[0]
    evaluations = [entry for entry in history.log if "eval_accuracy" in entry]
    assert len(evaluations) == 3


@pytest.mark.parametrize(("patience", "epochs"), [(4, 8), (5, 12)])
def test_patience_is_in_epochs_also_where_not_every_epoch_is_looked_at(
    patience: int, epochs: int, typed: Typed, tmp_path: Path
) -> None:
    # Validation is four times as large as train, so it is looked at every fourth epoch.
    files = {"train": make_rows(16), "validation": make_rows(64, 1)}
    rows = [
        f"dataset.{name}={write_csv(tmp_path / f'{name}.csv', rows)}"
        for name, rows in files.items()
    ]
    slow = ("strategy.learning_rate=1e-12", "strategy.epochs=20")
    overrides = typed(*slow, *rows, f"training.early_stopping={patience}")
    history = prepare(overrides, tmp_path / "run").train()[0]
    looks = [entry["epoch"] for entry in history.log if "eval_accuracy" in entry]
    assert looks == list(range(4, epochs + 1, 4))


def test_bf16_leaves_no_autocast_in_the_model(typed: Typed, tmp_path: Path) -> None:
    prepared = prepare(typed("training.precision=bf16", *FAST), tmp_path / "run")
    prepared.train()
    model = prepared.pretrained.model
    assert "forward" not in vars(model)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert prepared.logits("validation").dtype == np.float32


def test_class_weights_are_one_on_average_and_do_not_depend_on_accumulation(
    typed: Typed, tmp_path: Path
) -> None:
    labels = np.array([0] * 90 + [1] * 10)
    balanced, halfway, named = (
        weigh_labels(labels, ("a", "b", "c"), SINGLE_LABEL, setting)
        for setting in ("balanced", "sqrt", {"b": 3, "a": 1, "c": 7})
    )
    assert balanced is not None
    assert halfway is not None
    assert balanced[1] / balanced[0] == pytest.approx(9)
    assert halfway[1] / halfway[0] == pytest.approx(3)
    assert balanced[labels].mean() == pytest.approx(1)
    assert halfway[labels].mean() == pytest.approx(1)
    assert named[1] / named[0] == pytest.approx(3)
    assert named[labels].mean() == pytest.approx(1)
    assert weigh_labels(labels, ("a", "b"), SINGLE_LABEL, "none") is None
    several = np.array([[1, 0], [1, 0], [1, 1], [1, 0], [0, 0]])
    weights = weigh_labels(several, ("a", "b"), MULTI_LABEL, "balanced")
    assert weights == pytest.approx([1 / 4, 4])
    rows = [*make_rows(80)[1::2], *make_rows(30, 3)[::2]]
    train = write_csv(tmp_path / "uneven.csv", rows)
    weights = {}
    named = "{negative: 3, positive: 1}"
    for kind, micro_batch in (("none", 16), (named, 16), (named, 4)):
        fast = ("checkpoint.dropout=0", "strategy.epochs=2", "strategy.learning_rate=5e-4")
        more = (f"training.class_weights={kind}", f"training.micro_batch_size={micro_batch}")
        prepared = prepare(typed(*fast, *more, f"dataset.train={train}"), tmp_path / "run")
        prepared.train()
        weights[kind, micro_batch] = prepared.weights()
    even, one, four = weights.values()
    assert max(float((one[n] - four[n]).abs().max()) for n in one) < 1e-6
    assert max(float((one[n] - even[n]).abs().max()) for n in one) > 1e-4


def test_label_smoothing_and_schedules_reach_the_trainer(typed: Typed, tmp_path: Path) -> None:
    weights = []
    for more in ("seed=42", "training.label_smoothing=0.3", "training.schedule=cosine"):
        prepared = prepare(typed(more, "training.warmup=0.3", *FAST), tmp_path / "run")
        rates = [e["learning_rate"] for e in prepared.train()[0].log if "learning_rate" in e]
        assert rates[0] < max(rates)
        weights.append(prepared.weights())
    assert changed(weights[0], weights[1])
    assert changed(weights[0], weights[2])


def test_depths_are_found_by_whole_names() -> None:
    structure = ModelStructure(
        "bert", tuple(f"bert.encoder.layer.{i}" for i in range(12)), "bert.pooler"
    )
    assert structure.depth("bert.encoder.layer.1.output.dense.weight") == 2
    assert structure.depth("bert.encoder.layer.11.output.dense.weight") == 12
    assert structure.depth("bert.pooler.dense.weight") == 13
    assert structure.depth("bert.embeddings.LayerNorm.bias") == 0
    assert structure.depth("classifier.weight") == 13


def test_a_launchers_variable_does_not_change_the_precision(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = []
    for variable in ("no", "bf16"):
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", variable)
        prepared = prepare(typed("training.precision=fp32", *FAST), tmp_path / "run")
        prepared.train()
        weights.append(prepared.weights())
    assert not changed(weights[0], weights[1])


def test_a_metric_that_validation_leaves_undefined_cannot_choose_the_epoch(
    typed: Typed, tmp_path: Path
) -> None:
    one_sided = tmp_path / "validation.csv"
    one_sided.write_text("text,label\nwarm soup,positive\n")
    more = ("evaluation.metrics=[roc_auc]", "evaluation.best=roc_auc")
    with pytest.raises(UserError, match="roc_auc is undefined on validation"):
        run(compose(*typed(*more, f"dataset.validation={one_sided}")))
