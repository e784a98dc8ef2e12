"""One run on two real processes: each proves from inside a step that it is one of two."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hub_server import Hub, serving
from safetensors.torch import load_file

REPORTING = """
import json, os, sys
import torch.distributed as dist
from transformers import Trainer

step = Trainer.training_step
def reporting_step(self, *arguments):
    with open(os.environ["REPORT"] + os.environ["RANK"], "a") as file:
        labels = arguments[1]["labels"]
        said = {"rank": dist.get_rank(), "world_size": dist.get_world_size(), "pid": os.getpid()}
        said["rows"] = int((labels != -100).sum())
        said["wrapped"] = type(arguments[0]).__name__
        file.write(json.dumps(said) + chr(10))
    return step(self, *arguments)
Trainer.training_step = reporting_step

from nlp_transfer.train import main
main()
"""


def test_two_processes_train_the_same_model_as_one(
    typed: Callable[..., list[str]], tmp_path: Path
) -> None:
    more = ("strategy=two_phase", "strategy.epochs=2", "training.batch_size=16")
    overrides = [*typed(*more, "checkpoint.dropout=0")]
    # As a person without a GPU would type it.
    overrides.remove("training.cpu=true")
    script = tmp_path / "reporting.py"
    script.write_text(REPORTING, encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc-per-node", "2"]
    with serving(Hub()) as hub:
        asked = (f"run_dir={tmp_path / 'two'}", "hub.repository=user/tiny")
        online = {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_right"}
        environment = {**os.environ, **online, "HF_ENDPOINT": hub.endpoint, "OMP_NUM_THREADS": "1"}
        two = subprocess.run(
            [*launcher, str(script), *overrides, *asked],
            env={**environment, "REPORT": f"{tmp_path}/rank-"},
            capture_output=True,
            text=True,
            timeout=240,
        )
    assert two.returncode == 0, two.stderr
    one = subprocess.run(
        [
            sys.executable,
            "-m",
            "nlp_transfer.train",
            *overrides,
            f"run_dir={tmp_path / 'one'}",
        ],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert one.returncode == 0, one.stderr

    steps = [
        [json.loads(line) for line in (tmp_path / f"rank-{rank}").read_text().splitlines()]
        for rank in (0, 1)
    ]
    # 101 rows in batches of 16 are 7 steps, twice in each of two stages.
    assert [len(said) for said in steps] == [28, 28]
    assert {said["world_size"] for said in steps[0] + steps[1]} == {2}
    assert [{said["rank"] for said in rank} for rank in steps] == [{0}, {1}]
    assert steps[0][0]["pid"] != steps[1][0]["pid"]
    assert {said["wrapped"] for said in steps[0]} == {"DistributedDataParallel"}
    assert sum(said["rows"] for said in steps[0] + steps[1]) == 4 * 101

    weights = [
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two")
    ]
    apart = max(float((weights[0][n] - weights[1][n]).abs().max()) for n in weights[0])
    assert apart < 1e-6
    metrics = [(tmp_path / name / "metrics.json").read_text() for name in ("one", "two")]
    scores = [json.loads(text)["test"]["metrics"]["accuracy"] for text in metrics]
    assert scores[0] == scores[1]
    # Only the first process prints.
    assert two.stdout.count("What learned") == 1
    # Only the first process asks the Hub and uploads.
    assert [len(hub.sent(route)) for route in ("auth_check", "create", "commit")] == [1, 1, 1]
    assert two.stdout.count("On the Hub: ") == 1
    assert "2 processes" in two.stderr
    assert torch.isfinite(torch.tensor(scores)).all()


def test_a_sweep_inside_a_launch_of_several_processes_is_refused(
    typed: Callable[..., list[str]],
) -> None:
    command = [sys.executable, "-m", "nlp_transfer.train", "--multirun", *typed("seed=1,2")]
    done = subprocess.run(
        command,
        env={**os.environ, "WORLD_SIZE": "2", "RANK": "0"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "Start one torchrun for each run" in done.stderr


@pytest.mark.slow
def test_two_processes_that_are_told_to_stop_save_together_and_go_on(
    typed: Callable[..., list[str]], tmp_path: Path
) -> None:
    more = ("strategy.epochs=40", "strategy.learning_rate=5e-4", "training.keep_best=false")
    overrides = typed(*more, "checkpoint.dropout=0", f"run_dir={tmp_path / 'run'}")
    overrides.remove("training.cpu=true")
    script = tmp_path / "reporting.py"
    script.write_text(REPORTING, encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command = [*launcher, "--nproc-per-node", "2", str(script), *overrides]
    environment = {**os.environ, "REPORT": f"{tmp_path}/rank-", "OMP_NUM_THREADS": "1"}
    report = tmp_path / "rank-1"
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as told:
        while not report.exists() or len(report.read_text().splitlines()) < 20:
            assert told.poll() is None
            time.sleep(0.05)
        told.send_signal(signal.SIGTERM)
        _, said = told.communicate(timeout=60)
    assert told.returncode != 0
    assert "The same command goes on from there" in said, said
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr
    assert "goes on from step" in again.stderr
    steps = [
        [json.loads(line) for line in (tmp_path / f"rank-{rank}").read_text().splitlines()]
        for rank in (0, 1)
    ]
    # Not one step of 280 was made twice.
    assert [len(rank) for rank in steps] == [280, 280]
