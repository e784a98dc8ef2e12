"""The command a person types first, on the embedded checkpoint and reviews, made small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import pipeline

SMALL = ("dataset.limit=96", "strategy.epochs=2", "strategy=feature_extraction")
SMALL += ("export.verify_rows=16",)


def test_the_first_command_ends_in_a_folder_that_pipeline_opens() -> None:
    command = [sys.executable, "-m", "nlp_transfer.train", "+task=sentiment", *SMALL]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "head: the head, 148,610 of 22,713,986 parameters (0.7%)" in done.stdout
    assert "pooling: the head reads the mean of all tokens; a layer above the 5 of" in done.stderr
    assert "a new process predicted 16 texts" in done.stdout
    assert "Traceback" not in done.stderr
    run = next(Path("runs").glob("sentiment-*"))
    assert json.loads((run / "run.json").read_text())["state"] == "finished"
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["runs"]
    opened = pipeline("text-classification", str(run / "model"))
    assert opened("What a find!")[0]["label"] in ("negative", "positive")


@pytest.mark.slow
def test_the_demonstration_lands_well_above_a_bag_of_words_and_below_98() -> None:
    command = [sys.executable, "-m", "nlp_transfer.train", "+task=sentiment", "run_dir=demo"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    accuracy = json.loads(Path("demo/metrics.json").read_text())["test"]["metrics"]["accuracy"]
    # A logistic regression on words gets 71% (test_reviews.py).
    assert 0.78 < accuracy < 0.98
