"""Texts and a checkpoint for `gpu_check.py`: SST-2's lengths and BERT's shape, of nothing else."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from nlp_transfer.config.sections.checkpoint import CheckpointConfig
from nlp_transfer.models.checkpoints.source import EMBEDDED
from nlp_transfer.models.loading import load_tokenizer

# Of the tokens of SST-2's 67,349 texts, special ones included: 41 quantiles, 0 to 1.
LENGTHS = [3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6, 6, 7, 7, 8, 8, 8, 9, 9, 10, 10, 11, 11, 12, 13, 13]
LENGTHS += [14, 15, 16, 17, 18, 19, 20, 22, 23, 25, 27, 30, 33, 39, 66]
SPECIAL = 2  # of these
GOOD = ["great", "lovely", "warm", "clever", "bright", "strong", "sweet", "rich"]
BAD = ["bad", "cold", "stupid", "dull", "weak", "slow", "bitter", "poor"]
OTHER = ["the", "film", "story", "with", "and", "people", "time", "music", "place", "new", "day"]
WRONG = 0.05  # of the labels


def write_texts(home: Path, name: str, rows: int) -> None:
    """Three files, `<name>-<split>.csv`; validation and test have 2,000 rows at most."""
    held_out = min(rows, 2_000)
    for seed, (split, count) in enumerate(
        {"train": rows, "validation": held_out, "test": held_out}.items()
    ):
        draw = random.Random(seed)
        with (home / f"{name}-{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            writer.writerows(_row(draw) for _ in range(count))


def _row(draw: random.Random) -> tuple[str, str]:
    length = round(
        float(np.interp(draw.random() * (len(LENGTHS) - 1), range(len(LENGTHS)), LENGTHS))
    )
    good = draw.random() < 0.5
    words = [draw.choice(OTHER) for _ in range(length - SPECIAL - 1)]
    words.insert(draw.randint(0, len(words)), draw.choice(GOOD if good else BAD))
    label = good ^ (draw.random() < WRONG)
    return " ".join(words), "positive" if label else "negative"


def shape_of_bert(
    folder: Path, hidden_size: int = 768, layers: int = 12, intermediate_size: int = 3072
) -> None:
    """A checkpoint with random weights and MiniLM's tokenizer; without arguments BERT-base's."""
    tokenizer, _ = load_tokenizer(CheckpointConfig(EMBEDDED))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=max(hidden_size // 64, 1),
        intermediate_size=intermediate_size,
    )
    BertForSequenceClassification(config).bert.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
