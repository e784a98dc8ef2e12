"""Metrics and losses that other code registers: plain functions, and part of what a run is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nlp_transfer import UserError, compose, run
from nlp_transfer.analysis.reproduce import repeat
from nlp_transfer.evaluation.registry import METRICS, key_of, metrics_of, register_metric
from nlp_transfer.registry import Registry
from nlp_transfer.training.losses import LOSSES, losses_of_rows, register_loss

Typed = Callable[..., list[str]]
WORDS = ("strategy=full", "strategy.epochs=1", "strategy.min_steps=0")
NAMED = ("training.loss=scaled", "evaluation.metrics=[accuracy,misses,log_loss]")


def register(factor: float) -> None:
    """Both as a person would write them, and write them anew with another factor."""

    @register_loss("scaled", "single_label")
    def scaled(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return factor * torch.nn.functional.cross_entropy(logits, labels, reduction="none")

    @register_metric("misses", "single_label", greater_is_better=False)
    def misses(references: np.ndarray, decisions: np.ndarray) -> float:
        return float((references != decisions).sum())


@pytest.fixture
def registered() -> Iterator[Callable[[float], None]]:
    """`register`, undone afterwards."""
    yield register
    LOSSES.pop("scaled", None)
    METRICS.pop(key_of("single_label", "misses"), None)


def test_functions_of_two_arguments_are_used_by_their_names(
    registered: Callable[[float], None], typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    registered(2.0)
    result = run(compose(*typed(*WORDS, *NAMED, "run_dir=run")))
    figures = result.metrics["test"]
    wrong = round((1 - figures["metrics"]["accuracy"]) * figures["rows"])
    assert figures["metrics"]["misses"] == wrong
    low, high = figures["intervals"]["misses"]
    assert low <= wrong <= high
    assert metrics_of("single_label")["misses"].bounds == (-np.inf, np.inf)
    log = json.loads(Path("run/run.json").read_text())["stages"][0]["log"]
    measured = next(entry for entry in log if "eval_loss" in entry)
    assert measured["eval_loss"] == pytest.approx(2 * measured["eval_log_loss"], rel=1e-4)
    print(result)
    assert "Lower is better: misses, log_loss." in capsys.readouterr().out


def test_a_registered_function_that_is_edited_makes_another_run(
    registered: Callable[[float], None], typed: Typed
) -> None:
    def config(*more: str) -> Any:
        return compose(*typed(*WORDS, *NAMED, *more))

    registered(2.0)
    first = run(config())
    assert run(config()).previous_state == "finished"
    about = json.loads((first.folder / "run.json").read_text())
    assert set(about["code"]) == {"registered loss scaled", "registered metric misses"}
    assert run(config("run_dir=named")).previous_state == "absent"
    repeated = repeat(first.folder, first.folder.with_name("again"))
    assert repeated.differences == []
    registered(3.0)
    assert run(config("dry_run=true")).folder != first.folder
    message = "named holds a different run: the registered loss scaled .its code or content has"
    with pytest.raises(UserError, match=message):
        run(config("run_dir=named"))


def test_a_loss_of_torch_is_registered_as_it_is() -> None:
    try:
        register_loss("smooth")(torch.nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1))
        losses = losses_of_rows(LOSSES["smooth"], np.zeros((3, 2)), np.array([0, 1, 1]))
    finally:
        LOSSES.pop("smooth", None)
    assert losses == pytest.approx([np.log(2)] * 3)


def test_a_name_that_is_taken_is_refused_and_the_same_function_may_be_written_anew() -> None:
    registry: Registry[Callable[[], int]] = Registry("things", "a thing", "nlp_transfer.nothing")

    def define(value: int) -> Callable[[], int]:
        @registry.register("one")
        def one() -> int:
            return value

        return one

    define(1)
    second = define(2)
    assert registry.find("one") is second
    with pytest.raises(ValueError, match="a thing with the name 'one' exists already"):
        registry.add("one", lambda: 3)
    with pytest.raises(ValueError, match="a metric with the name 'single_label accuracy' exists"):
        register_metric("accuracy", "single_label")(np.mean)
    with pytest.raises(UserError, match=r"things=on is not a thing. Did you mean one\?"):
        registry.find("on")
