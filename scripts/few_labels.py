"""Does cross-validation of the default command say what the model is worth on other rows?

python scripts/few_labels.py FILE … --rows 8 64 --seeds 1 2 3 --out runs.jsonl [--set KEY=VALUE …]
python scripts/few_labels.py --plot scatter.svg runs.jsonl

Of each labelled file (columns text, label, and text_b of pairs) so many rows a label are drawn, the
command is given these alone, and its model answers up to 1,000 of the other rows. A draw has as
many rows of each label, the other rows have not: what cross-validation estimates is the mean over
the labels of the share that is right (`balanced`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

OTHERS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rows", nargs="+", type=int, default=[8], help="a label")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--set", nargs="*", default=[], help="overrides of the default command")
    parser.add_argument("--out", type=Path, default=Path("few_labels.jsonl"))
    parser.add_argument("--plot", type=Path, help="draw runs that are there, and count coverage")
    options = parser.parse_args()
    if options.plot is not None:
        plot([json.loads(x) for f in options.files for x in f.open()], options.plot)
        return
    for file in options.files:
        for rows in options.rows:
            for seed in options.seeds:
                measured = measure(file, rows, seed, options.set)
                print(json.dumps(measured), flush=True)
                with options.out.open("a") as out:
                    out.write(json.dumps(measured) + "\n")


def measure(file: Path, rows: int, seed: int, overrides: list[str]) -> dict[str, Any]:
    """One draw: what the command says of its model, and what other rows say."""
    table = pd.read_parquet(file).drop_duplicates("text").sample(frac=1, random_state=seed)
    drawn = table.groupby("label", group_keys=False).head(rows)
    others = table.drop(drawn.index).head(OTHERS)
    pairs = "text_b" in table
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn.to_parquet(folder / "train.parquet", index=False)
        others.drop(columns="label").to_parquet(folder / "others.parquet", index=False)
        start = time.perf_counter()
        pair = ["dataset.text_pair=text_b"] if pairs else []
        words = ["+task=classify", "dataset.train=train.parquet", f"seed={seed}", "run_dir=run"]
        command(folder, "nlp_transfer.train", *words, *pair, *overrides)
        seconds = time.perf_counter() - start
        words = ["predict", "run", "--file", "others.parquet", "--text", "text"]
        pair = ["--text-pair", "text_b"] if pairs else []
        command(folder, "nlp_transfer.cli", *words, *pair, "--out", "answers.parquet")
        answers = pd.read_parquet(folder / "answers.parquet")["label"].astype(str).to_numpy()
        right = pd.Series(answers == others["label"].astype(str).to_numpy(), index=others.index)
        figures = json.loads((folder / "run" / "metrics.json").read_text())
        split = "cross_validation" if "cross_validation" in figures else "validation"
        return {
            "data": file.stem,
            "rows": len(drawn),
            "seed": seed,
            "set": overrides,
            "split": split,
            "said": figures[split]["metrics"]["accuracy"],
            "interval": figures[split]["intervals"].get("accuracy"),
            "others": float(right.mean()),
            "balanced": float(right.groupby(others["label"].astype(str)).mean().mean()),
            "seconds": round(seconds, 1),
        }


def command(folder: Path, *words: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, check=True, capture_output=True, env=environment
    )


def plot(runs: list[dict[str, Any]], file: Path) -> None:
    """Out-of-fold accuracy against that on other rows, and how many intervals hold it."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 6))
    for few, colour in ((True, "#c2571a"), (False, "#1f5fa8")):
        group = [run for run in runs if (run["rows"] < 100) is few and run["interval"]]
        if not group:
            continue
        held = [run["interval"][0] <= run["balanced"] <= run["interval"][1] for run in group]
        mean = sum(run["said"] - run["balanced"] for run in group) / len(group)
        name = "fewer than 100 rows" if few else "100 rows and more"
        print(f"{name}: {len(group)} runs, {sum(held)} intervals hold it, bias {mean:+.3f}")
        said = [run["said"] for run in group]
        low = [max(0.0, run["said"] - run["interval"][0]) for run in group]
        high = [max(0.0, run["interval"][1] - run["said"]) for run in group]
        others = [run["balanced"] for run in group]
        axes.errorbar(
            others, said, [low, high], fmt="o", ms=4, lw=0.7, color=colour, alpha=0.7, label=name
        )
    axes.plot([0, 1], [0, 1], color="#888888", lw=1)
    axes.set_xlabel("accuracy on other rows, mean over the labels")
    axes.set_ylabel("accuracy by cross-validation, 95% interval")
    axes.set_xlim(0.2, 1)
    axes.set_ylim(0, 1)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(file, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
