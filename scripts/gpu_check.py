"""What a machine with a GPU does with this package, in eight minutes: one JSON file, one table.

    python scripts/gpu_check.py [--out gpu_check.json] [--minutes 8]

Precisions, equality of one and two processes, a kill, micro_batch_size=auto, torch.compile, memory,
host synchronisation, and the speed of BERT-base's shape over as many rows as SST-2 has, of the
same lengths. It needs no network and no data. `--tiny` shrinks everything, for a CPU; the table
then says that nothing was seen on a GPU. The exit code is 1 where a check fails.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gpu_texts import shape_of_bert, write_texts
from safetensors.torch import load_file
from transformers import TrainerCallback

from nlp_transfer import compose, run
from nlp_transfer.errors import UserError
from nlp_transfer.models.checkpoints.source import EMBEDDED

NOT_SEEN = "not seen on a GPU"
PRECISIONS = ("fp32", "bf16", "fp16")
TOLERANCE = 0.02  # of accuracy, between precisions: two standard errors of 2,000 rows
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
DIES = """
import os, signal
from transformers import Trainer
step = Trainer.training_step
def dying_step(self, *arguments):
    if self.state.global_step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *arguments)
Trainer.training_step = dying_step
from nlp_transfer.cli.train import main
main()
"""


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    checkpoint: str  # of the checks of correctness
    rows: int  # of these
    bert: dict[str, int]  # the shape whose speed is measured
    sst2: int  # rows of train, as many as SST-2 has
    batch: int
    matrix: int


LARGE = Sizes(EMBEDDED, 4_000, {}, 67_349, 32, 8192)
TINY = Sizes("tiny", 96, {"hidden_size": 32, "layers": 2, "intermediate_size": 64}, 200, 16, 128)


@dataclass
class Bench:
    """One program: its sizes, files, time, and what it has found."""

    sizes: Sizes
    home: Path
    ends: float
    results: list[dict[str, Any]] = field(default_factory=list)
    accuracy: float = float("nan")  # in float32

    @property
    def on_gpu(self) -> bool:
        return torch.cuda.is_available()

    def check(self, name: str, work: Callable[[], dict[str, Any]], seconds: float) -> None:
        """Do it, if there are so many seconds left; what falls is written down."""
        start, entry = time.monotonic(), {"check": name}
        if start + seconds > self.ends:
            entry |= {"state": "left out", "why": "no time is left"}
        else:
            try:
                entry |= {"state": "good", **work()}
            except (UserError, RuntimeError, AssertionError, OSError, ValueError) as error:
                lines = str(error).strip().splitlines() or [repr(error)]
                entry |= {"state": "failed", "why": f"{type(error).__name__}: {lines[-1][:300]}"}
        entry["seconds"] = round(time.monotonic() - start, 1)
        self.results.append(entry)
        print(f"{entry['state']:<9} {entry['seconds']:>6} s  {name}", file=sys.stderr, flush=True)

    def words(self, data: str, name: str, *more: str) -> list[str]:
        """The command line of a run; of a key that is in `more`, too, the value there."""
        files = [f"dataset.{s}={self.home / data}-{s}.csv" for s in ("train", "validation", "test")]
        checkpoint = self.sizes.checkpoint if data == "checks" else "shape"
        if checkpoint in ("tiny", "shape"):
            checkpoint = str(self.home / "shape")
        common = ["+task=classify", f"checkpoint.name={checkpoint}", *files, "strategy=full"]
        common += ["strategy.min_steps=0", "evaluation.folds=0", "evaluation.calibrate=false"]
        common += [f"training.batch_size={self.sizes.batch}", "export.fresh_process=false"]
        common += [f"tokenization.folder={self.home}/tokens", "training.progress=false"]
        words = [*common, f"run_dir={self.home / name}", *more]
        return list({word.partition("=")[0]: word for word in words}.values())


def main() -> None:
    options = parse()
    sizes = TINY if options.tiny else LARGE
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(sizes, Path(folder), time.monotonic() + 60 * options.minutes)
        write_texts(bench.home, "checks", sizes.rows)
        write_texts(bench.home, "sst2", sizes.sst2)
        shape_of_bert(bench.home / "shape", **sizes.bert)
        report = {"machine": machine(), "matrix_tflops": rates(sizes.matrix)}
        checks(bench, report["matrix_tflops"])
    report["checks"] = bench.results
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(table(report))
    sys.exit(any(entry["state"] == "failed" for entry in bench.results))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--tiny", action="store_true", help="for a CPU: everything is small")
    return parser.parse_args()


def checks(bench: Bench, tflops: dict[str, float]) -> None:
    """What matters most comes first: later checks are left out where time is short."""
    for precision in PRECISIONS:
        bench.check(f"precision {precision}", lambda p=precision: trains(bench, p), 20)
    for precision in ("bf16", "fp16", "fp32"):
        name = f"speed {precision}"
        bench.check(name, lambda p=precision: speed(bench, p, tflops.get(p)), 60)
    bench.check("synchronisation", lambda: synchronisation(bench), 20)
    bench.check("killed and continued", lambda: killed(bench), 60)
    bench.check("two processes", lambda: two_processes(bench), 60)
    bench.check("two processes, fsdp", lambda: two_processes(bench, spread=True), 60)
    bench.check("micro_batch_size=auto", lambda: micro_batch(bench), 30)
    bench.check("gradient_checkpointing", lambda: recomputed(bench), 30)
    bench.check("compile", lambda: compiled(bench), 90)


def machine() -> dict[str, Any]:
    about: dict[str, Any] = {"torch": torch.__version__, "device": "CPU", "gpus": 0}
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        memory = round(gpu.total_memory / 1e9)
        about |= {"device": gpu.name, "gpus": torch.cuda.device_count(), "GB": memory}
    return about


def rates(size: int) -> dict[str, float]:
    """TFLOP/s of a square matrix product, by precision."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    out = {}
    for name, kind in kinds.items():
        one = torch.randn(size, size, device=device).to(kind)
        for repeat in (2, 10):  # the first ones warm up
            wait()
            start = time.perf_counter()
            for _ in range(repeat):
                one @ one
            wait()
            seconds = time.perf_counter() - start
        out[name] = round(10 * 2 * size**3 / seconds / 1e12, 3)
    return out


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Skipped(TrainerCallback):
    """Counts the steps that loss scaling has skipped."""

    def __init__(self) -> None:
        self.steps = 0

    def on_step_end(self, *_: Any, optimizer: Any = None, **__: Any) -> None:
        self.steps += bool(getattr(optimizer, "step_was_skipped", False))


def trains(bench: Bench, precision: str, *more: str) -> dict[str, Any]:
    """To the end in this precision, with the accuracy of float32."""
    if precision == "fp16" and not bench.on_gpu:
        return {"state": "left out", "why": "fp16 needs a GPU"}
    skipped = Skipped()
    name = "-".join([precision, *[word.split("=")[0] for word in more]])
    more = (f"training.precision={precision}", "strategy.epochs=3", *more)
    result = run(compose(*bench.words("checks", name, *more)), callbacks=[skipped])
    accuracy = result.metrics["test"]["metrics"]["accuracy"]
    if name == "fp32":
        bench.accuracy = accuracy
    gap = abs(accuracy - bench.accuracy)
    assert gap <= TOLERANCE or not bench.on_gpu, f"accuracy {accuracy}, {bench.accuracy} in fp32"
    entries = json.loads((result.folder / "run.json").read_text(encoding="utf-8"))
    decisions = entries.get("decisions", {})
    stage = entries["stages"][-1]
    return {
        "accuracy": accuracy,
        "skipped_steps": skipped.steps,
        "steps": stage["steps"],
        "micro_batch_size": decisions.get("micro_batch_size"),
        "peak_memory": entries["peak_memory"],
        "texts_per_second": round(stage["speed"]["texts_per_second"], 1),
    }


def speed(bench: Bench, precision: str, tflops: float | None) -> dict[str, Any]:
    """BERT-base's shape, three epochs (in float32 one) over rows of SST-2's lengths."""
    if precision == "fp16" and not bench.on_gpu:
        return {"state": "left out", "why": "fp16 needs a GPU"}
    epochs = 1 if precision == "fp32" else 3
    words = bench.words("sst2", f"speed-{precision}", f"strategy.epochs={epochs}")
    start = time.perf_counter()
    result = run(compose(*words, f"training.precision={precision}"))
    seconds = time.perf_counter() - start
    entries = json.loads((result.folder / "run.json").read_text(encoding="utf-8"))
    [stage] = entries["stages"]
    figures = stage["speed"]
    weights = load_file(result.model / "model.safetensors")
    dense = sum(t.numel() for n, t in weights.items() if "embeddings" not in n and t.ndim == 2)
    used = 6 * dense * figures["tokens_per_second"] / 1e12
    return {
        "epochs": epochs,
        "seconds_end_to_end": round(seconds, 1),
        "seconds_in_steps": round(epochs * bench.sizes.sst2 / figures["texts_per_second"], 1),
        "texts_per_second": round(figures["texts_per_second"], 1),
        "tokens_per_second": round(figures["tokens_per_second"]),
        "padding": round(figures["padding"], 4),
        "share_of_matrix_rate": round(used / tflops, 4) if tflops else None,
        "peak_memory": entries["peak_memory"],
    }


class Profile(TrainerCallback):
    """Profiles some steps of a training."""

    def __init__(self, first: int, steps: int) -> None:
        self.first, self.steps, self.table = first, steps, {}
        self._profile: Any = None

    def on_step_begin(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        if state.global_step == self.first:
            self._profile = torch.profiler.profile()
            self._profile.__enter__()

    def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        if self._profile is not None and state.global_step == self.first + self.steps:
            self._profile.__exit__(None, None, None)
            self.table = {event.key: event.count for event in self._profile.key_averages()}
            self._profile = None


def synchronisation(bench: Bench) -> dict[str, Any]:
    """How often a step waits for the device."""
    profile = Profile(3, 2 if bench.sizes is TINY else 20)
    words = bench.words("checks", "profile", "strategy.epochs=1", "training.precision=auto")
    run(compose(*words), callbacks=[profile])
    assert profile.table, "no step was profiled"
    waits = ("aten::_local_scalar_dense", "cudaStreamSynchronize", "cudaDeviceSynchronize")
    return {name: profile.table.get(name, 0) / profile.steps for name in waits}


def launch(command: list[str], cpu: bool = False) -> subprocess.CompletedProcess[str]:
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if cpu else {}
    environment = {**os.environ, **hidden, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=180, check=False
    )


def killed(bench: Bench) -> dict[str, Any]:
    """kill -9 in the middle, the same command again: the weights of a run that was not broken."""
    more = ("strategy.epochs=2", "training.checkpoint_minutes=0", "training.precision=fp32")
    script = bench.home / "dies.py"
    half = bench.sizes.rows // bench.sizes.batch + 1
    script.write_text(DIES.format(step=half), encoding="utf-8")
    words = bench.words("checks", "killed", *more)
    first = launch([sys.executable, str(script), *words])
    assert first.returncode == -signal.SIGKILL, f"{first.returncode}: {first.stderr[-200:]}"
    again = launch([sys.executable, "-m", "nlp_transfer.train", *words])
    assert "resumes from step" in again.stderr, again.stderr[-300:]
    whole = run(compose(*bench.words("checks", "unbroken", *more))).model
    return {"difference": gap(whole, bench.home / "killed/model")}


def two_processes(bench: Bench, spread: bool = False) -> dict[str, Any]:
    """The weights of one process; on two GPUs, or else on the CPU."""
    cpu = torch.cuda.device_count() < 2
    more = ["strategy.epochs=1", "checkpoint.dropout=0", "training.precision=fp32"]
    more += ["dataset.limit=320"] if cpu else []
    if cpu:
        more.append("training.cpu=true")
    name = "spread" if spread else "two"
    words = bench.words("checks", name, *more, *(["training.parallel=fsdp"] if spread else []))
    done = launch([*LAUNCHER, "2", "-m", "nlp_transfer.train", *words], cpu)
    assert done.returncode == 0, done.stderr[-300:]
    whole = run(compose(*bench.words("checks", "one", *more))).model
    return {
        "on": "the CPU" if cpu else "two GPUs",
        "difference": gap(whole, bench.home / name / "model"),
    }


def gap(one: Path, two: Path) -> float:
    """The largest difference of a weight; at most 1e-4."""
    weights = [load_file(folder / "model.safetensors") for folder in (one, two)]
    largest = max(float((weights[0][n] - weights[1][n]).abs().max()) for n in weights[0])
    assert largest <= 1e-4, f"weights differ by {largest:.2g}"
    return largest


def micro_batch(bench: Bench) -> dict[str, Any]:
    """As many rows as fit are found and used."""
    more = ("training.batch_size=2048", "training.micro_batch_size=auto")
    found = trains(bench, "bf16" if bench.on_gpu else "fp32", *more)
    assert found["micro_batch_size"], "auto was not decided"
    return found


def recomputed(bench: Bench) -> dict[str, Any]:
    precision = "bf16" if bench.on_gpu else "fp32"
    return trains(bench, precision, "training.gradient_checkpointing=true")


def compiled(bench: Bench) -> dict[str, Any]:
    return trains(bench, "bf16" if bench.on_gpu else "fp32", "training.compile=true")


def table(report: dict[str, Any]) -> str:
    """Markdown."""
    about = report["machine"]
    seen = "" if about["gpus"] else f" ({NOT_SEEN})"
    lines = [f"{about['device']}, torch {about['torch']}{seen}", ""]
    matrix = ", ".join(f"{name} {rate:g}" for name, rate in report["matrix_tflops"].items())
    lines += [f"Matrix products, TFLOP/s: {matrix}", "", "| check | | figures | s |"]
    lines.append("|---|---|---|---|")
    for entry in report["checks"]:
        figures = ", ".join(figures_of(entry))
        lines.append(f"| {entry['check']} | {entry['state']} | {figures} | {entry['seconds']} |")
    return "\n".join(lines)


def figures_of(entry: dict[str, Any]) -> Iterator[str]:
    for name, value in entry.items():
        if name in ("check", "state", "seconds") or value is None:
            continue
        if name == "peak_memory":
            value = {place: f"{size / 1e9:.2f} GB" for place, size in value.items() if size}
            yield from (f"{place} memory {size}" for place, size in value.items())
        else:
            text = f"{value:.3g}" if isinstance(value, float) and value < 1 else str(value)
            yield f"{name.replace('_', ' ')} {text}".removeprefix("why ")


if __name__ == "__main__":
    main()
