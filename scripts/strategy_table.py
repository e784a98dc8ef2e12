"""When to use which strategy: accuracy, seconds and parameters by how many rows there are.

    python scripts/strategy_table.py --data ../shared/data/sst2_sentence --out table.jsonl

Every cell is one run through this package's own rooms, without the export. What is measured is
appended to `--out` at once; a cell that stands there is not measured again, so the script can be
stopped, continued, and run in several processes on different `--strategies`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measured_run import measured_run

from nlp_transfer import compose

STRATEGIES = (
    "feature_extraction",
    "probe_then_full",
    "top_layers",
    "gradual_unfreezing",
    "lora",
    "two_phase",
    "full",
    "random",  # full, from random weights
)
Cell = tuple[str, int, int]  # strategy, rows of train (0: all), seed


def main() -> None:
    """Measure what is missing, then print the table."""
    arguments = parse()
    done = {cell_of(line): line for line in read(arguments.out)}
    for cell in cells(arguments):
        if cell not in done:
            done[cell] = measure(cell, arguments)
            with arguments.out.open("a", encoding="utf-8") as out:
                out.write(json.dumps(done[cell]) + "\n")
    print(table([done[cell] for cell in cells(arguments)]))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train.parquet …")
    parser.add_argument("--out", type=Path, required=True, help="where each cell is appended")
    parser.add_argument("--rows", default="16,128,1000,0", help="of train; 0: all")
    parser.add_argument("--seeds", default="1,2,3", help="the seed draws rows, order and new heads")
    parser.add_argument("--few", type=int, default=128, help="more rows are run with one seed only")
    parser.add_argument("--strategies", default=",".join(STRATEGIES))
    parser.add_argument("--no-test", action="store_true", help="validation only, to choose by")
    parser.add_argument("overrides", nargs="*", help="more of the command line: training.threads=1")
    return parser.parse_args()


def cells(arguments: argparse.Namespace) -> Iterator[Cell]:
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    for rows in (int(rows) for rows in arguments.rows.split(",")):
        for strategy in arguments.strategies.split(","):
            for seed in seeds if 0 < rows <= arguments.few else seeds[:1]:
                yield strategy, rows, seed


def cell_of(line: dict[str, Any]) -> Cell:
    return line["strategy"], line["rows"], line["seed"]


def read(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def typed(cell: Cell, arguments: argparse.Namespace) -> list[str]:
    """What a person would type."""
    strategy, rows, seed = cell
    words = ["+task=classify", "checkpoint=minilm", f"seed={seed}"]
    for split in ("train", "validation", "test"):
        file = arguments.data / f"{split}.parquet"
        if file.exists():
            words.append(f"dataset.{split}={file}")
    if strategy == "random":
        words += ["strategy=full", "checkpoint.pretrained=false"]
    else:
        words.append(f"strategy={strategy}")
    return [*words, *([f"dataset.limit={rows}"] if rows else []), *arguments.overrides]


def measure(cell: Cell, arguments: argparse.Namespace) -> dict[str, Any]:
    """One run; seconds are those of finding the weights, encoding included."""
    splits = ("validation",) if arguments.no_test else ("validation", "test")
    with tempfile.TemporaryDirectory() as folder:
        config = compose(*typed(cell, arguments), f"run_dir={folder}/run")
        return {
            **dict(zip(("strategy", "rows", "seed"), cell, strict=True)),
            **measured_run(config, splits),
        }


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: a row for each strategy, a column for each number of rows."""
    split = "test" if all("test" in line for line in lines) else "validation"
    sizes = list(dict.fromkeys(line["rows"] for line in lines))
    titles = [f"{size:,} rows" if size else "all rows" for size in sizes]
    out = [
        f"| {split} accuracy, seconds | " + " | ".join(titles) + " | parameters that learn |",
        "|---" * (len(sizes) + 2) + "|",
    ]
    for strategy in dict.fromkeys(line["strategy"] for line in lines):
        mine = [line for line in lines if line["strategy"] == strategy]
        by_size = [[line for line in mine if line["rows"] == size] for size in sizes]
        cells = " | ".join(show(part, split) for part in by_size)
        out.append(f"| `{strategy}` | {cells} | {mine[-1]['parameters']:,} |")
    return "\n".join(out)


def show(lines: list[dict[str, Any]], split: str) -> str:
    if not lines:
        return "–"
    values = [100 * line[split] for line in lines]
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    seconds = statistics.mean(line["seconds"] for line in lines)
    return f"{statistics.mean(values):.1f}{spread}, {seconds:.0f} s"


if __name__ == "__main__":
    main()
