"""`training.parallel=fsdp`: a model that is spread over two processes, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from safetensors.torch import load_file
from training_process import REPORTING, TWO, largest_difference
from transformers import pipeline

from nlp_transfer import compose, run
from nlp_transfer.config.schema import Config
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.utils.distributed import FSDP, as_launched

Typed = Callable[..., list[str]]
SPREAD = "training.parallel=fsdp"
STAGES = {"full": 1, "lora": 1, "two_phase": 2, "gradual_unfreezing": 3}


def launch(words: list[str], folder: Path, **environment: str) -> list[list[dict[str, object]]]:
    """Two processes; what each of them reports of its steps."""
    script = folder / "reporting.py"
    script.write_text(REPORTING, encoding="utf-8")
    done = subprocess.run(
        [*TWO, str(script), *[word for word in words if word != "training.cpu=true"]],
        env={**os.environ, "REPORT": f"{folder}/rank-", "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "sharded across the processes" in done.stderr
    return steps_in(folder)


def steps_in(folder: Path) -> list[list[dict[str, object]]]:
    files = [folder / f"rank-{rank}" for rank in (0, 1)]
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def kill_and_wait(pid: int) -> None:
    """Until nothing of it runs: what is dead and was not asked for has no command line."""
    with suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}/cmdline").read_bytes():
            time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STAGES)
def test_a_model_that_is_spread_over_two_processes_learns_what_one_process_learns(
    strategy: str, typed: Typed, tmp_path: Path
) -> None:
    top = ("strategy.stages.top.layers=1",) if strategy == "gradual_unfreezing" else ()
    words = typed(f"strategy={strategy}", *top, "strategy.epochs=2", "training.batch_size=16")
    words += ["training.micro_batch_size=5", "checkpoint.dropout=0", "features.cache=off"]
    if strategy == "two_phase":
        words.append("training.gradient_checkpointing=true")
    steps = launch([*words, SPREAD, f"run_dir={tmp_path / 'two'}"], tmp_path)
    one = run(compose(*words, f"run_dir={tmp_path / 'one'}"))
    # 101 rows in batches of 16 are 7 steps of two passes, twice in each stage.
    assert [len(rank) for rank in steps] == [28 * STAGES[strategy]] * 2
    assert {str(step["wrapped"]) for step in steps[0]} == {"FSDPBertForSequenceClassification"}
    weights = [load_file(tmp_path / name / "model/model.safetensors") for name in ("one", "two")]
    assert largest_difference(*weights) < 1e-5
    measured = json.loads((tmp_path / "two/metrics.json").read_text())
    assert measured["test"]["metrics"] == pytest.approx(one.metrics["test"]["metrics"], abs=1e-4)
    answer = pipeline("text-classification", str(tmp_path / "two/model"))("a lovely film")
    assert answer[0]["label"] in ("positive", "negative")


@pytest.mark.slow
def test_two_processes_that_are_killed_go_on_spread_and_one_process_goes_on_whole(
    typed: Typed, tmp_path: Path
) -> None:
    words = typed("strategy.epochs=6", "strategy.learning_rate=5e-4", "training.batch_size=16")
    words += ["checkpoint.dropout=0", "training.checkpoint_minutes=0"]
    two = [word for word in words if word != "training.cpu=true"]
    unbroken = run(compose(*two, "run_dir=unbroken"))
    script = tmp_path / "reporting.py"
    script.write_text(REPORTING, encoding="utf-8")
    environment = {**os.environ, "REPORT": f"{tmp_path}/rank-", "OMP_NUM_THREADS": "1"}
    for name, steps in (("spread", 18), ("whole", 36)):
        command = [*TWO, str(script), *two, SPREAD, f"run_dir={name}"]
        with subprocess.Popen(command, env=environment, start_new_session=True) as killed:
            report = tmp_path / "rank-1"
            while not report.exists() or len(report.read_text().splitlines()) < steps:
                assert killed.poll() is None
                time.sleep(0.02)
            os.killpg(killed.pid, signal.SIGKILL)
            for rank in steps_in(tmp_path):  # the launcher puts them into sessions of their own
                kill_and_wait(int(str(rank[-1]["pid"])))
        (tmp_path / "rank-0").rename(tmp_path / f"{name}-0")
        report.unlink()
        if name == "spread":
            again = launch([*two, SPREAD, f"run_dir={name}"], tmp_path)
            assert 0 < len(again[0]) < 42 - 10  # it did not begin anew
            report.unlink()
            (tmp_path / "rank-0").unlink()
    run(compose(*two, "run_dir=whole"))
    expected = load_file(unbroken.model / "model.safetensors")
    for name in ("spread", "whole"):
        weights = load_file(Path(name) / "model/model.safetensors")
        assert largest_difference(expected, weights) < 1e-5


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("training.compile=true",), "leave it out"),
        (("training.precision=fp16",), "use bf16 or fp32"),
        (("training.micro_batch_size=auto",), "name a number"),
        (("strategy.max_minutes=5",), "leave it out"),
        (("features.cache=on",), "leave it out"),
        (("strategy.adapt=mlm", "strategy=full"), "leave it out"),
        (("strategy.adapt=contrastive", "strategy=full"), "leave it out"),
    ],
)
def test_what_needs_the_whole_model_in_each_process_is_refused(
    words: tuple[str, ...], advice: str, typed: Typed
) -> None:
    key = words[0].removesuffix("=5")
    with pytest.raises(UserError, match=f"{key} needs.*training.parallel=fsdp.*{advice}"):
        compose(*typed(SPREAD, *words))


def test_accelerates_configuration_of_fsdp2_is_heard_and_others_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(FSDP, "true")  # as accelerate launch says it
    for more, words in (({}, "fsdp_version: 2"), ({"FSDP_OFFLOAD_PARAMS": "true"}, "Set it to f")):
        monkeypatch.setenv("FSDP_VERSION", "2" if more else "1")
        for name, value in more.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(UserError, match=words) as refused:
            as_launched(Config())
        assert refused.value.code is ExitCode.MACHINE
    monkeypatch.setenv("FSDP_OFFLOAD_PARAMS", "false")
    assert as_launched(Config()).training.parallel.value == "fsdp"
    assert FSDP not in os.environ
