"""Makes a checkpoint with fewer layers of a classifier, as the start of a student."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.mean_pooling import PARTS
from nlp_transfer.models.structure import find_structure, keep_layers
from nlp_transfer.utils.files import disk_errors
from nlp_transfer.utils.logging import quiet


def even_layers(layers: int, count: int) -> list[int]:
    """Which of so many layers are kept, from 0: the first, the last, and evenly between them.

    >>> even_layers(6, 3)
    [0, 2, 5]
    """
    if count == 1:
        return [layers - 1]
    return [int(i) for i in np.linspace(0, layers - 1, count).round()]


def has_mean_layer(model: PreTrainedModel) -> bool:
    """Whether the top layer only averages (see `mean_pooling`): its queries are all zero."""
    parts = PARTS.get(model.config.model_type)
    if parts is None:
        return False
    layer = model.get_submodule(find_structure(model).layer_prefixes[-1])
    return not layer.get_submodule(parts.queries_and_keys[0]).weight.any()


def encoder_layers(folder: Path) -> tuple[int, bool]:
    """How many layers a classifier has beside one that averages, and whether there is one."""
    model = _load(folder)
    mean = has_mean_layer(model)
    return find_structure(model).layers - mean, mean


def write_student(folder: Path, count: int, into: Path) -> None:
    """Write a copy of a classifier with so many of its layers; `into` is there when it is whole.

    A layer that averages is left out: training adds it again.

    Raises:
        UserError: it has no more layers than that, or its layers cannot be taken out.
    """
    model = _load(folder)
    structure, mean = find_structure(model), has_mean_layer(model)
    layers = structure.layers - mean
    if layers == 1:
        raise UserError(ExitCode.CONFIG, f"{folder} has one layer, which a student needs, too.")
    if not 0 < count < layers:
        raise UserError(
            ExitCode.CONFIG,
            f"--layers {count} must be from 1 to {layers - 1}: the teacher has {layers} layers.",
        )
    keep_layers(model, even_layers(layers, count))
    into.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{into.name}.part-", dir=into.parent))
    try:
        with disk_errors(partial):
            model.save_pretrained(partial)
            AutoTokenizer.from_pretrained(folder).save_pretrained(partial)
        partial.rename(into)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _load(folder: Path) -> PreTrainedModel:
    with quiet():
        return AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True)
