"""Rows against seconds and memory: every step that a run takes with a table, but its training.

    python scripts/large_tables.py --rows 100000 1000000

Texts are short and made up, the model is tiny. Each size is a process of its own; memory is what
the process holds at most in a step, Python and libraries included.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from gpu_texts import shape_of_bert

PART = 100_000  # rows that are made and written at once
WORDS = 20_000  # made up
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main() -> None:
    options = parse()
    if options.one:
        print(json.dumps(measure(Path(options.one), options.rows[0])))
        return
    lines = []
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            command = [sys.executable, __file__, "--one", folder, "--rows", str(rows)]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        figures = json.loads(done.stdout.strip().splitlines()[-1])
        lines += [
            f"| {rows:,} | {name} | {s:.1f} | {mb:,.0f} |" for name, (s, mb) in figures.items()
        ]
        print(lines[-len(figures) :], file=sys.stderr, flush=True)
    print("\n".join(["| rows | step | seconds | MB at most |", "|---|---|---|---|", *lines]))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--folder", help="for the tables; the system's own for such")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(folder: Path, rows: int) -> dict[str, tuple[float, float]]:
    """Seconds and MB of each step."""
    from nlp_transfer.config.sections.checkpoint import CheckpointConfig
    from nlp_transfer.config.sections.dataset import DatasetConfig
    from nlp_transfer.config.sections.evaluation import EvaluationConfig
    from nlp_transfer.config.sections.tokenization import TokenizationConfig
    from nlp_transfer.data.corpus import load_corpus
    from nlp_transfer.evaluation.evaluator import evaluate_splits
    from nlp_transfer.evaluation.metric_set import load_metrics
    from nlp_transfer.models.loading import load_tokenizer
    from nlp_transfer.quality import report
    from nlp_transfer.tokenization.encoding import encode
    from nlp_transfer.training.optimization.batching import PlannedBatches

    figures: dict[str, tuple[float, float]] = {}

    def step(name: str, work: Callable[[], Any]) -> Any:
        CLEAR.write_text("5")
        start = time.perf_counter()
        value = work()
        peak = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        figures[name] = round(time.perf_counter() - start, 2), int(peak.split()[1]) / 1024
        print(name, figures[name], file=sys.stderr, flush=True)
        return value

    shape_of_bert(folder / "tiny", hidden_size=32, layers=1, intermediate_size=64)
    step("write the table", lambda: write(folder / "texts.parquet", rows))
    config = DatasetConfig(train=str(folder / "texts.parquet"), text="text", label="label")
    corpus = step("read, label contract, splits", lambda: load_corpus(config, 0))
    tokenizer, longest = load_tokenizer(CheckpointConfig(str(folder / "tiny")))
    settings = TokenizationConfig(folder=str(folder / "tokens"))
    step("data report", lambda: report.make(corpus, tokenizer, longest, settings))
    encoded = step("tokens", lambda: encode(corpus, tokenizer, longest, settings))
    train = encoded.splits["train"]

    def plan() -> None:
        batches = PlannedBatches(train.inputs.lengths, 32, 0, documents=train.inputs.documents)
        batches.count(train.inputs.lengths)

    step("plan of an epoch", plan)
    metrics = load_metrics(EvaluationConfig(), corpus.labels, corpus.problem)
    logits = np.random.default_rng(0).normal(size=(len(train.labels), 2)).astype(np.float32)
    step(
        "figures of train, intervals",
        lambda: evaluate_splits({"train": logits}, corpus, metrics, ()),
    )
    return figures


def write(file: Path, rows: int) -> None:
    """Texts of 3 to 20 words; every hundredth repeats another one nearly."""
    draw = random.Random(0)
    words = [
        "".join(draw.choices("abcdefghijklmnoprstuvw", k=draw.randint(2, 8))) for _ in range(WORDS)
    ]
    schema = pa.schema({"text": pa.string(), "label": pa.string()})
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, rows, PART):
            count = min(PART, rows - start)
            texts = [" ".join(draw.choices(words, k=draw.randint(3, 20))) for _ in range(count)]
            texts[1::100] = [f"{text}!" for text in texts[::100]][: len(texts[1::100])]
            labels = [draw.choice(("bad", "good")) for _ in range(count)]
            writer.write_table(pa.table({"text": texts, "label": labels}, schema=schema))


if __name__ == "__main__":
    main()
