"""Runs side by side: what is a tie, what is one row, and what cannot be compared at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf

from nlp_transfer import compose
from nlp_transfer.analysis.compare import Comparison, _value, as_json, compare
from nlp_transfer.analysis.compare_table import table
from nlp_transfer.cli.main import main
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.metric_set import load_metrics
from nlp_transfer.runs.predictions import read_predictions

Variant = Callable[..., Path]
ROWS = 400


@pytest.fixture
def variant(finished: Path) -> Variant:
    """The same run as another might have ended: its answers moved, its settings changed."""

    def make(name: str, noise: float = 0.0, **settings: Any) -> Path:
        folder = Path(shutil.copytree(finished, name))
        tree = OmegaConf.load(folder / "config.yaml")
        for key, value in settings.items():
            OmegaConf.update(tree, key.replace("__", "."), value)
        OmegaConf.save(tree, folder / "config.yaml")
        generator = np.random.default_rng(int(settings.get("seed", 0)))
        measured = json.loads((folder / "metrics.json").read_text())
        metrics = load_metrics(compose("+task=sentiment").evaluation, ("negative", "positive"))
        for split, figures in measured.items():
            logits, references = read_predictions(folder, split)
            logits = (logits + noise * generator.normal(size=logits.shape)).astype(np.float32)
            file = folder / "predictions" / f"{split}.npz"
            np.savez(file, logits=logits, references=references)
            figures |= metrics.of_rows(logits, references)
        (folder / "metrics.json").write_text(json.dumps(measured))
        return folder

    return make


def edit_run(folder: Path, **entries: Any) -> Path:
    """What `run.json` says, changed; None takes an entry out."""
    file = folder / "run.json"
    content = {**json.loads(file.read_text()), **entries}
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return folder


def refused(code: ExitCode, *folders: Path, metric: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        compare(folders, metric)
    assert caught.value.code is code
    return str(caught.value)


def names(comparison: Comparison) -> list[str]:
    return [entry.name for entry in comparison.entries]


def test_a_run_ties_with_itself_and_with_a_copy(finished: Path, variant: Variant) -> None:
    copy = variant("copy")
    for folders in ([finished, finished], [finished, copy]):
        comparison = compare(folders)
        (pair,) = comparison.pairs
        assert pair.tie
        assert (pair.difference.value, pair.difference.interval) == (0.0, (0.0, 0.0))
        assert (pair.difference.p, pair.mcnemar) == (1.0, 1.0)
        assert names(comparison) == [str(folder) for folder in folders]
        assert "a tie" in table(comparison)
    assert (comparison.split, comparison.rows, comparison.metric) == ("test", ROWS, "accuracy")


def test_a_cross_validated_run_has_no_time_a_text(finished: Path, variant: Variant) -> None:
    copy = variant("copy")
    file = copy / "run.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "ms_per_text": None}))
    comparison = compare([finished, copy])
    times = [entry["ms_per_text"] for entry in json.loads(as_json(comparison))["entries"]]
    assert sorted(time is None for time in times) == [False, True]
    (line,) = [
        line for line in table(comparison).splitlines() if line.startswith("copy ") and " s" in line
    ]
    assert "–" in line


def test_a_worse_run_is_told_apart_and_the_table_says_what_each_costs(
    finished: Path, variant: Variant, capsys: pytest.CaptureFixture[str]
) -> None:
    worse = variant("worse", noise=9.0, strategy__name="guess")
    main(["compare", str(worse), str(finished), "--out", "found.json"])
    output = capsys.readouterr().out
    content = json.loads(Path("found.json").read_text())
    best, other = content["entries"]
    assert best["name"] == "strategy=full"
    assert other["name"] == "strategy=guess"
    measured = json.loads((finished / "metrics.json").read_text())["test"]
    assert best["score"] == pytest.approx(measured["metrics"]["accuracy"], abs=1e-12)
    low, high = measured["intervals"]["accuracy"]
    assert f"{best['score']:.3f} [{low:.3f}, {high:.3f}]" in output
    about = json.loads((finished / "run.json").read_text())
    assert best["parameters"] == best["learns"] == about["stages"][0]["parameters"]
    weights = (finished / "model" / "model.safetensors").stat().st_size
    assert best["megabytes"] == weights / 1e6
    assert best["ms_per_text"] == about["ms_per_text"] > 0
    (pair,) = content["pairs"]
    assert not pair["tie"]
    assert pair["difference"]["value"] == pytest.approx(best["score"] - other["score"])
    assert pair["difference"]["interval"][0] > 0
    assert max(pair["difference"]["p"], pair["mcnemar"]) < 0.05
    assert "significantly better than all others" in output


def test_runs_that_differ_only_in_the_seed_are_one_row(variant: Variant) -> None:
    good = [variant(f"good-{seed}", 0.2, seed=seed) for seed in (1, 2, 3)]
    bad = [variant(f"bad-{seed}", 9.0, seed=seed, strategy__name="bad") for seed in (3, 1, 2)]
    again = variant("good-again", 0.2, seed=3)
    comparison = compare([*bad, *good, again])
    assert names(comparison)[-1] == "strategy=bad"
    rows = {entry.contender.seeds: entry for entry in comparison.entries}
    assert {len(entry.runs) for entry in comparison.entries} == {3, 1}
    assert set(rows) == {(1, 2, 3), (3,)}  # the same seed twice is no spread
    worst = comparison.entries[-1]
    assert [run.folder.name for run in worst.runs] == ["bad-1", "bad-2", "bad-3"]
    measured = [run.measured["test"]["metrics"]["accuracy"] for run in worst.runs]
    assert worst.contender.score == pytest.approx(np.mean(measured))
    assert worst.contender.spread == pytest.approx(np.std(measured, ddof=1))
    assert f"{np.mean(measured):.3f} ± {np.std(measured, ddof=1):.3f}" in table(comparison)
    apart = [pair.mcnemar for pair in comparison.pairs]
    assert apart == [None] * 3  # it is for two single runs
    assert "show no significant difference from" in table(comparison)
    assert [pair["tie"] for pair in json.loads(as_json(comparison))["pairs"]] == [
        pair.tie for pair in comparison.pairs
    ]
    alone = compare(good)
    assert names(alone) == ["3 seeds"]
    assert alone.pairs == []
    assert "±" in table(alone)


@pytest.mark.slow
def test_runs_that_differ_only_in_the_fold_are_one_row_without_pairs(
    variant: Variant, capsys: pytest.CaptureFixture[str]
) -> None:
    def fold(name: str, number: int, **settings: Any) -> Path:
        """One of four parts of the test split, as if each run had been tested on its own."""
        options = {"dataset__folds": 4, "dataset__fold": number, **settings}
        folder = variant(name, 1.0, **options)
        file = folder / "predictions" / "test.npz"
        logits, references = (part[number::4] for part in read_predictions(folder, "test"))
        np.savez(file, logits=logits, references=references)
        measured = json.loads((folder / "metrics.json").read_text())
        metrics = load_metrics(compose("+task=sentiment").evaluation, ("negative", "positive"))
        measured["test"] |= {"rows": 100, **metrics.of_rows(logits, references)}
        (folder / "metrics.json").write_text(json.dumps(measured))
        digests = json.loads((folder / "run.json").read_text())["predictions"]
        return edit_run(folder, predictions={**digests, "test": f"{number}" * 64})

    folds = [fold(f"fold-{number}", number) for number in (2, 0, 3, 1)]
    comparison = compare(folds)
    (entry,) = comparison.entries
    assert (comparison.over, comparison.rows, comparison.pairs, comparison.notes) == (
        "folds",
        ROWS,
        [],
        [],
    )
    measured = [json.loads((f / "metrics.json").read_text())["test"]["metrics"] for f in folds]
    accuracies = [metrics["accuracy"] for metrics in measured]
    assert entry.contender.score == pytest.approx(np.mean(accuracies))
    spread = np.std(accuracies, ddof=1)
    assert entry.contender.spread == pytest.approx(spread) != 0
    losses = [metrics["log_loss"] for metrics in measured]
    main(["compare", *map(str, folds)])
    output = capsys.readouterr().out
    assert "4 folds" in output
    assert f"{np.mean(accuracies):.3f} ± {spread:.3f}" in output
    assert f"{np.mean(losses):.3f} ± {np.std(losses, ddof=1):.3f}" in output
    assert "Several folds: their mean" in output
    # Two methods: a row each, and which folds are missing.
    others = [fold(f"other-{number}", number, strategy__name="other") for number in (0, 1)]
    comparison = compare([*folds, *others])
    assert sorted(names(comparison)) == ["strategy=full", "strategy=other"]
    assert comparison.pairs == []
    assert "strategy=other: there is no run of fold 2, 3 of 4" in table(comparison)
    assert json.loads(as_json(comparison))["entries"][0]["folds"]
    # The same fold is compared as any two runs on the same rows are.
    (pair,) = compare([folds[1], others[0]]).pairs
    assert pair.mcnemar is not None
    digests = {"validation": "1" * 64, "test": "7" * 64}
    elsewhere = edit_run(fold("elsewhere", 1), predictions=digests)
    assert "in fold 1 differ" in refused(ExitCode.DATA, *folds, elsewhere)


def test_any_metric_of_ours_can_be_compared_by(finished: Path, variant: Variant) -> None:
    worse = variant("worse", noise=9.0)
    comparison = compare([worse, finished], "log_loss")
    assert comparison.entries[0].runs[0].folder == finished  # the lower the better
    assert comparison.pairs[0].difference.value < 0
    comparison = compare([worse, finished], "matthews")  # which the runs did not measure
    assert "matthews" in table(comparison)
    lines = table(comparison).splitlines()
    assert "[" in lines[1].split()[3]  # after the name, the seeds and the value
    lines = table(compare([worse, variant("same")], "matthews")).splitlines()
    assert max(map(len, lines[: lines.index("")])) <= 80
    message = refused(ExitCode.CONFIG, finished, worse, metric="f2")
    assert "roc_auc" in message
    other = variant("other", evaluation__best="f1_macro")
    assert "--metric" in refused(ExitCode.CONFIG, finished, other)


def test_runs_of_other_rows_are_refused(finished: Path, variant: Variant) -> None:
    digests = json.loads((finished / "run.json").read_text())["predictions"]
    other = edit_run(variant("other"), predictions={**digests, "test": "0" * 64})
    message = refused(ExitCode.DATA, finished, other)
    assert "the rows of test differ" in message
    assert "000000" in message
    labels = edit_run(variant("labels"), labels=["bad", "good"])
    assert "negative, positive" in refused(ExitCode.DATA, finished, labels)
    # What has no test split is compared on validation, which is said.
    untested = edit_run(variant("untested"), predictions={"validation": digests["validation"]})
    comparison = compare([finished, untested])
    assert comparison.split == "validation"
    assert "on which choices were made, too" in table(comparison)


def test_what_is_no_finished_run_is_refused(finished: Path, variant: Variant) -> None:
    assert "is not a run" in refused(ExitCode.RUN_FOLDER, finished, finished / "model")
    unfinished = edit_run(variant("unfinished"), state="unfinished")
    assert "is not finished" in refused(ExitCode.RUN_FOLDER, finished, unfinished)
    older = edit_run(variant("older"), predictions=None)
    assert "overwrite=true" in refused(ExitCode.RUN_FOLDER, finished, older)
    assert "found 1" in refused(ExitCode.CONFIG, finished)


@pytest.mark.parametrize("command", ["evaluate", "compare", "learning-curve"])
def test_a_file_that_cannot_be_written_or_would_be_lost_is_refused_first(
    command: str,
    finished: Path,
    typed: Callable[..., list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = {
        "evaluate": [str(finished), "--data", str(finished.parent / "test.csv")],
        "compare": [str(finished), str(finished)],
        "learning-curve": typed(),
    }[command]
    file = Path("kept.json")
    file.write_text("mine")
    for out, why in (("nowhere/x.json", "no folder nowhere"), (str(file), "Add --force")):
        with pytest.raises(SystemExit) as caught:
            main([command, *words, "--out", out])
        assert caught.value.code == ExitCode.CONFIG
        output = capsys.readouterr()
        assert output.out == ""
        assert why in output.err
    assert file.read_text() == "mine"
    assert [*Path().iterdir()] == [file]  # nothing was begun
    if command != "learning-curve":
        main([command, *words, "--out", str(file), "--force"])
        assert json.loads(file.read_text())


def test_the_runs_of_a_sweep_are_found_and_the_others_named(
    variant: Variant, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = Path("runs/sweep-1")
    sweep.mkdir(parents=True)
    folders = [variant(f"runs/{seed}", 0.5, seed=seed) for seed in (1, 2)]
    edit_run(variant("runs/3"), state="unfinished")
    jobs: list[dict[str, Any]] = [{"run": str(folder), "overrides": []} for folder in folders]
    jobs += [jobs[0], {"run": "runs/3", "overrides": []}]
    jobs += [{"error": "no", "overrides": ["seed=4"]}]
    for i, job in enumerate(jobs):
        (sweep / f"job-{i:04d}.json").write_text(json.dumps(job))
    main(["compare", str(sweep)])
    output = capsys.readouterr().out
    assert "2 seeds" in output
    assert "runs/3 is not finished" in output
    assert "it failed: seed=4" in output
    shutil.move("runs", "elsewhere")
    assert names(compare([Path("elsewhere/sweep-1")])) == ["2 seeds"]


def test_a_run_of_files_is_named_by_its_file() -> None:
    files = {"dataset.name": None, "dataset.train": "data/tickets.csv"}
    assert _value(files, "dataset.name") == "tickets.csv"
    assert _value({**files, "dataset.name": "python:data"}, "dataset.name") == "python:data"
