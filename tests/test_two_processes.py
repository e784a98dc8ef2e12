"""One run on two real processes: each proves from inside a step that it is one of two."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hub_server import Hub, serving
from prepared_runs import FAST, STRATEGIES, shallow
from safetensors.torch import load_file
from shaped_rows import around, shaped
from training_process import REPORTING, TWO

from nlp_transfer import compose, run
from nlp_transfer.config.sections.training import TrainingConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.utils.distributed import SHARDED, join

Typed = Callable[..., list[str]]


def test_two_processes_train_the_same_model_as_one(typed: Typed, tmp_path: Path) -> None:
    more = ("strategy=two_phase", "strategy.epochs=2", "training.batch_size=16")
    overrides = [*typed(*more, "checkpoint.dropout=0")]
    # As a person without a GPU would type it.
    overrides.remove("training.cpu=true")
    script = tmp_path / "reporting.py"
    script.write_text(REPORTING, encoding="utf-8")
    with serving(Hub()) as hub:
        options = (f"run_dir={tmp_path / 'two'}", "hub.repository=user/tiny")
        online = {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "hf_right"}
        environment = {**os.environ, **online, "HF_ENDPOINT": hub.endpoint, "OMP_NUM_THREADS": "1"}
        two = subprocess.run(
            [*TWO, str(script), *overrides, *options],
            env={**environment, "REPORT": f"{tmp_path}/rank-"},
            capture_output=True,
            text=True,
            timeout=240,
        )
    assert two.returncode == 0, two.stderr
    run(compose(*overrides, f"run_dir={tmp_path / 'one'}"))
    steps = [
        [json.loads(line) for line in (tmp_path / f"rank-{rank}").read_text().splitlines()]
        for rank in (0, 1)
    ]
    # 101 rows in batches of 16 are 7 steps, twice in each of two stages.
    assert [len(step) for step in steps] == [28, 28]
    assert {step["world_size"] for step in steps[0] + steps[1]} == {2}
    assert [{step["rank"] for step in rank} for rank in steps] == [{0}, {1}]
    assert steps[0][0]["pid"] != steps[1][0]["pid"]
    assert {step["wrapped"] for step in steps[0]} == {"DistributedDataParallel"}
    assert sum(step["rows"] for step in steps[0] + steps[1]) == 4 * 101

    weights = [
        load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two")
    ]
    apart = max(float((weights[0][n] - weights[1][n]).abs().max()) for n in weights[0])
    assert apart < 1e-6
    metrics = [(tmp_path / name / "metrics.json").read_text() for name in ("one", "two")]
    scores = [json.loads(text)["test"]["metrics"]["accuracy"] for text in metrics]
    assert scores[0] == scores[1]
    # Only the first process prints.
    assert two.stdout.count("Training\n") == 1
    assert "2 processes on 1 node" in two.stderr
    assert "each step: 16 texts, by 2 processes each in 1 passes of at most 8" in two.stderr
    # Only the first process asks the Hub and uploads.
    assert [len(hub.sent(route)) for route in ("auth_check", "create", "commit")] == [1, 1, 1]
    assert two.stdout.count("On the Hub: ") == 1
    assert torch.isfinite(torch.tensor(scores)).all()


def test_a_sweep_inside_a_launch_of_several_processes_is_refused(
    typed: Typed,
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


HEAD = ("bert.pooler.", "classifier.")
LEARNS = {
    "head": lambda name: name.startswith(HEAD),
    "top": lambda name: name.startswith((*HEAD, "bert.encoder.layer.1.")),
    "all": lambda _: True,
    # The linear maps of the layers, beside which there are adapters, and the head.
    "adapters": lambda name: (
        name.startswith(HEAD)
        or (".layer." in name and name.endswith("weight") and "LayerNorm" not in name)
    ),
}


@pytest.mark.slow
def test_on_two_processes_each_stage_of_every_strategy_changes_exactly_what_it_says(
    typed: Typed, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    strategies = {"scores": shaped(tmp_path, checkpoints["bert"], around(1000, 100), *FAST)}
    strategies["scores"].remove("training.cpu=true")
    for name in (*STRATEGIES, "r_drop", "lora"):
        words = typed(*shallow(name), *FAST, "features.cache=on")
        words.remove("training.cpu=true")
        strategies[name] = words
    done = subprocess.run(
        [*TWO, str(Path(__file__).with_name("two_processes.py")), tmp_path, json.dumps(strategies)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    pids = set()
    for one, two in zip(*ranks, strict=True):
        about = (one["strategy"], one["stage"])
        assert one["weights"] == two["weights"], about
        assert one["changed"] == two["changed"], about
        expected = {name for name in one["names"] if LEARNS[one["stage"]](name)}
        changes = set(one["changed"])
        if one["steps"]:
            assert changes == expected, about
        else:  # solved: a new dense layer's bias is zero, and may be just what the solution wants
            assert {name for name in expected if name.endswith("weight")} <= changes <= expected
        for rank, record in enumerate((one, two)):
            for step in record["steps"]:
                assert (step["rank"], step["world_size"]) == (rank, 2), about
                assert step["wrapped"] == "DistributedDataParallel", about
                pids.add((rank, step["pid"]))
    assert len(pids) == 2


@pytest.mark.parametrize("name", sorted(SHARDED))
def test_a_model_that_is_spread_over_processes_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "true")  # as accelerate launch says it
    with pytest.raises(UserError, match=f"configured for {SHARDED[name]}") as refused:
        join(TrainingConfig())
    assert refused.value.code is ExitCode.MACHINE


@pytest.mark.slow
def test_what_the_first_of_two_processes_finds_is_one_message(typed: Typed, tmp_path: Path) -> None:
    command = [*TWO, "-m", "nlp_transfer.train", *typed("hub.repository=somebody/reviews")]
    command.remove("training.cpu=true")
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_TOKEN": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode != 0
    ours = done.stderr.partition("ChildFailedError")[0]  # the launcher's own words come after it
    assert ours.count("Error: ") == 1 and "hf auth login" in ours, ours
    assert "UserError" not in done.stderr and "pipeline.py" not in done.stderr


@pytest.mark.slow
def test_two_processes_that_are_told_to_stop_save_together_and_go_on(
    typed: Typed, tmp_path: Path
) -> None:
    more = ("strategy.epochs=40", "strategy.learning_rate=5e-4", "training.keep_best=false")
    overrides = typed(*more, "checkpoint.dropout=0", f"run_dir={tmp_path / 'run'}")
    overrides.remove("training.cpu=true")
    script = tmp_path / "reporting.py"
    script.write_text(REPORTING, encoding="utf-8")
    command = [*TWO, str(script), *overrides]
    environment = {**os.environ, "REPORT": f"{tmp_path}/rank-", "OMP_NUM_THREADS": "1"}
    report = tmp_path / "rank-1"
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True
    ) as interrupted:
        while not report.exists() or len(report.read_text().splitlines()) < 20:
            assert interrupted.poll() is None
            time.sleep(0.05)
        interrupted.send_signal(signal.SIGTERM)
        _, output = interrupted.communicate(timeout=60)
    assert interrupted.returncode != 0
    assert "The same command continues from there" in output, output
    again = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert again.returncode == 0, again.stderr
    assert "resumes from step" in again.stderr
    steps = [
        [json.loads(line) for line in (tmp_path / f"rank-{rank}").read_text().splitlines()]
        for rank in (0, 1)
    ]
    # Not one step of 280 was made twice.
    assert [len(rank) for rank in steps] == [280, 280]


@pytest.mark.slow
def test_what_two_processes_began_one_goes_on_with(
    typed: Typed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    more = ("strategy.epochs=6", "strategy.learning_rate=5e-4", "training.keep_best=false")
    words = typed(*more, "checkpoint.dropout=0", "training.checkpoint_minutes=0")
    words.remove("training.cpu=true")
    unbroken = run(compose(*words, "run_dir=unbroken"))
    script = tmp_path / "reporting.py"
    script.write_text(REPORTING, encoding="utf-8")
    environment = {**os.environ, "REPORT": f"{tmp_path}/rank-", "OMP_NUM_THREADS": "1"}
    report = tmp_path / "rank-1"
    command = [*TWO, str(script), *words, "run_dir=killed"]
    with subprocess.Popen(command, env=environment, start_new_session=True) as killed:
        while not report.exists() or len(report.read_text().splitlines()) < 20:
            assert killed.poll() is None
            time.sleep(0.02)
        os.killpg(killed.pid, signal.SIGKILL)
        for rank in (0, 1):  # the launcher puts them into sessions of their own
            last = (tmp_path / f"rank-{rank}").read_text().splitlines()[-1]
            with suppress(ProcessLookupError):
                os.kill(json.loads(last)["pid"], signal.SIGKILL)
    with caplog.at_level("INFO", logger="nlp_transfer"):
        one = run(compose(*words, "run_dir=killed"))
    assert "resumes from step" in caplog.text
    weights = [load_file(result.model / "model.safetensors") for result in (unbroken, one)]
    apart = max(float((weights[0][n] - weights[1][n]).abs().max()) for n in weights[0])
    assert apart < 1e-6
    accuracies = [result.metrics["test"]["metrics"]["accuracy"] for result in (unbroken, one)]
    assert accuracies[0] == accuracies[1]


@pytest.mark.slow
def test_two_nodes_keep_their_stores_apart_and_train_the_same_model(
    typed: Typed, tmp_path: Path
) -> None:
    words = typed("strategy=top_layers", "strategy.top_layers=1", "features.cache=on")
    words += ["checkpoint.dropout=0", "strategy.epochs=2", "strategy.learning_rate=1e-3"]
    words.remove("training.cpu=true")
    one = run(compose(*words, "run_dir=one"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"]
    launcher += ["--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    nodes = []
    for node in (0, 1):
        home = tmp_path / f"node-{node}"
        own = [f"{room}.folder={home / room}" for room in ("features", "tokenization")]
        command = [*launcher, "--node-rank", str(node), "-m", "nlp_transfer.train", *words, *own]
        nodes.append(
            subprocess.Popen(
                [*command, "run_dir=two"],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    outputs = [node.communicate(timeout=240)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outputs
    assert "2 processes on 2 nodes" in outputs[0]
    stores = [list((tmp_path / f"node-{node}/features").iterdir()) for node in (0, 1)]
    assert [len(names) for names in stores] == [1, 1]
    for name in ("train.npy", "validation.npy"):
        assert (stores[0][0] / name).read_bytes() == (stores[1][0] / name).read_bytes()
    weights = [load_file(Path(name) / "model/model.safetensors") for name in ("one", "two")]
    apart = max(float((weights[0][n] - weights[1][n]).abs().max()) for n in weights[0])
    assert apart < 1e-6
    measured = [one.metrics, json.loads(Path("two/metrics.json").read_text())]
    assert measured[0]["test"]["per_class"] == measured[1]["test"]["per_class"]
