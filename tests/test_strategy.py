"""Strategies before any training: what `auto` chooses, how long a stage is, where it starts."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import make_rows, write_csv
from prepared_runs import prepare

from nlp_transfer import compose, run
from nlp_transfer.config.schema import Solver, StrategyConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models import auto_strategy as choice
from nlp_transfer.models.auto_strategy import RULES, choose, resolve
from nlp_transfer.models.stages import stage_steps

Typed = Callable[..., list[str]]


def at_once(_: str, decision: Callable[[], str]) -> str:
    return decision()


@pytest.mark.parametrize("task", ["sentiment", "classify dataset.train=mine.csv", "topic"])
def test_auto_is_the_default_of_every_task(task: str) -> None:
    assert compose(*f"+task={task}".split()).strategy.is_auto


@pytest.mark.parametrize(("most", "name", "why"), RULES)
def test_every_rule_chooses_a_strategy_that_exists_and_says_why(
    most: float, name: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    each = 1e6 if most == float("inf") else most
    with caplog.at_level(logging.INFO, logger="nlp_transfer"):
        assert choose(round(each * 3), 3) == name
    assert name in caplog.text
    assert why in caplog.text
    named = compose("+task=sentiment", f"strategy={name}").strategy
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "choose", lambda *_: name)
        assert resolve(StrategyConfig(name="auto"), 10, 2, at_once) == named


def test_the_rules_are_in_order_and_the_last_has_no_end() -> None:
    bounds = [most for most, _, _ in RULES]
    assert bounds == sorted(bounds)
    assert bounds[-1] == float("inf")


def test_what_is_typed_beside_auto_stays() -> None:
    typed = compose("+task=sentiment", "strategy.epochs=7", "strategy.learning_rate=3e-5").strategy
    strategy = resolve(typed, 100_000, 2, at_once)
    assert strategy.stages
    assert (strategy.epochs, strategy.learning_rate) == (7, 3e-5)


def test_a_strategy_that_was_named_is_left_alone() -> None:
    named = compose("+task=sentiment", "strategy=two_phase").strategy
    assert resolve(named, 8, 2, at_once) is named


def test_a_run_writes_down_what_auto_chose_and_keeps_its_name_in_the_configuration(
    typed: Typed,
) -> None:
    run(compose(*typed("strategy=auto", "strategy.epochs=1", "run_dir=mine")))
    written = json.loads(Path("mine/run.json").read_text())
    chosen = choose(101, 2)
    assert written["decisions"]["strategy"] == chosen
    stages = compose("+task=sentiment", f"strategy={chosen}").strategy.stages
    assert [stage["name"] for stage in written["stages"]] == list(stages)
    assert "name: auto" in Path("mine/config.yaml").read_text()


def test_the_plan_of_a_dry_run_is_that_of_the_choice(
    typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    run(compose(*typed("strategy=auto", "dry_run=true")))
    output = capsys.readouterr().out
    for stage in compose("+task=sentiment", f"strategy={choose(101, 2)}").strategy.stages:
        assert f"Stage {stage}: " in output


def test_a_stage_of_an_automatic_strategy_cannot_be_set() -> None:
    with pytest.raises(UserError, match="strategy=auto chooses its stages") as refusal:
        compose("+task=sentiment", "strategy.stages.all.layer_decay=0.9")
    assert refusal.value.code is ExitCode.CONFIG


def test_few_rows_get_more_epochs_until_there_are_enough_steps(
    typed: Typed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = ("strategy=two_phase", "strategy.min_steps=50", "training.batch_size=16")
    with caplog.at_level(logging.INFO, logger="nlp_transfer"):
        prepared = prepare(typed(*more), tmp_path / "run")
    # 101 rows are 7 batches: 8 epochs are the fewest with 50 steps.
    assert [stage.epochs for stage in prepared.stages] == [8, 8]
    assert "8 epochs instead of 2, for 50 steps (strategy.min_steps)" in caplog.text
    assert all(stage_steps(stage, 101, 16) == 56 for stage in prepared.stages)


@pytest.mark.parametrize("more", [("strategy.epochs=2",), ("training.batch_size=1",)])
def test_the_floor_is_for_defaults_and_for_few_rows_only(
    more: tuple[str, ...], typed: Typed, tmp_path: Path
) -> None:
    prepared = prepare(typed(*more, "strategy.min_steps=20"), tmp_path / "run")
    assert [stage.epochs for stage in prepared.stages] == [2 if "epochs" in more[0] else 3]


def test_validation_that_is_larger_than_train_is_looked_at_less_often(
    typed: Typed, tmp_path: Path
) -> None:
    few = write_csv(tmp_path / "few.csv", make_rows(8))
    looks = []
    for train in (f"dataset.train={few}", "seed=1"):
        prepared = prepare(typed("strategy.epochs=20", train), tmp_path / "run")
        log = prepared.train()[0].log
        looks.append([entry["step"] for entry in log if "eval_accuracy" in entry])
    assert looks[0] == [4, 8, 12, 16, 20]  # one step an epoch, four times 8 rows are 32
    assert len(looks[1]) == 20


@pytest.mark.parametrize(
    ("strategy", "names", "solved"),
    [
        ("top_layers", ["head", "top"], ["head"]),
        ("gradual_unfreezing", ["head", "top", "all"], ["head"]),
        ("full", ["head", "all"], ["head"]),
        ("feature_extraction", ["head"], ["head"]),
    ],
)
def test_any_strategy_can_start_from_a_solved_head(
    strategy: str, names: list[str], solved: list[str], typed: Typed, tmp_path: Path
) -> None:
    shallow = () if strategy in ("full", "feature_extraction") else ("strategy.top_layers=1",)
    words = typed(f"strategy={strategy}", *shallow, "strategy.solve_head=true")
    prepared = prepare(words, tmp_path / "run")
    assert [stage.name for stage in prepared.stages] == names
    assert [s.name for s in prepared.stages if s.solver is Solver.exact] == solved
    if strategy == "top_layers":
        history = prepared.train()
        assert [stage.steps > 0 for stage in history] == [False, True]
        assert history[0].best is not None


@pytest.mark.slow
def test_pooling_is_chosen_also_where_a_head_is_solved_by_the_short_form(typed: Typed) -> None:
    run(compose(*typed("strategy.solve_head=true", "strategy.epochs=1", "run_dir=mine")))
    assert "pooling" in json.loads(Path("mine/run.json").read_text())["decisions"]
