"""What the shortcuts of training save: the last layer for its first token alone, and used rows.

    python scripts/shortcuts.py

Weights are random. Of each architecture, six layers of 384 and batches of 16 texts: the largest
difference of a logit and of a gradient, and the seconds of a step and of an answer, with and
without the shortcut in turn. Of XLM-R's shape, a process with and one without `only_used_rows`
take two AdamW steps: the most memory that each holds, and the seconds of the second step.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedModel

from nlp_transfer.models.shortcuts.embedding_rows import only_used_rows
from nlp_transfer.models.shortcuts.last_layer import shortened

TYPES = ("bert", "roberta", "xlm-roberta", "distilbert", "electra", "mpnet", "deberta-v2")
SHAPE = {
    "vocab_size": 5_000,
    "hidden_size": 384,
    "dim": 384,
    "num_hidden_layers": 6,
    "n_layers": 6,
    "num_attention_heads": 12,
    "n_heads": 12,
    "intermediate_size": 1_536,
    "hidden_dim": 1_536,
}
DEBERTA = {  # as microsoft/deberta-v3-small
    "relative_attention": True,
    "position_buckets": 256,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
    "type_vocab_size": 0,
}
ROUNDS = 9
XLM_R = {"vocab_size": 250_002, "max_position_embeddings": 514, "type_vocab_size": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", choices=["whole", "used"], help="one process of XLM-R's shape")
    options = parser.parse_args()
    if options.rows:
        print(json.dumps(two_steps(options.rows == "used")))
        return
    print(
        "| | logit | gradient | a step: ms | short | an answer: ms | short |\n" + "|---" * 7 + "|"
    )
    for kind in TYPES:
        print(last_layer(kind), flush=True)
    for rows in ("whole", "used"):
        command = [sys.executable, __file__, "--rows", rows]
        print(rows, subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def texts(vocabulary: int, count: int = 16, longest: int = 32) -> dict[str, torch.Tensor]:
    """Token ids of texts of different lengths; their labels are 0 and 1 in turn."""
    draw = np.random.default_rng(0)
    lengths = torch.from_numpy(draw.integers(longest // 4, longest + 1, count))
    mask = (torch.arange(longest) < lengths[:, None]).long()
    ids = torch.from_numpy(draw.integers(5, vocabulary, (count, longest))) * mask + (1 - mask)
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.arange(count) % 2}


def last_layer(kind: str) -> str:
    """A row of the table."""
    torch.manual_seed(0)
    more = DEBERTA if kind == "deberta-v2" else {}
    config = AutoConfig.for_model(kind, pad_token_id=1, **SHAPE, **more)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    batch = texts(SHAPE["vocab_size"])

    def step() -> dict[str, torch.Tensor]:
        model.zero_grad()
        model(**batch).loss.backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    def answer() -> torch.Tensor:
        with torch.inference_mode():
            return model(**batch).logits

    with shortened(model):
        short = step(), answer()
    whole = step(), answer()
    largest = max(float(gradient.abs().max()) for gradient in whole[0].values())
    differences = [float((short[0].get(n, 0 * g) - g).abs().max()) for n, g in whole[0].items()]
    cells = [
        kind,
        f"{float((short[1] - whole[1]).abs().max() / whole[1].abs().max()):.1e}",
        f"{max(differences) / largest:.1e}",
    ]
    for do in (step, answer):
        plain, shorter = in_turn(model, do)
        cells += [f"{1e3 * plain:.0f}", f"{1e3 * shorter:.0f} ({shorter / plain - 1:+.0%})"]
    return f"| {' | '.join(cells)} |"


def in_turn(model: PreTrainedModel, do: Callable[[], object]) -> tuple[float, float]:
    """Median seconds of CPU, without and with the shortcut."""
    taken: tuple[list[float], list[float]] = ([], [])
    for turn in range(2 * ROUNDS):
        with shortened(model) if turn % 2 else nullcontext():
            start = time.process_time()
            do()
            taken[turn % 2].append(time.process_time() - start)
    return statistics.median(taken[0]), statistics.median(taken[1])


def two_steps(used: bool) -> dict[str, float]:
    """Of a model of XLM-R's shape, which learns whole."""
    torch.manual_seed(0)
    config = AutoConfig.for_model("xlm-roberta", **XLM_R)
    model = AutoModelForSequenceClassification.from_config(config).train()
    batch = texts(config.vocab_size)
    with only_used_rows(model, batch["input_ids"].numpy() if used else None):
        parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.0)
        for _ in range(2):
            start = time.process_time()
            optimizer.zero_grad()
            model(**batch).loss.backward()
            optimizer.step()
            seconds = time.process_time() - start
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    return {"parameters": parameters, "MB at most": round(most), "s a step": round(seconds, 2)}


if __name__ == "__main__":
    main()
