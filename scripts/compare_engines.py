"""Accuracy, size and time of models and engines on labelled rows, all by turns.

python scripts/compare_engines.py runs/sst2 runs/sst2-3 --file test.parquet

Each run needs ONNX and int8 (`nlp-transfer export RUN --onnx --int8`). Intervals are 95% bootstrap
intervals over the rows; `difference` is from the first model by torch, on the same draws. Times are
milliseconds a text at batches of 1 and 32, the best of several rounds on one thread.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd

from nlp_transfer.inference.classifier import Classifier

ENGINES = {"torch": "*.safetensors", "onnx": "onnx/model.onnx", "int8": "onnx/model_int8.onnx"}
DRAWS, TIMED, BATCHES = 2000, 256, (1, 32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--file", type=Path, required=True, help="Parquet with text and label")
    parser.add_argument("--rounds", type=int, default=8)
    options = parser.parse_args()
    table = pd.read_parquet(options.file)
    texts, labels = table["text"].tolist(), table["label"].to_numpy()
    models = {(run, e): Classifier.load(run, e, threads=1) for run in options.runs for e in ENGINES}
    times = _times(models, texts[:TIMED], options.rounds)
    draws = np.random.default_rng(0).integers(0, len(labels), (DRAWS, len(labels)))
    first = None
    for (run, engine), model in models.items():
        answers = [model.probabilities(texts[i : i + 32]) for i in range(0, len(texts), 32)]
        names = np.array(model.decoder.labels)[np.concatenate(answers).argmax(axis=1)]
        right = (names == labels).astype(float)
        first = right if first is None else first
        size = sum(f.stat().st_size for f in (run / "model").glob(ENGINES[engine])) / 1e6
        ms = " ".join(f"{times[run, engine, batch]:6.2f}" for batch in BATCHES)
        print(
            f"{run.name:16} {engine:6} accuracy {_interval(right, draws)} difference "
            f"{_interval(right - first, draws)} {size:6.1f} MB {ms} ms at 1 and 32",
            flush=True,
        )


def _times(
    models: dict[tuple[Path, str], Classifier], texts: list[str], rounds: int
) -> dict[tuple[Path, str, int], float]:
    best: dict[tuple[Path, str, int], float] = {}
    for _ in range(rounds):
        for (run, engine), model in models.items():
            for batch in BATCHES:
                some = texts[: 64 * batch]
                begin = time.perf_counter()
                for i in range(0, len(some), batch):
                    model.probabilities(some[i : i + batch])
                ms = 1000 * (time.perf_counter() - begin) / len(some)
                key = (run, engine, batch)
                best[key] = min(ms, best.get(key, np.inf))
    return best


def _interval(values: np.ndarray, draws: np.ndarray) -> str:
    low, high = np.quantile(values[draws].mean(axis=1), (0.025, 0.975))
    return f"{values.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


if __name__ == "__main__":
    main()
