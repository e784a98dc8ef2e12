"""Runs on growing parts of the labels, and what they say about more of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_rows, write_csv

from nlp_transfer import compose
from nlp_transfer.analysis.learning_curve import Curve, Step, learning_curve, parts
from nlp_transfer.cli.main import main
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.corpus import load_corpus
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.intervals.significance import Difference

Typed = Callable[..., list[str]]


def test_each_part_has_all_rows_of_the_one_before_whatever_the_labels(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for sample in range(8):  # many labels, some of them rare
        labels = generator.geometric(0.3, size=generator.integers(150, 400)).clip(1, 9)
        rows = [(f"text {i}", f"label {label}") for i, label in enumerate(labels)]
        file = write_csv(tmp_path / f"{sample}.csv", rows)
        config = DatasetConfig(train=str(file))
        whole = load_corpus(config, sample)
        sizes = parts(len(whole.splits["train"]), len(whole.labels))
        splits_by_size = [load_corpus(replace(config, limit=size), sample).splits for size in sizes]
        texts = [set(splits["train"]["text"]) for splits in splits_by_size]
        assert [len(part) for part in texts] == sizes
        assert texts[0] < texts[1] < texts[2] < texts[3] == set(whole.splits["train"]["text"])
        for split in ("validation", "test"):
            assert len({tuple(splits[split]["text"]) for splits in splits_by_size}) == 1


def test_too_few_rows_are_refused() -> None:
    assert parts(101, 2) == [12, 24, 48, 101]
    with pytest.raises(UserError, match="An eighth of the 23 rows") as refused:
        parts(23, 3)
    assert refused.value.code is ExitCode.DATA


def test_rows_that_are_measured_out_of_fold_are_refused_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    file = write_csv(tmp_path / "few.csv", make_rows(48))
    with pytest.raises(UserError, match="With 48 rows cross-validation decides.*folds=0"):
        learning_curve(["+task=classify", f"dataset.train={file}"])


def test_what_a_curve_does_not_do_is_refused(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="leave out dry_run and hub.repository"):
        learning_curve(typed("hub.repository=me/mine"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="without torchrun"):
        learning_curve(typed())


def test_the_verdict_is_that_of_the_last_doubling() -> None:
    def curve(metric: str, value: float, low: float, high: float, p: float) -> str:
        figures: dict[str, Any] = {"rows": 99, "metrics": {metric: 0.8}, "intervals": {}}
        steps = [
            Step(50, "a", figures, None),
            Step(100, "b", figures, Difference(value, (low, high), p, 0.0)),
        ]
        return str(Curve("test", metric, steps))

    assert "More labels would probably help" in curve("accuracy", 0.1, 0.05, 0.15, 0.001)
    assert "More labels made it worse" in curve("accuracy", -0.1, -0.15, -0.05, 0.001)
    assert "More labels would probably help" in curve("log_loss", -0.1, -0.15, -0.05, 0.001)
    text = curve("accuracy", 0.01, -0.02, 0.04, 0.4)
    assert "The data cannot tell" in text
    assert "from 50 to 100 rows accuracy changed by +0.010 [-0.020, +0.040]" in text
    for value, p in ((0.0, 1.0), (0.1, 0.0)):  # of an interval without width, nothing is certain
        text = curve("accuracy", value, value, value, p)
        assert "The data cannot tell" in text
        assert "does not mean certainty: these 99 rows" in text
        assert "probably help" not in text


def test_points_for_which_auto_chose_otherwise_are_named() -> None:
    figures: dict[str, Any] = {"rows": 99, "metrics": {"accuracy": 0.8}, "intervals": {}}
    gain = Difference(0.1, (0.05, 0.15), 0.001, 0.0)
    chosen = [{"strategy": "probe", "precision": "fp32"}, {"strategy": "full", "precision": "fp32"}]
    steps = [Step(50, "a", figures, None, chosen[0]), Step(1000, "b", figures, gain, chosen[1])]
    text = str(Curve("test", "accuracy", steps))
    assert "strategy is chosen by the data (50 rows: probe, 1,000 rows: full)" in text
    assert "precision" not in text


@pytest.mark.slow
def test_a_curve_is_four_runs_that_are_found_again(
    typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    words = typed("strategy=feature_extraction", "run_dir=mine")
    main(["learning-curve", *words, "--out", "curve.json"])
    output = capsys.readouterr().out
    curve = json.loads(Path("curve.json").read_text())
    folders = [Path(step["folder"]) for step in curve["steps"]]
    assert [folder.name for folder in folders] == ["mine-12", "mine-24", "mine-48", "mine"]
    rows = [json.loads((f / "run.json").read_text())["rows"] for f in folders]
    assert [counts["train"] for counts in rows] == [12, 24, 48, 101]
    assert [counts["test"] for counts in rows] == [33] * 4
    assert curve["steps"][0]["gain"] is None
    for step, folder in zip(curve["steps"], folders, strict=True):
        assert step["measured"] == json.loads((folder / "metrics.json").read_text())["test"]
    times = [(folder / "metrics.json").stat().st_mtime_ns for folder in folders]
    main(["learning-curve", *words])
    again = capsys.readouterr().out
    assert [(folder / "metrics.json").stat().st_mtime_ns for folder in folders] == times
    assert again[again.index("rows of train") :] == output[output.index("rows of train") :]
    assert compose(*words).dataset.limit is None
