"""Another package adds a source, a metric, a loss, an engine and an exporter by entry points."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nlp_transfer.errors import ExitCode

OUTSIDE = """
from nlp_transfer.data.formats.registry import register_reader
from nlp_transfer.evaluation.registry import register_metric
from nlp_transfer.export.exporters import register_exporter
from nlp_transfer.inference.engines import ENGINES, register_engine
from nlp_transfer.training.losses import cross_entropy, register_loss


@register_reader("label=text", ".eq")
def read_equals(file, name, options):
    rows = (line.decode().strip().split("=", 1) for line in file)
    yield [{"label": label, "text": text} for label, text in rows]


@register_metric("errors", "single_label", form="counts", greater_is_better=False)
def errors(counts, classes):
    return 1 - counts.hits.sum(axis=-1) / counts.actual.sum(axis=-1)


@register_loss("doubled", "single_label")
def doubled(outputs, answers, options):
    return 2 * cross_entropy(outputs, answers, options)


@register_engine("loud", "loud/*.txt")
def load(model, threads):
    engine = ENGINES["torch"].load(model, threads)
    engine.decoder = type(engine.decoder)(tuple(name.upper() for name in engine.decoder.labels))
    return engine


@register_exporter("loud")
def export(folder, request):
    (folder / "loud").mkdir()
    (folder / "loud" / "voice.txt").write_text("loud")
    return f"Written: loud, compared on {len(request.questions.texts)} texts"
"""
ENTRY_POINTS = """
[nlp_transfer.sources]
equals = outside_package

[nlp_transfer.metrics]
errors = outside_package

[nlp_transfer.losses]
doubled = outside_package

[nlp_transfer.engines]
loud = outside_package

[nlp_transfer.exporters]
loud = outside_package
"""
Command = Callable[..., str]


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """`nlp-transfer` in a process in which the other package is installed; what it prints."""
    site = tmp_path / "site"
    about = site / "outside-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "outside_package.py").write_text(OUTSIDE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])

    def enter(*words: str, code: int = 0) -> str:
        process = subprocess.run(
            [sys.executable, "-m", "nlp_transfer.cli", *words],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            timeout=300,
        )
        assert process.returncode == code, process.stderr
        return process.stderr if code else process.stdout

    return enter


def as_equals(file: Path) -> Path:
    """The same rows in the format that only the other package reads."""
    with file.open(newline="", encoding="utf-8") as stream:
        lines = [f"{row['label']}={row['text']}\n" for row in csv.DictReader(stream)]
    target = Path(file.name).with_suffix(".eq")
    target.write_text("".join(lines), encoding="utf-8")
    return target


@pytest.mark.slow
def test_one_of_each_is_used_by_its_name_from_the_command_line(
    command: Command, typed: Callable[..., list[str]], reviews: dict[str, Path], tmp_path: Path
) -> None:
    files = [f"dataset.{split}={as_equals(file)}" for split, file in reviews.items()]
    metrics = "evaluation.metrics=[errors,accuracy,log_loss]"
    loss = ("training.loss=doubled", "strategy.epochs=1", "run_dir=run")
    command("train", *typed(*files, metrics, *loss))
    log = json.loads(Path("run/run.json").read_text())["stages"][0]["log"]
    measured = next(entry for entry in log if "eval_loss" in entry)
    assert measured["eval_loss"] == pytest.approx(2 * measured["eval_log_loss"], rel=1e-4)
    figures = json.loads(Path("run/metrics.json").read_text())["test"]
    assert figures["metrics"]["errors"] == pytest.approx(1 - figures["metrics"]["accuracy"])
    assert set(figures["intervals"]) == {"errors", "accuracy", "log_loss"}
    assert "Written: loud" in command("export", "run", "--format", "loud", "--data", "test.eq")
    answers = command("predict", "run", "--backend", "loud", "a lovely film")
    assert answers.split()[0] in ("NEGATIVE", "POSITIVE")
    module = tmp_path / "site" / "outside_package.py"
    module.write_text(module.read_text().replace("2 * cross_entropy", "3 * cross_entropy"))
    refusal = command("train", *typed(*files, metrics, *loss), code=ExitCode.RUN_FOLDER)
    assert "run holds a different run: the registered loss doubled (its code" in refusal


def test_a_package_that_cannot_be_loaded_is_one_message(command: Command, tmp_path: Path) -> None:
    (tmp_path / "site" / "outside_package.py").write_text("raise RuntimeError('no licence')")
    Path("rows.eq").write_text("positive=fine")
    message = command("train", "+task=classify", "dataset.train=rows.eq", code=2)
    assert "Error: The sources of the entry point 'equals' (outside_package)" in message
    assert "cannot be loaded: RuntimeError: no licence. Repair or uninstall" in message
    assert "Traceback" not in message
