"""Estimates of eight runs against what they then took: processor's seconds, minutes, peak memory.

    python scripts/estimates_against_runs.py FOLDER SST2_TRAIN TREC_FEW TREC_FULL EMOTION

Each is estimated and trained in a process of its own, one after the other, in `FOLDER`, where the
estimates and runs of the earlier ones stay: the later estimates are corrected by them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from nlp_transfer.cli.train import KERNEL_CACHES, KERNELS_KEPT

ONE = """
import json, sys, time
from nlp_transfer import compose, run
from nlp_transfer.analysis.estimate.estimate import estimate
from nlp_transfer.utils.memory import peak_bytes
words, name = sys.argv[2:], sys.argv[1]
if name == "estimate":
    start, busy = time.perf_counter(), time.process_time()
    asked = [w.split("=")[1] for w in words if w.startswith("strategy=")] or ["auto"]
    estimates = estimate(words, only=asked)
    [row] = estimates.rows
    print(json.dumps({"seconds": row.seconds, "processor": row.processor, "host": row.host,
        "factor": estimates.correction.factor, "took": time.process_time() - busy}))
else:
    result = run(compose(*words))
    about = json.loads((result.folder / "run.json").read_text())
    print(json.dumps({"seconds": about["seconds"], "processor": about["processor_seconds"],
        "host": about["peak_memory"]["host"], "recipe": about["recipe"]}))
"""


def main() -> None:
    folder, sst2, few, trec, emotion = Path(sys.argv[1]), *sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    common = ["+task=classify", "training.threads=1", "export.fresh_process=false"]
    held = "evaluation.folds=0"
    settings = [
        [f"dataset.train={few}"],
        [f"dataset.train={emotion}", "strategy=feature_extraction"],
        [f"dataset.train={sst2}", "dataset.limit=400", "strategy=full", "strategy.epochs=1", held],
        [f"dataset.train={sst2}", "dataset.limit=600", "strategy=top_layers", held],
        [f"dataset.train={sst2}", "dataset.limit=400", "strategy=lora", "strategy.epochs=1", held],
        [f"dataset.train={trec}", "dataset.limit=500", "strategy=probe_then_full",
         "strategy.epochs=1", held],
        [f"dataset.train={trec}", "dataset.limit=600", "strategy=two_phase", "strategy.epochs=1",
         held],
        [f"dataset.train={sst2}", "dataset.limit=3000", "strategy=feature_extraction"],
    ]  # fmt: skip
    for words in settings:
        before, after = (ask(step, [*common, *words], folder) for step in ("estimate", "run"))
        shown = " ".join(w for w in words if not w.startswith("dataset.train"))
        print(
            f"{Path(words[0]).name} {shown}: processor {before['processor']:.1f} s estimated, "
            f"{after['processor']:.1f} seen ({after['processor'] / before['processor']:.2f}); "
            f"minutes {before['seconds'][1] / 60:.1f} ({before['seconds'][0] / 60:.1f} to "
            f"{before['seconds'][2] / 60:.1f}) estimated, {after['seconds'] / 60:.1f} seen; memory "
            f"{before['host'] / 1e6:.0f} MB estimated, {after['host'] / 1e6:.0f} seen; corrected "
            f"by {before['factor']:.2f}; estimating took {before['took']:.0f} s of CPU",
            flush=True,
        )


def ask(step: str, words: list[str], folder: Path) -> dict:
    command = [sys.executable, "-c", ONE, step, *words]
    environment = {**dict.fromkeys(KERNEL_CACHES, KERNELS_KEPT), **os.environ}  # as the command
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
