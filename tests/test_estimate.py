"""`nlp-transfer estimate`: what is timed, what it predicts, and what a budget of minutes does."""

from __future__ import annotations

import json
import logging
import random
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import last_of_each, make_rows, write_csv
from prepared_runs import Prepared, prepare
from shaped_rows import pairs, shaped
from training_process import start

from nlp_transfer import Classifier, compose, run
from nlp_transfer.analysis.estimate.device import Device, seconds_on
from nlp_transfer.analysis.estimate.estimate import estimate
from nlp_transfer.analysis.estimate.table import estimates_text
from nlp_transfer.cli.main import main
from nlp_transfer.data.corpus import load_run_corpus
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.strategies import auto_strategy
from nlp_transfer.models.strategies.recipes import Recipe, named_strategy
from nlp_transfer.models.strategies.stages import Stage, shortened_stages
from nlp_transfer.runs.folder import RunFolder, State, open_run
from nlp_transfer.training.context import TrainingContext
from nlp_transfer.training.forecast.forecast import activation_bytes, forecast_recipe
from nlp_transfer.training.forecast.ledger import Correction, Estimate, Outcome, describe
from nlp_transfer.training.forecast.timed_recipes import is_long, log_forecast, time_recipes
from nlp_transfer.training.forecast.timing import time_recipe
from nlp_transfer.training.forecast.trainings import trainings_of
from nlp_transfer.training.forecast.work import systematic_sample
from nlp_transfer.utils.distributed import join
from nlp_transfer.utils.files import write_json

Typed = Callable[..., list[str]]


@pytest.fixture
def context(typed: Typed, tmp_path: Path) -> TrainingContext:
    """Of a run of the tiny BERT on reviews, with a validation split."""
    return context_of(prepare(typed("strategy=full"), tmp_path / "run"), tmp_path / "work")


def context_of(prepared: Prepared, path: Path) -> TrainingContext:
    """With a folder in which nothing was decided yet."""
    folder = RunFolder(path, State.absent, join(prepared.config.training))
    folder.path.mkdir()
    write_json(folder.path / "run.json", {})
    parts = (prepared.pretrained, prepared.encoded, None, prepared.metrics, prepared.config, folder)
    return TrainingContext(*parts, folds=prepared.corpus.folds)


def test_timing_changes_neither_the_model_nor_what_is_drawn_next(context: TrainingContext) -> None:
    before = {n: p.clone() for n, p in context.pretrained.model.state_dict().items()}
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = torch.rand(3), np.random.rand(3), random.random()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    time_recipe(context, Recipe(context.config.strategy))
    assert torch.equal(torch.rand(3), expected[0]) and random.random() == expected[2]
    assert np.array_equal(np.random.rand(3), expected[1])
    after = context.pretrained.model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not list(context.folder.path.glob("checkpoints*"))


def test_a_step_keeps_more_memory_where_texts_are_longer(context: TrainingContext) -> None:
    timing = time_recipe(context, Recipe(context.config.strategy)).stages[0]
    long, short = (activation_bytes(timing, context, 1, length) for length in (20, 5))
    halves = activation_bytes(timing, context, 2, 20)
    assert 0 < short < long and 0.4 * long < halves < 0.6 * long


def test_steps_and_seconds_grow_with_the_epochs(context: TrainingContext, typed: Typed) -> None:
    corpus = prepare(typed("strategy=full"), Path("other")).corpus
    few, many = (
        forecast_recipe(
            context, corpus, Recipe(replace(context.config.strategy, epochs=epochs, min_steps=0))
        )
        for epochs in (1, 4000)
    )
    assert many.steps == 4000 * few.steps
    assert many.seconds > 8 * few.seconds > 0


def test_a_stage_that_all_folds_share_is_counted_once(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    more = ("dataset.validation=null", "dataset.text_pair=other", "strategy=pair_similarity")
    words = shaped(tmp_path, checkpoints["bert"], pairs, *more)
    words = [word for word in words if not word.startswith(("strategy.learning", "strategy.min"))]
    prepared = prepare(words, tmp_path / "run")
    context, corpus = context_of(prepared, tmp_path / "work"), prepared.corpus
    assert corpus.folds is not None
    forecast = forecast_recipe(context, corpus, Recipe(prepared.config.strategy))
    shared = forecast.timing.stages[0]
    seconds = shared.stage.steps * shared.step[0]
    assert shared.stage.steps == 300 and seconds < forecast.seconds < 2 * seconds


def test_a_sample_has_every_label_and_length(context: TrainingContext) -> None:
    train = context.encoded.splits["train"]
    rows = systematic_sample(train, train.labels, len(train.labels) // 3)
    assert np.bincount(train.labels[rows]) == pytest.approx(np.bincount(train.labels) / 3, abs=1)
    assert train.inputs.lengths[rows].mean() == pytest.approx(train.inputs.lengths.mean(), rel=0.1)


def test_every_strategy_is_a_row_and_one_that_does_not_fit_the_problem_says_why(
    typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["estimate", *_words(typed), "--strategies", "full,pair_similarity", "--out", "e.json"])
    printed = capsys.readouterr().out
    entries = json.loads(Path("e.json").read_text("utf-8"))
    full, pairs = entries["rows"]
    low, expected, high = full["seconds"]
    assert 0 < low < expected < high and full["steps"] > 0 and full["host"] > 0
    assert "sentence pairs" in pairs["failed"] and "pair_similarity: not here" in printed
    assert max(map(len, printed.splitlines())) <= 80
    assert not Path("runs/.features").exists()


@pytest.mark.slow
def test_what_a_run_then_took_corrects_the_next_estimate(typed: Typed) -> None:
    words = _words(typed)
    main(["estimate", *words])
    for seed in (1, 2):
        main(["estimate", *words, f"seed={seed}", "--strategies", "full"])
        run(compose(*words, f"seed={seed}"))
    estimates = estimate(words, only=["full"])
    assert len(estimates.correction.outcomes) == 2
    ratios = [outcome.ratio for outcome in estimates.correction.outcomes]
    assert estimates.correction.factor == pytest.approx(np.median(ratios))
    assert "The last 2 estimated runs took" in estimates_text(estimates)


def test_the_range_holds_what_was_seen() -> None:
    estimate = Estimate("run", "full", 10.0, 10.0, None, {})
    outcomes = [Outcome(estimate, seconds, seconds, None) for seconds in (8.0, 10.0, 11.0, 20.0)]
    low, expected, high = Correction(outcomes).range_of(10.0)
    assert expected == pytest.approx(10.5)
    assert low <= 8.0 and high >= 20.0
    assert "2 of 4 were within 25%" in describe(outcomes) or "3 of 4" in describe(outcomes)


def test_a_device_on_paper_that_is_twice_as_fast_takes_less(
    context: TrainingContext, typed: Typed
) -> None:
    corpus = prepare(typed("strategy=full"), Path("other")).corpus
    forecast = forecast_recipe(context, corpus, Recipe(context.config.strategy))
    slow, fast = (
        seconds_on(Device("paper", 16, rate), context, forecast, 0) for rate in (1e-6, 2e-6)
    )
    assert slow[0] < slow[1] < slow[2] and slow[1] > 1.8 * fast[1]
    with pytest.raises(UserError, match="expected a name, gigabytes and TFLOPS"):
        Device.parse("T4")


def test_what_does_not_fit_ends_with_5_and_says_what_would(
    typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["estimate", *_words(typed), "--strategies", "full", "--device", "tiny,0.7001,1"])
    assert caught.value.code == ExitCode.MACHINE
    printed = capsys.readouterr()
    assert "does not fit" in printed.out and "What would make it fit:" in printed.out
    assert "does not fit into memory" in printed.err


def _words(typed: Typed) -> list[str]:
    return [w for w in typed("strategy=full", "strategy.epochs=1") if not w.startswith("run_dir=")]


@pytest.fixture
def many(typed: Typed, tmp_path: Path) -> list[str]:
    """A training that would take minutes, with a validation split."""
    files = [
        f"dataset.{split}={write_csv(tmp_path / f'{split}.csv', make_rows(rows, seed))}"
        for seed, (split, rows) in enumerate({"train": 400, "validation": 120}.items())
    ]
    others = [w for w in typed() if not w.startswith(("dataset.train", "dataset.validation"))]
    return [*others, *files]


@pytest.mark.slow
def test_a_budget_that_runs_out_ends_with_a_verified_model_and_says_so(many: list[str]) -> None:
    words = last_of_each(*many, "strategy=full", "strategy.epochs=4000", "strategy.max_minutes=0.5")
    result = run(compose(*words, "run_dir=short"))
    about = json.loads((result.folder / "run.json").read_text("utf-8"))
    assert about["state"] == "finished" and about["verified"]["difference"] < 1e-4
    assert 1 < about["stages"][0]["steps"] < 4000 * 25
    sentence = about["budget"]["sentence"]
    assert "there was time for full with" in sentence and "0.5 minutes" in sentence
    assert "there was time for full with" in " ".join(str(result).split())
    for name in ("report.html", "report.md"):
        assert "there was time for full with" in (result.folder / name).read_text("utf-8")
    [share] = about["budget"]["shares"].values()
    assert about["stages"][0]["epochs"] == int(4000 * share), "rates fall to zero within these"
    assert len(Classifier.load(result.model).predict(["a lovely film"])) == 1


def test_a_shorter_stage_has_whole_epochs_where_one_is_left() -> None:
    stage = Stage("all", 0, 3.0, 1e-3, 1e-4, 1.0)
    by_steps = replace(stage, steps=50)
    [half, tenth, fewer] = shortened_stages([stage, stage, by_steps], 0.5)
    assert half.epochs == tenth.epochs == 1.0 and (fewer.steps, fewer.epochs) == (25, 1.0)
    [tenth] = shortened_stages([stage], 0.1)
    assert tenth.epochs == pytest.approx(0.3)
    assert shortened_stages([stage], 1.0) == [stage]


def test_auto_takes_a_cheaper_recipe_where_the_budget_does_not_pay(
    many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_strategy, "FEW_ROWS_UP_TO", 100)  # as with thousands of rows
    words = last_of_each(
        *many, "strategy=auto", "strategy.min_steps=2000000", "strategy.max_minutes=0.5"
    )
    result = run(compose(*words, "run_dir=cheap"))
    about = json.loads((result.folder / "run.json").read_text("utf-8"))
    assert about["recipe"] == "feature_extraction"
    assert about["budget"]["left_out"][-2:] == ["full", "r_drop"]
    assert "would have taken longer" in about["budget"]["sentence"]


def test_a_budget_that_is_enough_changes_nothing(many: list[str]) -> None:
    words = last_of_each(*many, "strategy=full", "strategy.epochs=1")
    free = run(compose(*words, "run_dir=free"))
    paid = run(compose(*words, "run_dir=paid", "strategy.max_minutes=60"))
    weights = [(r.model / "model.safetensors").read_bytes() for r in (free, paid)]
    assert weights[0] == weights[1]
    about = json.loads((paid.folder / "run.json").read_text("utf-8"))
    assert "was enough" in about["budget"]["sentence"]


def test_what_a_killed_process_has_spent_is_gone(many: list[str]) -> None:
    words = last_of_each(*many, "strategy=full", "strategy.epochs=4000", "strategy.max_minutes=0.5")
    config = compose(*words, "run_dir=again")
    with open_run(config, load_run_corpus(config).fingerprint, join(config.training)) as folder:
        # As a process leaves it that was killed after 29 s.
        folder.checkpoints.mkdir(parents=True)
        spent = {"spent": 29.0, "cut": [], "left_out": []}
        write_json(folder.checkpoints / "budget.json", spent)
    about = json.loads((run(config).folder / "run.json").read_text("utf-8"))
    assert about["budget"]["spent"] > 29 and about["stages"][0]["steps"] == 1
    assert "training ended early (stage all: 1 of" in about["budget"]["sentence"]


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_with_what_is_left_of_its_budget(
    many: list[str], tmp_path: Path
) -> None:
    words = last_of_each(*many, "strategy=full", "strategy.epochs=4000", "strategy.max_minutes=0.7")
    words += ["run_dir=killed", "training.checkpoint_minutes=0.05"]
    killed = start(words, tmp_path, DIE_AT="300")
    assert killed.returncode == -signal.SIGKILL
    spent = json.loads(Path("killed/checkpoints/budget.json").read_text())["spent"]
    assert spent > 0
    again = start(words, tmp_path)
    assert again.returncode == 0, again.stderr
    assert f"{spent:.0f} s of 0.7 minutes are spent" in again.stderr
    about = json.loads(Path("killed/run.json").read_text("utf-8"))
    assert about["state"] == "finished" and about["verified"]["difference"] < 1e-4
    assert about["budget"]["spent"] > spent
    assert 0 < about["stages"][0]["steps"] < 4000 * 25
    assert len(Classifier.load("killed").predict(["a lovely film"])) == 1


def test_a_long_run_says_so_in_one_line(
    context: TrainingContext,
    typed: Typed,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    corpus = prepare(typed("strategy=full"), Path("other")).corpus
    package_logger = logging.getLogger("nlp_transfer")
    monkeypatch.setattr(package_logger, "propagate", True)
    caplog.set_level("INFO", "nlp_transfer")
    for epochs in (1, 40_000):
        recipe = Recipe(replace(context.config.strategy, epochs=epochs))
        timed = time_recipes(context, [recipe], corpus)
        forecast = timed.forecasts[recipe.name]
        idle = replace(forecast, timing=replace(forecast.timing, slowdown=1.0))
        log_forecast(replace(timed, forecasts={recipe.name: idle}), context, corpus)
    messages = {record.getMessage() for record in caplog.records}
    [line] = [message for message in messages if message.startswith("about ")]
    assert "280,000 steps" in line and "nlp-transfer estimate" in line


def test_the_trainings_of_folds_are_counted_in_one_line(context: TrainingContext) -> None:
    strategy, rows = context.config.strategy, len(context.train_rows.labels)
    assert (rows, context.config.training.batch_size) == (101, 16)

    def recipe(name: str, **options: object) -> Recipe:
        return Recipe(replace(named_strategy(strategy, name), **options))

    folds = np.arange(rows) % 4
    solved, texts = recipe("feature_extraction"), recipe("contrastive")
    assert trainings_of(context, [recipe("full", epochs=3)], folds) == (
        "5 trainings: 4 folds of full (about 15 steps each), and one of all rows"
    )
    assert trainings_of(context, [solved, texts], folds) == (
        "up to 9 trainings: 4 folds of feature_extraction (no steps, the head is solved) and of "
        "contrastive (about 122 steps each), and one of all rows"
    )
    pairs = trainings_of(context, [recipe("pair_similarity")], folds)
    assert "4 folds of pair_similarity (300 steps once)" in pairs


def test_nothing_is_timed_before_a_short_run(context: TrainingContext) -> None:
    assert not is_long(context)
