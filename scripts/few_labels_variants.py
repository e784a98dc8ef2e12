"""What an option is worth with few labels: accuracy on other rows, with it and without.

python scripts/few_labels_variants.py FILE … --rows 8 --seeds 1 2 3 --out FILE.jsonl \\
    --variant plain --variant typos training.augment.typos=0.1

Of each labelled file (columns text, label, and text_b of pairs) so many rows a label are drawn. The
strategy learns from these alone and answers up to 1,000 of the other rows, as it does in a fold of
cross-validation: no choice is made on them. The rest of the file, without its labels, is the file
that `{unlabeled}` in an override stands for. Every variant has the same rows.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nlp_transfer import compose
from nlp_transfer.models.strategies.auto_strategy import candidates
from nlp_transfer.pipeline import prepare
from nlp_transfer.run_setup import set_up
from nlp_transfer.runs.folder import open_run
from nlp_transfer.training.cross_validation import answer_fold
from nlp_transfer.training.shared_stages import train_shared_stages

OTHERS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--rows", nargs="+", type=int, default=[8], help="a label")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--strategy", default="contrastive")
    parser.add_argument("--variant", nargs="+", action="append", help="a name, and overrides")
    parser.add_argument("--unlabeled", type=int, default=2000, help="rows without labels, at most")
    parser.add_argument("--others", type=int, default=OTHERS)
    parser.add_argument("--minutes", type=float, default=1e9, help="begin nothing after these")
    parser.add_argument("--cache", type=Path, default=Path("runs/variants"))
    parser.add_argument("--out", type=Path, default=Path("variants.jsonl"))
    parser.add_argument("--table", action="store_true", help="print what --out holds")
    options = parser.parse_args()
    if options.table:
        print(table(pd.read_json(options.out, lines=True)))
        return
    begun = time.monotonic()
    done = {tuple(row[k] for k in KEY) for row in _read(options.out)}
    for seed in options.seeds:
        for file in options.files:
            for rows in options.rows:
                for name, *overrides in options.variant:
                    if (file.stem, rows, seed, name) in done:
                        continue
                    if time.monotonic() - begun > 60 * options.minutes:
                        return
                    entry = measure(file, rows, seed, overrides, options)
                    entry |= {"data": file.stem, "rows": rows, "seed": seed, "variant": name}
                    print(json.dumps(entry), flush=True)
                    with options.out.open("a") as out:
                        out.write(json.dumps(entry) + "\n")


KEY = ("data", "rows", "seed", "variant")


def _read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def measure(
    file: Path, rows: int, seed: int, overrides: list[str], options: argparse.Namespace
) -> dict[str, Any]:
    """One variant on one draw."""
    whole = pd.read_parquet(file).drop_duplicates("text").sample(frac=1, random_state=seed)
    drawn = whole.groupby("label", group_keys=False).head(rows)
    rest = whole.drop(drawn.index)
    others, pool = rest.head(options.others), rest.iloc[options.others :].head(options.unlabeled)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pd.concat([drawn, others]).to_parquet(folder / "train.parquet", index=False)
        pool.drop(columns="label").to_parquet(folder / "unlabeled.parquet", index=False)
        words = ["+task=classify", f"dataset.train={folder / 'train.parquet'}", f"seed={seed}"]
        words += [f"strategy={options.strategy}", f"strategy.label_names={rows < 32}"]
        words += ["checkpoint.pooling=mean", "evaluation.folds=2"]
        words += [f"run_dir={folder / 'run'}", "training.progress=false"]
        words += [f"tokenization.folder={options.cache / 'tokens'}"]
        words += [f"features.folder={options.cache / 'features'}"]
        words += ["dataset.text_pair=text_b"] if "text_b" in whole else []
        words += [part.format(unlabeled=folder / "unlabeled.parquet") for part in overrides]
        return {**_answer(compose(*words), len(drawn)), "labelled": len(drawn), "pool": len(pool)}


def _answer(config: Any, labelled: int) -> dict[str, Any]:
    setup = set_up(config)
    with open_run(config, setup.corpus.fingerprint, setup.process) as run:
        context = prepare(setup, run).context
        [recipe] = candidates(config, setup.corpus, context.pretrained.model.config.model_type)
        held_out = np.arange(len(setup.corpus.splits["train"])) >= labelled
        start = time.perf_counter()
        train_shared_stages(context, recipe)
        logits = answer_fold(context, recipe, run, held_out.astype(int), 1, 1)
        seconds = time.perf_counter() - start
    references = setup.corpus.references("train")[held_out]
    value = setup.metrics.compute(logits, references)[setup.metrics.best]
    loss = float(setup.corpus.problem.row_losses(references, logits).mean())
    return {"value": value, "loss": loss, "seconds": round(seconds, 1)}


def table(measured: pd.DataFrame) -> str:
    """The mean over the seeds of every variant, and of its differences to the first."""
    lines = []
    names = list(dict.fromkeys(measured["variant"]))
    for (rows, data), part in measured.groupby(["rows", "data"]):
        values = part.pivot_table(index="seed", columns="variant", values="value")[
            [n for n in names if n in set(part["variant"])]
        ].dropna()
        cells = [f"{values.iloc[:, 0].mean():.3f}"]
        for name in values.columns[1:]:
            differences = values[name] - values.iloc[:, 0]
            error = differences.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
            cells.append(f"{differences.mean():+.3f} ± {error:.3f}")
        lines.append(f"| {rows} | {data} | {len(values)} | " + " | ".join(cells) + " |")
    return "\n".join(["| rows | data | seeds | " + " | ".join(names) + " |", *lines])


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
