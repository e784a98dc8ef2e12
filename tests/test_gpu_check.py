"""`scripts/gpu_check.py`: the program for a machine with a GPU does all it has to do on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts/gpu_check.py"


def checked(out: Path, minutes: int, timeout: int) -> subprocess.CompletedProcess[str]:
    """The script on tiny models, on the CPU."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--tiny", "--minutes", str(minutes), "--out", str(out)],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout
    return done


@pytest.mark.slow
def test_every_check_is_done_or_says_why_not_and_nothing_is_said_of_a_gpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu_check.json"
    done = checked(out, minutes=30, timeout=900)
    assert "(not seen on a GPU)" in done.stdout.splitlines()[0]
    report = json.loads(out.read_text(encoding="utf-8"))
    states = {entry["check"]: entry["state"] for entry in report["checks"]}
    without_gpu = {name for name, state in states.items() if state == "left out"}
    assert without_gpu == {"precision fp16", "speed fp16"}
    assert set(states.values()) == {"good", "left out"}
    figures = {entry["check"]: entry for entry in report["checks"]}
    assert figures["speed fp32"]["texts_per_second"] > 0
    assert figures["killed and continued"]["difference"] == 0
    assert figures["two processes"]["difference"] < 1e-5
    assert figures["two processes, fsdp"]["difference"] < 1e-5
    assert figures["micro_batch_size=auto"]["micro_batch_size"] == 2048
    assert figures["precision bf16"]["skipped_steps"] == 0


@pytest.mark.slow
def test_where_time_is_short_the_rest_is_left_out_and_said(tmp_path: Path) -> None:
    out = tmp_path / "gpu_check.json"
    checked(out, minutes=0, timeout=120)
    checks = json.loads(out.read_text(encoding="utf-8"))["checks"]
    assert {check["why"] for check in checks} == {"no time is left"}
