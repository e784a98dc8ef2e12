"""Scores of any size and spread are learned, and the checkpoint says them as they are."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import last_of_each
from prepared_runs import Prepared, prepare
from shaped_rows import around, claim_of, scores, shaped
from training_process import tell_at_step
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from nlp_transfer.errors import UserError
from nlp_transfer.training.objectives.target_scaling import (
    UNSCALED,
    TargetScaler,
    fit_target_scaler,
)
from nlp_transfer.training.optimization.signals import handle_signals
from nlp_transfer.training.stages.history import StageHistory
from nlp_transfer.utils.distributed import join

BEST = ("evaluation.best=mse", "checkpoint.dropout=0", "training.batch_size=8")
FULL = (*BEST, "strategy=full", "strategy.learning_rate=1e-3", "strategy.epochs=12")
PROBE = (*BEST, "strategy=probe_then_full", "strategy.learning_rate=2e-4", "strategy.epochs=3")
PROBE += ("checkpoint.pooling=mean",)
LORA = (*BEST, "strategy=lora", "strategy.learning_rate=1e-3", "strategy.epochs=15")


def trained(
    folder: Path, checkpoint: Path, rows: Callable[[int], Any], *more: str
) -> tuple[Prepared, list[StageHistory]]:
    prepared = prepare(shaped(folder, checkpoint, rows, *more), folder / "run")
    return prepared, prepared.train()


def mse_of(prepared: Prepared) -> float:
    """On validation, of the model as it is now."""
    answers, references = prepared.logits("validation")[:, 0], prepared.corpus.references
    return float(np.square(answers - references("validation")).mean())


@pytest.mark.parametrize(
    ("strategy", "mean", "spread"),
    [
        (FULL, 1000, 100),
        (PROBE, 1000, 100),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((FULL, 50, 20), (PROBE, 50, 20), (LORA, 1000, 100))
        ),
    ],
)
def test_scores_of_any_size_are_learned_and_said_as_they_are(
    strategy: tuple[str, ...],
    mean: float,
    spread: float,
    checkpoints: dict[str, Path],
    tmp_path: Path,
) -> None:
    prepared, history = trained(tmp_path, checkpoints["bert"], around(mean, spread), *strategy)
    claim = claim_of(prepared, tmp_path / "model")
    mse = mse_of(prepared)
    assert mse < 0.6 * spread**2  # the constant mean has spread**2
    # What was looked at while it learned, and chosen by, is in the units of the scores.
    looks = [entry["eval_mse"] for entry in history[-1].log if "eval_mse" in entry]
    assert history[-1].best == min(looks) == pytest.approx(mse, rel=1e-4)
    model = AutoModelForSequenceClassification.from_pretrained(claim.folder).eval()
    batch = AutoTokenizer.from_pretrained(claim.folder)(
        list(claim.texts), padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        scores = model(**batch).logits.numpy()
    np.testing.assert_allclose(scores, claim.logits, rtol=1e-5)


@pytest.mark.slow
def test_scores_that_are_standard_already_give_what_they_gave(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = []
    for change in (False, True):
        if change:
            fit = "nlp_transfer.training.loop.fit_target_scaler"
            monkeypatch.setattr(fit, lambda *_: UNSCALED)
        more = (*FULL, "strategy.epochs=8")
        prepared, _ = trained(tmp_path, checkpoints["bert"], around(0, 1), *more)
        logits.append(prepared.logits("validation"))
    assert np.ptp(logits[0]) > 1
    np.testing.assert_allclose(*logits, atol=1e-3)


def test_a_regression_that_was_stopped_ends_in_the_same_weights(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    words = shaped(tmp_path, checkpoints["bert"], around(1000, 100), *PROBE, "strategy.epochs=2")
    words = last_of_each(*words, "checkpoint.dropout=0.1", "training.keep_best=false")
    unbroken = prepare(words, tmp_path / "unbroken")
    unbroken.train()
    interrupted = prepare(words, tmp_path / "run")
    tell_at_step(interrupted, 17, signal.SIGTERM)
    with handle_signals(), pytest.raises(UserError, match="SIGTERM after step 17"):
        interrupted.train()
    # Once from the middle of its last stage, and once more when all its stages are finished.
    for _ in range(2):
        again = prepare(words, tmp_path / "run", overwrite=False)
        again.train()
        one, two = again.weights(), unbroken.weights()
        assert all(torch.equal(one[name], two[name]) for name in one)


def test_scores_without_a_spread_are_not_divided_by_nothing(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    prepared = prepare(shaped(tmp_path, checkpoints["bert"], scores), tmp_path / "run")
    train = prepared.encoded.splits["train"]
    same = replace(train, labels=np.full_like(train.labels, 0.1))
    encoded = replace(prepared.encoded, splits={**prepared.encoded.splits, "train": same})
    scaler = fit_target_scaler(prepared.pretrained, encoded, join(prepared.config.training))
    assert scaler == TargetScaler(pytest.approx(0.1), 1.0)


def test_a_checkpoints_own_head_of_scores_begins_where_it_was(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    first, _ = trained(tmp_path, checkpoints["bert"], around(50, 20), *FULL)
    claim = claim_of(first, tmp_path / "model")
    # A rate of next to nothing: what it says is what it begins with.
    still = (*FULL, "strategy.learning_rate=1e-12", "strategy.epochs=1")
    other, _ = trained(tmp_path, claim.folder, around(45, 25), *still)
    np.testing.assert_allclose(other.logits("validation"), claim.logits, rtol=1e-4)
    larger, _ = trained(tmp_path, claim.folder, around(1000, 100), *still)
    assert mse_of(larger) < 100**2 / 2
