"""The figures are of a model without the held-out rows; the final model learns from all rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import make_rows, write_csv
from safetensors.torch import load_file
from training_process import start

from nlp_transfer import Classifier, compose, run
from nlp_transfer.data.corpus import load_run_corpus
from nlp_transfer.models.strategies import auto_strategy
from nlp_transfer.models.strategies.auto_strategy import candidates
from nlp_transfer.training.refit import learns_from_held_out_rows

ALL_ROWS = 120


@pytest.fixture
def one_file(typed: Callable[..., list[str]], tmp_path: Path) -> Callable[..., list[str]]:
    """What a person types for one file of labelled rows."""

    def words(*more: str, rows: int = ALL_ROWS, labels: int = 2) -> list[str]:
        table = make_rows(rows)
        if labels != 2:
            table = [(text, f"class {row % labels}") for row, (text, _) in enumerate(table)]
        file = write_csv(tmp_path / f"{rows}.csv", table)
        others = [w for w in typed() if not w.startswith("dataset.")]
        return [*others, f"dataset.train={file}", *more]

    return words


@pytest.mark.slow
def test_the_final_model_learns_from_all_rows_and_the_figures_do_not(
    one_file: Callable[..., list[str]],
) -> None:
    short = ("strategy.epochs=2", "strategy.learning_rate=1e-3", "evaluation.calibrate=false")
    held_out = run(compose(*one_file(*short, "evaluation.refit=never", "run_dir=held_out")))
    refit = run(compose(*one_file(*short, "evaluation.refit=always", "run_dir=refit")))
    for split in ("validation", "test"):
        same = (held_out.metrics[split], refit.metrics[split])
        assert same[0]["metrics"] == same[1]["metrics"]
    assert "trained on all 120" in refit.metrics["test"]["notes"][-1]
    entries = json.loads((refit.folder / "run.json").read_text())
    # 96 rows of train are 6 steps an epoch, all 120 are 8.
    assert [stage["steps"] for stage in entries["stages"]] == [12]
    assert entries["refit"]["rows"] == ALL_ROWS
    assert [stage["steps"] for stage in entries["refit"]["stages"]] == [16]
    assert entries["verified"]["difference"] < 1e-5
    one, two = (load_file(r.model / "model.safetensors") for r in (held_out, refit))
    assert not torch.equal(one["classifier.weight"], two["classifier.weight"])
    assert len(Classifier.load(refit.model).predict(["a lovely film"])) == 1


@pytest.mark.parametrize(
    ("rows", "labels", "more", "expected"),
    [
        (1200, 12, (), True),
        (1200, 2, (), False),  # a fifth more of 600 rows a label changes nothing
        (1200, 12, ("evaluation.refit=never",), False),
        (1200, 12, ("evaluation.test=false",), False),  # runs are compared
        (1200, 12, ("dataset.folds=5",), False),
        (ALL_ROWS, 2, (), False),  # cross-validation is for so few
        (ALL_ROWS, 2, ("evaluation.refit=always",), True),
        pytest.param(10_000, 80, (), False, marks=pytest.mark.slow),
    ],
)
def test_which_runs_learn_from_held_out_rows(
    one_file: Callable[..., list[str]],
    rows: int,
    labels: int,
    more: tuple[str, ...],
    expected: bool,
) -> None:
    config = compose(*one_file(*more, rows=rows, labels=labels))
    assert learns_from_held_out_rows(config, load_run_corpus(config)) is expected


def test_files_for_validation_and_test_are_never_learned_from(
    typed: Callable[..., list[str]],
) -> None:
    config = compose(*typed("evaluation.refit=always"))
    assert not learns_from_held_out_rows(config, load_run_corpus(config))


@pytest.mark.parametrize(
    ("kind", "labels", "expected"),
    [
        ("single_label", 2, "r_drop"),  # 520 rows a label
        ("single_label", 12, "probe_then_full"),  # 87
        ("multi_label", 2, "probe_then_full"),
    ],
)
def test_where_a_random_head_learns_too_little_it_is_solved_first(
    one_file: Callable[..., list[str]], kind: str, labels: int, expected: str
) -> None:
    words = [w for w in one_file(rows=1300, labels=labels) if not w.startswith("strategy")]
    config = compose(*words, f"dataset.problem={kind}")
    recipes = candidates(config, load_run_corpus(config), "bert")
    assert [recipe.name for recipe in recipes] == [expected]


@pytest.mark.parametrize(
    ("kind", "labels"), [("single_label", 2), ("single_label", 12), ("multi_label", 2)]
)
def test_beside_a_validation_split_few_rows_are_learned_as_they_are_with_folds(
    one_file: Callable[..., list[str]], kind: str, labels: int
) -> None:
    words = [w for w in one_file(rows=600, labels=labels) if not w.startswith("strategy")]
    config = compose(*words, f"dataset.problem={kind}")
    recipes = candidates(config, load_run_corpus(config), "bert")
    assert [recipe.strategy.name for recipe in recipes] == ["contrastive"]


@pytest.mark.slow
@pytest.mark.parametrize("step", [7, 15])  # of the held-out model, of the final one
def test_a_killed_refit_ends_in_the_same_weights(
    one_file: Callable[..., list[str]], tmp_path: Path, step: int
) -> None:
    words = one_file("evaluation.refit=always", "strategy.epochs=2")
    whole = run(compose(*words, "run_dir=whole"))
    folder = tmp_path / "killed"
    killed = start([*words, f"run_dir={folder}"], tmp_path, DIE_AT=str(step))
    assert killed.returncode == -9
    again = run(compose(*words, f"run_dir={folder}"))
    one, two = (load_file(r.model / "model.safetensors") for r in (whole, again))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert whole.metrics["test"]["metrics"] == again.metrics["test"]["metrics"]


def test_texts_are_read_twice_up_to_some_thousand_rows_with_one_label_each(
    one_file: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [w for w in one_file(rows=1300, labels=2) if not w.startswith("strategy")]
    monkeypatch.setattr(auto_strategy, "READ_TWICE_UP_TO", 500)
    config = compose(*words)
    assert [r.name for r in candidates(config, load_run_corpus(config), "bert")] == ["full"]
