"""Does cross-validation of the default command say what the model is worth on other rows?

python scripts/few_labels.py FILE … --rows 48 --draws 10 --out runs.jsonl [--set KEY=VALUE …]
python scripts/few_labels.py --plot scatter.svg runs.jsonl

Each labelled file (columns text, label, and text_b of pairs) is shuffled once. Its first rows, up
to 1,000 of them, are the other rows that every model answers; the draws follow, so many rows each,
none twice, with the labels as they come. The default command is given a draw alone. Each draw has
a process of its own, which begins with the libraries loaded.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from nlp_transfer import Classifier, compose, run

OTHERS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rows", nargs="+", type=int, default=[48], help="of a draw")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--set", nargs="*", default=[], help="overrides of the default command")
    parser.add_argument("--out", type=Path, default=Path("few_labels.jsonl"))
    parser.add_argument("--plot", type=Path, help="draw runs that are there, and count coverage")
    options = parser.parse_args()
    if options.plot is not None:
        plot([json.loads(x) for f in options.files for x in f.open()], options.plot)
        return
    done = options.out.read_text().splitlines() if options.out.exists() else []
    known = {(run["data"], run["rows"], run["draw"]) for run in map(json.loads, done)}
    for draw in range(options.draws):
        for file in options.files:
            for rows in options.rows:
                if (file.stem, rows, draw) not in known:
                    line = in_child(measure, file, rows, draw, options.set)
                    print(line, flush=True)
                    with options.out.open("a") as out:
                        out.write(line + "\n")


def in_child(measure: Callable[..., str], *given: Any) -> str:
    """What the function answers in a process of its own; nothing of it stays in this one."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure, *given).result()


def measure(file: Path, rows: int, draw: int, overrides: list[str]) -> str:
    """One draw: what the command says of its model, and what other rows say, as a line of JSON."""
    table = pd.read_parquet(file).drop_duplicates("text").sample(frac=1, random_state=0)
    others = table.head(OTHERS)
    drawn = table[OTHERS + draw * rows :].head(rows)
    pair = ["dataset.text_pair=text_b"] if "text_b" in table else []
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        drawn.to_parquet(f"{folder}/train.parquet", index=False)
        words = ["+task=classify", f"dataset.train={folder}/train.parquet", f"run_dir={folder}/run"]
        words += [f"seed={draw}", "export.fresh_process=false", *pair, *overrides]
        result = run(compose(*words))
        seconds = time.process_time() - start
        second = others["text_b"].tolist() if pair else None
        predictions = Classifier.load(result.folder).predict(others["text"].tolist(), second)
        figures = json.loads(Path(f"{folder}/run/metrics.json").read_text())
        recipe = json.loads(Path(f"{folder}/run/run.json").read_text())["recipe"]
    right = pd.Series([p.label for p in predictions], index=others.index) == others["label"].astype(
        str
    )
    split = "cross_validation" if "cross_validation" in figures else "validation"
    return json.dumps(
        {
            "data": file.stem,
            "rows": len(drawn),
            "draw": draw,
            "set": overrides,
            "split": split,
            "recipe": recipe,
            "said": figures[split]["metrics"]["accuracy"],
            "interval": figures[split]["intervals"].get("accuracy"),
            "others": float(right.mean()),
            "seconds": round(seconds, 1),
        }
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
        held = [run["interval"][0] <= run["others"] <= run["interval"][1] for run in group]
        mean = sum(run["said"] - run["others"] for run in group) / len(group)
        name = "fewer than 100 rows" if few else "100 rows and more"
        print(f"{name}: {len(group)} runs, {sum(held)} intervals hold it, bias {mean:+.3f}")
        said = [run["said"] for run in group]
        low = [max(0.0, run["said"] - run["interval"][0]) for run in group]
        high = [max(0.0, run["interval"][1] - run["said"]) for run in group]
        others = [run["others"] for run in group]
        axes.errorbar(
            others, said, [low, high], fmt="o", ms=4, lw=0.7, color=colour, alpha=0.7, label=name
        )
    axes.plot([0, 1], [0, 1], color="#888888", lw=1)
    axes.set_xlabel("accuracy on other rows")
    axes.set_ylabel("accuracy by cross-validation, 95% interval")
    axes.set_xlim(0.2, 1)
    axes.set_ylim(0, 1)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(file, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
