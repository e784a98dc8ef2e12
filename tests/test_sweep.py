"""Several runs by one command: each is a run of its own, and none is done twice."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from training_process import start

from nlp_transfer.analysis.compare import compare
from nlp_transfer.cli.sweep import sweep_folder
from nlp_transfer.cli.train import main
from nlp_transfer.errors import ExitCode

Typed = Callable[..., list[str]]
QUICKLY = ("export.verify_rows=2", "strategy=feature_extraction")


def sweep(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a sweep in this process."""
    monkeypatch.setattr(sys, "argv", ["train", "--multirun", *words])
    try:
        main()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0


def jobs(words: list[str]) -> list[dict[str, object]]:
    """What the jobs of a sweep noted, in their order."""
    files = sorted(sweep_folder(words).glob("job-*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


@pytest.mark.slow
def test_a_sweep_does_what_is_missing_shares_stores_and_says_what_each_job_gave(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = typed(*QUICKLY)
    # One of the jobs cannot be; the others are not lost.
    varied = [*words, "seed=1,2", "strategy.stages.head.head_learning_rate=1e-3,-1"]
    assert sweep(varied, monkeypatch) == ExitCode.CONFIG
    output = capsys.readouterr().out
    assert "4 jobs, 0 were finished before, 2 failed" in output
    assert len(list(Path("runs/.features").iterdir())) == 1
    lines = output[output.index("Sweep runs/sweep-") :].splitlines()
    assert [line.split()[-2] for line in lines[1:]] == ["seed=1", "seed=1", "seed=2", "seed=2"]
    noted = jobs(varied)
    runs = [Path(str(job["run"])) for job in noted if "run" in job]
    assert len(set(runs)) == 2
    times = [(run / "metrics.json").stat().st_mtime_ns for run in runs]
    assert sweep(varied, monkeypatch) == ExitCode.CONFIG
    assert "4 jobs, 2 were finished before" in capsys.readouterr().out
    assert [(run / "metrics.json").stat().st_mtime_ns for run in runs] == times
    best = json.loads((runs[0] / "metrics.json").read_text())["validation"]["metrics"]["accuracy"]
    assert noted[0]["best"] == best
    compared = compare([sweep_folder(varied)])
    assert [entry.name for entry in compared.entries] == ["2 seeds"]
    assert sum("it failed" in note for note in compared.notes) == 2


@pytest.mark.slow
# optuna 2, which Hydra's plugin wants, uses SQLAlchemy by an older name.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_search_goes_by_validation_and_leaves_test_alone(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*typed("export.verify_rows=2"), "+search=rates"]
    few = [*words, "hydra.sweeper.n_trials=2"]
    assert sweep(few, monkeypatch) == 0
    results = (sweep_folder(few) / "optimization_results.yaml").read_text(encoding="utf-8")
    noted = jobs(few)
    assert len(noted) == 2
    assert f"best_value: {max(float(str(job['best'])) for job in noted)}" in results
    for job in noted:
        measured = json.loads((Path(str(job["run"])) / "metrics.json").read_text())
        assert set(measured) == {"validation"}


def test_a_sweep_that_is_told_to_stop_begins_no_further_job(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*typed("strategy.epochs=2"), "seed=1,2"]
    from transformers import Trainer

    step = Trainer.training_step

    def stopping_step(self: Trainer, *arguments: object) -> object:
        if self.state.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, *arguments)

    monkeypatch.setattr(Trainer, "training_step", stopping_step)
    assert sweep(words, monkeypatch) == ExitCode.STOPPED
    assert len([run for run in Path("runs").iterdir() if run.name.startswith("classify")]) == 1


def test_a_sweep_uploads_nothing(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = typed(*QUICKLY, "hub.repository=user/name", "seed=1,2")
    assert sweep(words, monkeypatch) == ExitCode.CONFIG
    output = capsys.readouterr()
    assert "nlp-transfer push RUN --repository user/name" in output.err
    assert "2 jobs, 0 were finished before, 2 failed" in output.out


@pytest.mark.slow
def test_a_sweep_killed_in_its_middle_goes_on_and_repeats_nothing(
    typed: Typed, tmp_path: Path
) -> None:
    # Two sizes of a batch by three seeds: 7 steps a job at first, and the fourth is under way.
    words = typed("strategy=top_layers", "strategy.top_layers=1", "strategy.epochs=1")
    words += ["export.verify_rows=2", "features.cache=on"]
    words += ["--multirun", "training.batch_size=16,32", "seed=1,2,3"]
    killed = start(words, tmp_path, DIE_AT=str(7 * 3 + 2))
    assert killed.returncode == -signal.SIGKILL
    steps = (tmp_path / "steps").read_text().split()
    again = start(words, tmp_path)
    assert again.returncode == 0, again.stderr
    assert "6 jobs, 3 were finished before, 0 failed" in again.stdout
    more = (tmp_path / "steps").read_text().split()[len(steps) :]
    assert len(more) == 4 * 3  # 101 rows in batches of 32; the three before are not repeated
    # What is frozen was computed by the first job; the second launch begins with the fourth.
    assert [done.stderr.count("found in") for done in (killed, again)] == [3, 3]
    assert len(list(Path("runs/.features").iterdir())) == 1


@pytest.mark.slow
def test_jobs_that_run_at_once_share_their_store(typed: Typed, tmp_path: Path) -> None:
    words = typed(*QUICKLY, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    done = start([*words, "--multirun", "seed=1,2,3"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 jobs, 0 were finished before, 0 failed" in done.stdout
    assert (done.stdout + done.stderr).count("found in") == 2
    assert len(list(Path("runs/.features").iterdir())) == 1
