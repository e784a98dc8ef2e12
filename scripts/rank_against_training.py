"""Which score of `nlp-transfer rank` orders checkpoints as training does?

    python scripts/rank_against_training.py [--rows N] [--test-rows N] OUT.jsonl TRAIN TEST …

For each pair of tables (columns text and label; text_b, where rows are pairs): the embedded
checkpoint, its lowest one to five layers, and the same architecture with random weights are ranked
on some rows of train, then each is trained on these rows (`probe_then_full`, 3 epochs, seed 42) and
answers the first rows of test. Prints Kendall's tau between each score and the accuracy on
test, and the seconds of both. Continues where it stopped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import kendalltau
from transformers import AutoModel, AutoTokenizer

from nlp_transfer import compose, run
from nlp_transfer.analysis.rank.rank import rank
from nlp_transfer.models.checkpoints.source import EMBEDDED, locate

SCORES = ("cross_validated", "logme", "h_score", "neighbours")


def make_candidates(folder: Path) -> list[str]:
    """`minilm`, and folders beside it."""
    source = locate(EMBEDDED).weights
    names = ["minilm"]
    for layers in (5, 4, 3, 2, 1, 0):
        name = f"layers-{layers}" if layers else "random"
        model = AutoModel.from_pretrained(source)
        if layers:
            model.encoder.layer = model.encoder.layer[:layers]
            model.config.num_hidden_layers = layers
        else:
            model = AutoModel.from_config(model.config)
        model.save_pretrained(folder / name)
        AutoTokenizer.from_pretrained(source).save_pretrained(folder / name)
        names.append(str(folder / name))
    return names


def measure(train: Path, test: Path, arguments: argparse.Namespace, folder: Path) -> None:
    """One line for the ranking, and one for each candidate that is trained."""
    out, done = arguments.out, read(arguments.out)
    rows = pd.read_parquet(test).head(arguments.test_rows)
    rows.to_parquet(folder / "test.parquet")
    common = [
        "+task=classify", f"dataset.train={train}", f"dataset.limit={arguments.rows}",
        "training.threads=1",
        f"features.folder={folder}/features", f"tokenization.folder={folder}/tokens",
    ]  # fmt: skip
    if "text_b" in rows.columns:
        common.append("dataset.text_pair=text_b")
    names, data = make_candidates(folder), train.name
    if (data, "rank") not in done:
        start, cpu = time.perf_counter(), time.process_time()
        ranking = rank(common, names)
        entry = {"data": data, "candidate": "rank", "seconds": time.perf_counter() - start}
        entry["cpu"] = time.process_time() - cpu
        entry["scores"] = {
            Path(each.name).name: {score: getattr(each.best, score) for score in SCORES}
            for each in ranking.candidates
        }
        write(out, entry)
    for name in names:
        short = Path(name).name
        if (data, short) in done:
            continue
        choice = "checkpoint=minilm" if name == "minilm" else f"checkpoint.name={name}"
        start, cpu = time.perf_counter(), time.process_time()
        config = compose(
            *common, choice, "strategy=probe_then_full", "strategy.epochs=3", "evaluation.folds=0",
            f"dataset.test={folder}/test.parquet", "export.fresh_process=false",
            f"run_dir={folder}/run-{data}-{short}", "training.progress=false",
        )  # fmt: skip
        accuracy = run(config).metrics["test"]["metrics"]["accuracy"]
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        write(out, {"data": data, "candidate": short, "accuracy": accuracy, "seconds": seconds,
                    "cpu": cpu})  # fmt: skip


def write(out: Path, entry: dict) -> None:
    with out.open("a") as file:
        file.write(json.dumps(entry) + "\n")
    print(entry, flush=True)


def read(out: Path) -> dict:
    lines = out.read_text().splitlines() if out.is_file() else []
    entries = [json.loads(line) for line in lines]
    return {(entry["data"], entry["candidate"]): entry for entry in entries}


def show(entries: dict) -> None:
    taus = {score: [] for score in SCORES}
    for data in dict.fromkeys(data for data, _ in entries):
        scores = entries[data, "rank"]["scores"]
        trained = {name: entries[data, name] for name in scores if (data, name) in entries}
        accuracies = [entry["accuracy"] for entry in trained.values()]
        print(f"\n{data}: rank {entries[data, 'rank']['cpu']:.0f} s of CPU, training all "
              f"{sum(entry['cpu'] for entry in trained.values()):.0f} s")  # fmt: skip
        for name, entry in trained.items():
            row = "  ".join(f"{scores[name][score]:8.3f}" for score in SCORES)
            print(f"  {name:10} {entry['accuracy']:.3f}  {row}")
        for score in SCORES:
            tau = kendalltau([scores[name][score] for name in trained], accuracies).statistic
            taus[score].append(tau)
            print(f"  tau {score:16} {tau:+.2f}")
    for score, values in taus.items():
        print(f"mean tau {score:16} {np.mean(values):+.2f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("tables", type=Path, nargs="+")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--test-rows", type=int, default=600)
    arguments = parser.parse_args()
    tables = [table.resolve() for table in arguments.tables]
    with tempfile.TemporaryDirectory() as folder:
        for train, test in zip(tables[::2], tables[1::2], strict=True):
            measure(train, test, arguments, Path(folder))
    show(read(arguments.out))


if __name__ == "__main__":
    main()
