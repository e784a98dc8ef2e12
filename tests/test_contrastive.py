"""The contrastive stage: its loss, its batches, what it changes, and that it can be interrupted."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from prepared_runs import prepare
from training_process import largest_difference_of_two_processes

from nlp_transfer import compose, run
from nlp_transfer.errors import UserError
from nlp_transfer.problems import problem_named
from nlp_transfer.tokenization.batches import special_tokens_of
from nlp_transfer.tokenization.encoded import Draw
from nlp_transfer.training import losses
from nlp_transfer.training.losses import LossOptions
from nlp_transfer.training.objectives.contrastive import (
    contrastive,
    groups_of,
    label_similarity,
    plan_groups,
)
from nlp_transfer.training.objectives.cropping import CroppedTexts
from nlp_transfer.training.optimization.signals import handle_signals

Typed = Callable[..., list[str]]
WORDS = ("strategy=contrastive", "checkpoint.pooling=mean", "training.checkpoint_minutes=0")
WORDS += ("strategy.stages.embeddings.steps=20",)
WORDS += ("strategy.stages.embeddings.encoder_learning_rate=5e-3",)
WORDS += ("strategy.allow_destructive_rate=true", "strategy.stages.embeddings.crop=10")


def test_the_loss_is_that_of_the_paper() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(6, 5, generator=generator), dim=1).double()
    ids = [0, 1, 0, 2, 1, 0]
    expected = []
    for i in range(6):
        alike = [j for j in range(6) if j != i and ids[j] == ids[i]]
        others = sum(torch.exp(z[i] @ z[j] / 0.2) for j in range(6) if j != i)
        shares = [torch.log(torch.exp(z[i] @ z[j] / 0.2) / others) for j in alike]
        expected.append(-sum(shares) / len(alike) if alike else torch.tensor(0.0))
    options = LossOptions(temperature=0.2, problem=problem_named("single_label"))
    answers = torch.tensor(ids, dtype=torch.float32)[:, None]
    loss = contrastive(3 * z.float(), answers, options)
    assert loss.tolist() == pytest.approx([float(e) for e in expected], abs=1e-5)
    several = torch.tensor([[1.0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]])
    shared = label_similarity(several, problem_named("multi_label"))
    assert shared[0].tolist() == [1, 0.5, 0, 0]
    assert shared[3].tolist() == [0, 0, 0, 1]
    near = label_similarity(torch.tensor([[0.0], [0.5], [3.0]]), problem_named("regression"))[0]
    assert near.tolist() == pytest.approx([1, 0.6065, 0], abs=1e-4)


def test_batches_have_balanced_labels_and_depend_on_nothing_but_the_seed() -> None:
    labels = np.array([0] * 40 + [1] * 5 + [2] * 3 + [3])
    groups = groups_of(labels, problem_named("single_label"), 8)
    batches = list(plan_groups(groups, 8, 40, seed=1))
    again = list(plan_groups(groups, 8, 40, seed=1))
    assert all(np.array_equal(one, two) for one, two in zip(batches, again, strict=True))
    other = list(plan_groups(groups, 8, 40, seed=2))
    assert any(not np.array_equal(one, two) for one, two in zip(batches, other, strict=True))
    for batch in batches:
        assert np.bincount(labels[batch]).tolist() == [2, 2, 2, 2]
    assert set(np.concatenate(batches)) == set(range(49))
    few = list(plan_groups(groups, 4, 10, seed=1))  # two labels a batch, taking turns
    assert all(sorted(np.unique(labels[batch], return_counts=True)[1]) == [2, 2] for batch in few)
    several = np.array([[1, 0], [1, 1], [0, 0], [0, 1]])
    label_groups = groups_of(several, problem_named("multi_label"), 8)
    assert [rows.tolist() for rows in label_groups] == [[0, 1], [1, 3], [2]]
    scores = groups_of(np.array([3.0, 1.0, 2.0, 0.0]), problem_named("regression"), 4)
    assert [rows.tolist() for rows in scores] == [[3, 1], [2, 0]]


def test_the_stage_changes_the_layers_alone_and_goes_on_where_it_was_stopped(
    typed: Typed, tmp_path: Path
) -> None:
    unbroken = prepare(typed(*WORDS), tmp_path / "unbroken")
    structure, before = unbroken.pretrained.structure, unbroken.weights()
    assert structure.layers == 3  # the third one averages
    history = unbroken.train()
    after = unbroken.weights()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {structure.depth(name) for name in changed} == {1, 2, 4}
    assert {name for name in before if structure.depth(name) in (1, 2)} <= changed
    assert [stage.steps for stage in history] == [20, 0]
    assert history[0].learns == "the top 2 of 2 layers"
    logged = [entry["loss"] for entry in history[0].log]
    assert len(logged) == 20
    assert sum(logged[-5:]) < sum(logged[:5]) - 0.1
    interrupted = prepare(typed(*WORDS), tmp_path / "told")
    layer, steps = interrupted.pretrained.model.bert.encoder.layer[0], iter(range(1, 100))
    stop = lambda *_: os.kill(os.getpid(), signal.SIGTERM) if next(steps) == 7 else None  # noqa: E731
    layer.register_forward_hook(stop)
    with handle_signals(), pytest.raises(UserError, match="SIGTERM after step 7"):
        interrupted.train()
    again = prepare(typed(*WORDS), tmp_path / "told", overwrite=False)
    again.train()
    weights = again.weights()
    assert all(torch.equal(weights[name], after[name]) for name in after)


def test_a_part_of_a_long_text_is_read_whole_and_another_one_each_time(
    typed: Typed, tmp_path: Path
) -> None:
    prepared = prepare(typed(*WORDS), tmp_path / "run")
    tokenizer, inputs = prepared.pretrained.tokenizer, prepared.encoded.splits["train"].inputs
    around = special_tokens_of(tokenizer)
    crop = CroppedTexts(inputs, around, 10, seed=1)
    read = set()
    for place in range(200):
        row = place % len(inputs)
        part = crop([Draw(row, True, 0, place)])
        assert crop([Draw(row, True, 0, place)])[0]["input_ids"].tolist() == list(
            part.flat["input_ids"]
        )
        whole, ids = inputs[row]["input_ids"].tolist(), part.flat["input_ids"].tolist()
        assert len(ids) == min(len(whole), 10) == part.lengths[0]
        assert (ids[0], ids[-1]) == (whole[0], whole[-1])  # the special tokens
        inner = ids[1:-1]
        assert any(whole[i : i + len(inner)] == inner for i in range(1, len(whole)))
        read.add((row, tuple(ids)))
    assert len(read) > len(inputs)  # not the same part of a row each time
    lengths = inputs.lengths
    assert lengths.max() > 10 > lengths.min()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("strategy.stages.embeddings.crop=7", "must be at least 8"),
        ("strategy.stages.head.crop=20", "is for a loss that compares embeddings"),
    ],
)
def test_a_crop_that_is_none_is_refused(
    typed: Typed, tmp_path: Path, key: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(compose(*typed(*WORDS, key, f"run_dir={tmp_path}/run")))


def test_a_loss_that_does_not_fit_the_stage_is_refused(typed: Typed, tmp_path: Path) -> None:
    prepared = prepare(typed("strategy.stages.all.loss=contrastive"), tmp_path / "run")
    with pytest.raises(UserError, match="contrastive reads embeddings.*all.head=false"):
        prepared.train()
    with pytest.raises(UserError, match="training.loss=squared_eror is not a loss. Did you mean "):
        run(compose(*typed("training.loss=squared_eror")))
    with pytest.raises(UserError, match="is for regression, and the problem is single_label"):
        run(compose(*typed("training.loss=squared_error")))


def test_a_loss_of_another_package_is_used_by_its_name(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "from nlp_transfer.training.losses import cross_entropy, register_loss\n"
    module += (
        "@register_loss('twice')\ndef twice(*inputs):\n    return 2 * cross_entropy(*inputs)\n"
    )
    (tmp_path / "their_losses.py").write_text(module)
    about = tmp_path / "their_losses-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: their-losses\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[{losses.LOSSES.group}]\nlosses = their_losses\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(losses.LOSSES, "is_complete", False)
    words = ("strategy.learning_rate=1e-12", "strategy.epochs=1", "checkpoint.dropout=0")
    calls = []
    for more in ((), ("training.loss=twice",)):
        log = prepare(typed(*words, *more), tmp_path / "run").train()[0].log
        calls.append([entry["loss"] for entry in log if "loss" in entry])
        calls[-1] += [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert len(calls[0]) == 8
    assert [2 * value for value in calls[0]] == pytest.approx(calls[1], rel=1e-4)


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(typed: Typed, tmp_path: Path) -> None:
    words = typed(*WORDS, "checkpoint.dropout=0")
    assert largest_difference_of_two_processes(words, tmp_path) < 1e-6
