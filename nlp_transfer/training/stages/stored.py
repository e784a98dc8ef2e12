"""Keeps what a stage has learned from texts alone, by content: a sweep trains it once.

Such a stage is a function of the encoder, the texts and a few options. Its result lies beside the
stored features (`features.folder`, `features.keep_gb`), and other runs find it there.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from nlp_transfer.config.choices import Cache
from nlp_transfer.tokenization.model_inputs import Inputs
from nlp_transfer.training.stages.history import StageHistory, history_of
from nlp_transfer.utils.cache import find_or_make, forget_the_oldest
from nlp_transfer.utils.distributed import broadcast_from_rank_zero, wait
from nlp_transfer.utils.files import read_json, write_json
from nlp_transfer.utils.logging import logger

if TYPE_CHECKING:
    from nlp_transfer.training.stages.stage_run import StageRun

WEIGHTS, HISTORY = "learned.safetensors", "history.json"
# Of `training`: what else than the stage itself decides which steps are taken.
READ = ("batch_size", "micro_batch_size", "schedule", "warmup", "weight_decay", "max_grad_norm")

# Keys of a classifier's configuration that do not describe its encoder.
OF_LABELS = ("id2label", "label2id", "problem_type", "num_labels", "_name_or_path")


def load_or_run(run_stage: Callable[[StageRun], StageHistory], run: StageRun) -> StageHistory:
    """Give the model what an earlier run has learned in the same stage, or run it."""
    features = run.config.features
    if not run.loss.adapts or run.earlier or features.cache is Cache.off:
        return run_stage(run)
    start = time.perf_counter()
    folder = Path(features.folder) / broadcast_from_rank_zero(lambda: _key(run), run.process)
    if broadcast_from_rank_zero(folder.is_dir, run.process):
        history = _load(run, folder)
        logger.info("stage %s: found in %s", run.stage.name, folder)
        return replace(history, seconds=time.perf_counter() - start)
    history = run_stage(run)
    find_or_make(
        folder, lambda part: _write(run, history, part), lambda _: None, run.process, lambda: None
    )
    if run.process.is_first_of_node:
        forget_the_oldest(Path(features.folder), features.keep_gb)
    return history


def _learned(run: StageRun) -> dict[str, torch.nn.Parameter]:
    model, structure = run.pretrained.model, run.pretrained.structure
    parameters = model.named_parameters()
    return {name: p for name, p in parameters if run.stage.learns(structure, name)}


def _write(run: StageRun, history: StageHistory, folder: Path) -> None:
    tensors = {name: p.detach().cpu().contiguous() for name, p in _learned(run).items()}
    save_file(tensors, folder / WEIGHTS)
    write_json(folder / HISTORY, asdict(history))


def _load(run: StageRun, folder: Path) -> StageHistory:
    learned, stored = _learned(run), load_file(folder / WEIGHTS)
    with torch.no_grad():
        for name, weight in stored.items():
            learned[name].copy_(weight)
    wait(run.process)
    return history_of(read_json(folder / HISTORY))


def _key(run: StageRun) -> str:
    """The content that the result is a function of."""
    arguments, training = run.arguments, run.config.training
    encoder = run.pretrained.model.config.to_dict()
    about = {
        "stage": {name: str(value) for name, value in asdict(run.stage).items()},
        "training": {name: str(getattr(training, name)) for name in READ},
        "seeds": (arguments.seed, run.config.seed),
        "precision": (arguments.bf16, arguments.fp16),
        "processes": run.process.world_size,
        "alone": run.encoded.unlabeled_alone,
        "model": type(run.pretrained.model).__name__,
        "config": {k: v for k, v in encoder.items() if k not in OF_LABELS},
        "checkpoint": run.config.checkpoint.name,  # whose head is read
        "vocabulary": len(run.pretrained.tokenizer),
    }
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    structure = run.pretrained.structure
    for name, tensor in run.pretrained.model.state_dict().items():
        if structure.depth(name) <= structure.layers:
            digest.update(tensor.detach().cpu().contiguous().numpy())
    train, texts = run.encoded.splits["train"], run.encoded.unlabeled
    for split in (None if run.encoded.unlabeled_alone else train, texts):
        _add(digest, None if split is None else split.inputs)
    return digest.hexdigest()[:24]


def _add(digest: hashlib._Hash, inputs: Inputs | None) -> None:
    if inputs is None:
        digest.update(b"none")
        return
    for name in sorted(inputs.flat):
        digest.update(np.ascontiguousarray(inputs.flat[name]).data)
    digest.update(np.ascontiguousarray(inputs.offsets).data)
