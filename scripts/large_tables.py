"""Rows against seconds and memory: every step that a run takes with a table, but its training.

    python scripts/large_tables.py --rows 100000 1000000

Texts are short and made up, the model is tiny. Each size is a process of its own. Memory is what
the process holds at most in a step, Python and libraries included: all of it, and without the files
that it reads, which the system can drop (looked at every 20 ms).
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from gpu_texts import shape_of_bert

PART = 100_000  # rows that are made and written at once
WORDS = 20_000  # made up
OPTIONAL = ("data report", "predict")  # steps that no other needs
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main() -> None:
    options = parse()
    if options.one:
        print(json.dumps(measure(Path(options.one), options.rows[0], options.without)))
        return
    lines = []
    for rows in options.rows:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            command = [sys.executable, __file__, "--one", folder, "--rows", str(rows)]
            command += ["--without", *options.without]
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        figures = json.loads(done.stdout.strip().splitlines()[-1])
        lines += [
            f"| {rows:,} | {name} | {s:.1f} | {mb:,.0f} | {own:,.0f} |"
            for name, (s, mb, own) in figures.items()
        ]
        print(lines[-len(figures) :], file=sys.stderr, flush=True)
    head = ["| rows | step | seconds | MB at most | without files |", "|---|---|---|---|---|"]
    print("\n".join([*head, *lines]))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--folder", help="for the tables; the system's own for such")
    parser.add_argument("--without", nargs="*", default=[], choices=OPTIONAL, help="steps")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def status(name: str) -> float:
    """Megabytes of this process, by the kernel's name for them."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


class Watch(threading.Thread):
    """Looks at the memory without files again and again; its most since `begin`."""

    most = 0.0

    def run(self) -> None:
        while True:
            self.most = max(self.most, status("RssAnon"))
            time.sleep(0.02)


def measure(
    folder: Path, rows: int, without: Sequence[str]
) -> dict[str, tuple[float, float, float]]:
    """Seconds and MB of each step."""
    from nlp_transfer.config.sections.checkpoint import CheckpointConfig
    from nlp_transfer.config.sections.dataset import DatasetConfig
    from nlp_transfer.config.sections.evaluation import EvaluationConfig
    from nlp_transfer.config.sections.tokenization import TokenizationConfig
    from nlp_transfer.config.sections.training import TrainingConfig
    from nlp_transfer.data.corpus import load_corpus
    from nlp_transfer.evaluation.evaluator import evaluate_splits
    from nlp_transfer.evaluation.metric_set import load_metrics
    from nlp_transfer.models.loading import load_tokenizer
    from nlp_transfer.quality import report
    from nlp_transfer.tokenization.encoding import encode
    from nlp_transfer.training.optimization.batching import PlannedBatches
    from nlp_transfer.utils.distributed import join

    figures: dict[str, tuple[float, float, float]] = {}
    watch = Watch(daemon=True)
    watch.start()

    def step(name: str, work: Callable[[], Any]) -> Any:
        CLEAR.write_text("5")
        watch.most, start = 0.0, time.process_time()
        value = work()
        seconds = round(time.process_time() - start, 2)
        figures[name] = seconds, status("VmHWM"), max(watch.most, status("RssAnon"))
        print(name, figures[name], file=sys.stderr, flush=True)
        return value

    shape_of_bert(folder / "tiny", hidden_size=32, layers=1, intermediate_size=64)
    step("write the table", lambda: write(folder / "texts.parquet", rows))
    config = DatasetConfig(train=str(folder / "texts.parquet"), text="text", label="label")
    corpus = step("read, label contract, splits", lambda: load_corpus(config, 0))
    tokenizer, longest = load_tokenizer(CheckpointConfig(str(folder / "tiny")))
    settings = TokenizationConfig(folder=str(folder / "tokens"))
    if "data report" not in without:
        step("data report", lambda: report.make(corpus, tokenizer, longest, settings))
    process = join(TrainingConfig())
    encoded = step("tokens", lambda: encode(corpus, tokenizer, longest, settings, process))
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
    if "predict" not in without:
        step("predict", lambda: predict(folder, rows))
    return figures


def predict(folder: Path, rows: int) -> None:
    """Answers of a tiny classifier to a file."""
    from transformers import AutoModelForSequenceClassification

    from nlp_transfer.data.formats.registry import ReadOptions
    from nlp_transfer.inference.classifier import Classifier
    from nlp_transfer.inference.shards import Worker
    from nlp_transfer.inference.table_prediction import PredictionRequest, predict_file

    model = AutoModelForSequenceClassification.from_pretrained(folder / "tiny", num_labels=2)
    model.save_pretrained(folder / "tiny")
    classifier = Classifier.load(folder / "tiny", "torch", 1)
    request = PredictionRequest(
        folder / "texts.parquet",
        "parquet",
        folder / "answers.parquet",
        "parquet",
        "text",
        prefix="model_",
        options=ReadOptions(columns=("text",), keys="--"),
    )
    summary = predict_file(classifier, request, {}, Worker(0, 1))
    assert summary.rows == rows


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
