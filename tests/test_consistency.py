"""R-Drop: how far two readings of a text are apart, and a stage that makes them agree."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from prepared_runs import prepare
from torch.nn.functional import kl_div

from nlp_transfer import compose, run
from nlp_transfer.errors import UserError
from nlp_transfer.problems import problem_named
from nlp_transfer.training.objectives import objective
from nlp_transfer.training.objectives.consistency import divergence
from nlp_transfer.training.optimization.signals import handle_signals

Typed = Callable[..., list[str]]
WORDS = ("strategy=r_drop", "strategy.epochs=2", "strategy.learning_rate=5e-4")


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_the_divergence_is_that_of_the_paper_for_every_kind_of_label() -> None:
    first, second = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)).double()
    logits = torch.cat([first, second])

    def both(one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        there = kl_div(one, two, reduction="none", log_target=True)
        return (there + kl_div(two, one, reduction="none", log_target=True)).sum(dim=-1)

    classes = both(first.log_softmax(dim=1), second.log_softmax(dim=1)) / 4
    found = divergence(logits, problem_named("single_label"))
    assert torch.allclose(found, classes.repeat(2))
    sure = [
        torch.stack([x, torch.zeros_like(x)], dim=2).log_softmax(dim=2) for x in (first, second)
    ]
    labels = both(*sure).mean(dim=1) / 4
    assert torch.allclose(divergence(logits, problem_named("multi_label")), labels.repeat(2))
    scores = (first - second).square().mean(dim=1) / 2
    assert torch.allclose(divergence(logits, problem_named("regression")), scores.repeat(2))


def test_without_dropout_reading_twice_is_reading_once(
    typed: Typed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    words = ("checkpoint.dropout=0", "training.micro_batch_size=8", *WORDS[1:])
    once = prepare(typed("strategy=full", *words), tmp_path / "run")
    start = once.weights()
    once.train()
    stays = prepare(typed("strategy=r_drop", *words), tmp_path / "run")
    with caplog.at_level(logging.INFO, logger="nlp_transfer"):
        stays.train()
    assert "no dropout: each text is read once" in caplog.text
    assert not changed(once.weights(), stays.weights())
    monkeypatch.setattr(objective, "has_dropout", lambda _: True)
    twice = prepare(typed("strategy=r_drop", *words), tmp_path / "run")
    twice.train()
    moved = max(float((once.weights()[n] - start[n]).abs().max()) for n in start)
    apart = max(float((once.weights()[n] - twice.weights()[n]).abs().max()) for n in start)
    assert moved > 1e-3
    assert apart < 1e-6


def test_the_divergence_of_the_readings_is_in_the_loss_by_its_weight(
    typed: Typed, tmp_path: Path
) -> None:
    losses = []
    for weight in (1e4, 2e4, 3e4):
        key = f"strategy.stages.all.consistency={weight}"
        words = ("strategy=r_drop", "strategy.epochs=1", "strategy.learning_rate=1e-12", key)
        log = prepare(typed(*words), tmp_path / "run").train()[0].log
        losses.append(torch.tensor([entry["loss"] for entry in log if "loss" in entry]))
    steps = losses[1] - losses[0]
    assert (steps > 0).all()
    assert torch.allclose(losses[2] - losses[1], steps, rtol=1e-2)


def test_a_stage_that_reads_twice_goes_on_where_it_was_stopped(
    typed: Typed, tmp_path: Path
) -> None:
    whole = prepare(typed(*WORDS), tmp_path / "whole")
    whole.train()
    words = typed(*WORDS, "training.checkpoint_minutes=0")
    stopped = prepare(words, tmp_path / "told")
    layer, steps = stopped.pretrained.model.bert.encoder.layer[0], iter(range(1, 100))
    stop = lambda *_: os.kill(os.getpid(), signal.SIGTERM) if next(steps) == 5 else None  # noqa: E731
    layer.register_forward_hook(stop)
    with handle_signals(), pytest.raises(UserError, match="SIGTERM after step 5"):
        stopped.train()
    again = prepare(words, tmp_path / "told", overwrite=False)
    again.train()
    assert not changed(whole.weights(), again.weights())


def test_the_plan_says_that_texts_are_read_twice(
    typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    run(compose(*typed("strategy=r_drop", "dry_run=true")))
    assert "texts, each read twice." in " ".join(capsys.readouterr().out.split())


def test_a_stage_without_answers_cannot_be_consistent(typed: Typed, tmp_path: Path) -> None:
    key = "strategy.stages.embeddings.consistency=1"
    with pytest.raises(UserError, match="compares two answers to a text, and the loss contrastive"):
        run(compose(*typed("strategy=contrastive", key, f"run_dir={tmp_path}/run")))


def test_a_head_that_is_solved_cannot_be_consistent(typed: Typed, tmp_path: Path) -> None:
    key = "strategy.stages.head.consistency=1"
    with pytest.raises(UserError, match="the head is solved exactly, without readings"):
        run(compose(*typed("strategy=feature_extraction", key, f"run_dir={tmp_path}/run")))
