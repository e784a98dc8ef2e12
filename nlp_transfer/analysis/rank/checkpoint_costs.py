"""What a checkpoint costs: its size, its speed on this machine, its longest input, its licence."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
import yaml
from huggingface_hub import try_to_load_from_cache

from nlp_transfer.models.frozen_prefix import on_device
from nlp_transfer.models.loading import Pretrained, evaluating
from nlp_transfer.tokenization.encoded import Collator
from nlp_transfer.tokenization.model_inputs import Inputs

BATCH = 32
ALONE = 8  # texts that are timed one by one
CARD = "README.md"


@dataclass(frozen=True)
class Costs:
    """Measured with the texts of train, on this machine, forward passes only."""

    parameters: int
    megabytes: float  # of the weights in float32
    ms_alone: float  # a text at batch 1
    ms_in_batch: float  # a text at batch 32
    longest_input: int  # tokens
    licence: str | None  # as the checkpoint's own card says; None: it says none, or is not here


def costs_of(pretrained: Pretrained, inputs: Inputs, collator: Collator) -> Costs:
    """Time a few forward passes; count and read the rest."""
    model = pretrained.model
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rows = np.random.default_rng(0).permutation(len(inputs))[:BATCH]
    alone = [[row] for row in rows[:ALONE]]
    with evaluating(model):
        _seconds(pretrained, inputs, collator, rows[:1])  # the first pass sets things up
        by_one = median(_seconds(pretrained, inputs, collator, np.array(row)) for row in alone)
        together = min(_seconds(pretrained, inputs, collator, rows) for _ in range(2))
    return Costs(
        parameters,
        parameters * 4 / 1e6,
        1000 * by_one,
        1000 * together / len(rows),
        pretrained.max_tokens,
        licence_of(str(getattr(model.config, "_name_or_path", ""))),
    )


def licence_of(source: str) -> str | None:
    """`license` in the metadata of the checkpoint's README; nothing is downloaded."""
    card: str | Path | object = Path(source) / CARD
    if not Path(source).is_dir():
        card = try_to_load_from_cache(source, CARD) if source.count("/") == 1 else None
    if not isinstance(card, str | Path) or not Path(card).is_file():
        return None
    text = Path(card).read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---"):
        return None
    try:
        metadata = yaml.safe_load(text.split("---", 2)[1])
    except yaml.YAMLError:
        return None
    licence = metadata.get("license") if isinstance(metadata, dict) else None
    return None if licence is None else str(licence)


def _seconds(pretrained: Pretrained, inputs: Inputs, collator: Collator, rows: np.ndarray) -> float:
    model = pretrained.model
    batch = on_device(collator.pad(inputs, rows), model)
    start = time.perf_counter()
    model(**batch)
    if model.device.type != "cpu":
        torch.accelerator.synchronize()
    return time.perf_counter() - start
