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
from nlp_transfer.config.choices import Solver
from nlp_transfer.config.sections.strategy import StrategyConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.strategies.auto_strategy import FEW_WITH_VALIDATION
from nlp_transfer.models.strategies.recipes import Recipe, named_strategy, recipe_of
from nlp_transfer.models.strategies.stages import plan_stages, stage_steps

Typed = Callable[..., list[str]]


@pytest.mark.parametrize("task", ["sentiment", "classify dataset.train=mine.csv", "topic"])
def test_auto_is_the_default_of_every_task(task: str) -> None:
    assert compose(*f"+task={task}".split()).strategy.is_auto


@pytest.mark.parametrize(
    "name",
    ["full", "r_drop", "feature_extraction", "probe_then_full", "contrastive", "pair_similarity"],
)
def test_every_strategy_that_auto_may_choose_is_the_one_of_that_name(name: str) -> None:
    named = compose("+task=sentiment", f"strategy={name}").strategy
    assert named_strategy(StrategyConfig(name="auto"), name) == named


def test_a_recipe_is_found_again_by_the_name_that_a_run_stores() -> None:
    auto = StrategyConfig(name="auto")
    for recipe in (
        Recipe(named_strategy(auto, "contrastive"), label_names=True),
        Recipe(named_strategy(auto, "full")),
    ):
        assert recipe_of(auto, recipe.name) == recipe


def test_what_is_typed_beside_auto_stays() -> None:
    typed = compose("+task=sentiment", "strategy.epochs=7", "strategy.learning_rate=3e-5").strategy
    strategy = named_strategy(typed, "full")
    assert strategy.stages
    assert (strategy.epochs, strategy.learning_rate) == (7, 3e-5)


def test_a_strategy_that_was_named_is_left_alone() -> None:
    named = compose("+task=sentiment", "strategy=two_phase").strategy
    assert recipe_of(named, "two_phase").strategy is named


def test_a_run_writes_down_what_auto_chose_and_keeps_its_name_in_the_configuration(
    typed: Typed, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="nlp_transfer"):
        run(compose(*typed("strategy=auto", "strategy.epochs=1", "run_dir=mine")))
    assert f"strategy=auto: contrastive: {FEW_WITH_VALIDATION}" in caplog.messages
    written = json.loads(Path("mine/run.json").read_text())
    assert written["decisions"]["strategy"] == "contrastive"
    stages = compose("+task=sentiment", "strategy=contrastive").strategy.stages
    assert [stage["name"] for stage in written["stages"]] == list(stages)
    assert "name: auto" in Path("mine/config.yaml").read_text()


def test_the_plan_of_a_dry_run_is_that_of_the_choice(
    typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    run(compose(*typed("strategy=auto", "dry_run=true")))
    output = capsys.readouterr().out
    for stage in compose("+task=sentiment", "strategy=contrastive").strategy.stages:
        assert f"Stage {stage} learns " in output


def test_a_dry_run_counts_the_layer_that_the_run_will_add(
    typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    words = typed("strategy=contrastive", "run_dir=mine")
    run(compose(*words, "dry_run=true"))
    output = capsys.readouterr().out
    run(compose(*words))
    stages = json.loads(Path("mine/run.json").read_text())["stages"]
    for stage in stages:
        assert f" of {stage['all_parameters']:,} parameters" in " ".join(output.split())


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


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ((), {16: 50, 60: 72, 100: 120, 125: 150, 1_000: 150}),
        (("embeddings.max_steps=60",), {16: 50, 60: 60, 1_000: 60}),
        (("embeddings.min_steps=1", "embeddings.max_steps=60"), {1: 2, 16: 20, 60: 60}),
        (("embeddings.max_steps=null",), {16: 50, 60: 72, 1_000: 1_200}),
        (("embeddings.steps_per_shot=5",), {16: 50, 24: 60, 1_000: 150}),
        (("embeddings.steps=20",), {16: 20, 1_000: 20}),
        (("embeddings.epochs=2",), {16: 2, 128: 16, 1_000: 126}),
    ],
)
def test_steps_of_a_contrastive_stage_follow_the_rows_a_label(
    more: tuple[str, ...], expected: dict[int, int], typed: Typed, tmp_path: Path
) -> None:
    words = [f"strategy.stages.{word}" for word in more]
    arguments = typed("strategy=contrastive", "training.batch_size=16", *words)
    structure = prepare(arguments, tmp_path / "run").pretrained.structure
    config = compose(*arguments)
    for rows, steps in expected.items():
        stage, head = plan_stages(config.strategy, structure, rows, 2, 16)
        assert stage_steps(stage, rows, 16) == steps
        assert head.solver is Solver.exact


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
    chosen = json.loads(Path("mine/run.json").read_text())["decisions"]["pooled_last_layer"]
    assert chosen["layer"] == 2  # all of them, since they learn
