"""Runs the frozen prefix once and lets the suffix train on what it stored.

Below a stage's boundary nothing learns and nothing drops out, so the hidden states there are the
same in every epoch. They are computed once, without padding, into memory-mapped files. While the
suffix trains, the frozen modules of the model itself step aside: nothing is copied, nothing has to
be put back together.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from nlp_transfer.batches import plan_inference
from nlp_transfer.config import Cache, FeaturesConfig
from nlp_transfer.machine import Machine, first_decides, logger, wait
from nlp_transfer.model import Anatomy, Pretrained
from nlp_transfer.strategy import Stage
from nlp_transfer.tokenization import Encoded, EncodedSplit, Inputs

# What a split must reproduce of the whole model's logits, in float32.
EXACT = 1e-4
STORED_SPLITS = ("train", "validation")  # test is run whole, once, at the end
STATES = "inputs_embeds"  # the name under which every encoder takes vectors for tokens
PART = ".part-"  # in the name of a store that is being written
TOKENS = 4096  # of one forward pass of the prefix, padding included
# Layers that return a tuple: how many entries follow the hidden states.
EXTRA_OUTPUTS = {"MPNetLayer": 0, "DebertaV2Layer": 1}


@dataclass(frozen=True)
class Prefix:
    """The frozen lower part of a classifier, and how much of its output is kept."""

    layers: int  # that are frozen, from the bottom; the embeddings always are
    first_token: bool  # nothing above the prefix looks at any other token
    dtype: np.dtype[Any]


class _Reached(Exception):  # noqa: N818 (a signal, not an error)
    """Carries the hidden states out of a forward pass that need not go on."""

    def __init__(self, states: torch.Tensor) -> None:
        super().__init__()
        self.states = states


class _Given(nn.Module):
    """In place of the embeddings: hands on what it is given."""

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, *_: Any, **__: Any) -> Any:
        """`inputs_embeds`, whatever it is called with."""
        return input_ids if inputs_embeds is None else inputs_embeds


class _Skipped(nn.Module):
    """In place of a frozen layer: hands on the hidden states in the shape the layer would."""

    def __init__(self, layer: nn.Module, extra: int | None) -> None:
        super().__init__()
        # Some encoders read attributes off their layers; in a tuple, its parameters are not ours.
        self._layer = (layer,)
        self._extra = extra

    def forward(self, hidden_states: torch.Tensor, *_: Any, **__: Any) -> Any:
        """The states as they came."""
        return hidden_states if self._extra is None else (hidden_states,) + (None,) * self._extra

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_layer"][0], name)


@contextmanager
def trained_on_features(
    pretrained: Pretrained,
    encoded: Encoded,
    stage: Stage,
    config: FeaturesConfig,
    machine: Machine,
) -> Iterator[Encoded]:
    """What a stage trains on: stored hidden states where that pays and is exact, else the tokens.

    Inside the context the model's frozen modules are aside, so it takes just what is yielded.
    """
    if stage.lowest == 0:  # nothing is frozen
        yield encoded
        return
    choice = first_decides(lambda: _choose(pretrained, encoded, stage, config), machine)
    if isinstance(choice, str):
        logger.info("stage %s runs whole: %s", stage.name, choice)
        yield encoded
        return
    folder = _store(pretrained, encoded, choice, Path(config.folder), machine)
    stored = {name: _open(folder, name, encoded.splits[name]) for name in STORED_SPLITS}
    with _set_aside(pretrained.model, pretrained.anatomy, choice):
        yield Encoded({**encoded.splits, **stored}, encoded.collator)
    if machine.is_first:
        _forget_the_oldest(Path(config.folder), config.keep_gb)


def _choose(
    pretrained: Pretrained, encoded: Encoded, stage: Stage, config: FeaturesConfig
) -> Prefix | str:
    """The prefix to store, or the reason to run the stage through the whole model."""
    if config.cache is Cache.off:
        return "features.cache=off"
    if config.cache is Cache.auto and stage.epochs <= 1:
        return "in one epoch its frozen part is computed once anyway"
    dtype = np.dtype(config.dtype.value)
    # With no layer above, a head that reads the first token needs only that one.
    firsts = (True, False) if stage.lowest > pretrained.anatomy.layers else (False,)
    prefixes = [Prefix(stage.lowest - 1, first, dtype) for first in firsts]
    differences = [_difference(pretrained, encoded, prefix) for prefix in prefixes]
    exact = [p for p, d in zip(prefixes, differences, strict=True) if d <= EXACT]
    if not exact:
        name = type(pretrained.model).__name__
        return f"{name} cannot be split exactly here ({min(differences):.1e})"
    try:
        Path(config.folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"features.folder={config.folder} cannot be written ({error.strerror})"
    size = stored_bytes(pretrained, encoded, exact[0])
    room = _room(Path(config.folder), config.max_gb)
    if size > room:
        return f"its features take {size / 1e9:.2f} GB, and there is room for {room / 1e9:.2f}"
    logger.info(
        "stage %s: the frozen part runs once instead of in each of %g epochs, %.0f MB are stored",
        stage.name,
        stage.epochs,
        size / 1e6,
    )
    return exact[0]


def _difference(pretrained: Pretrained, encoded: Encoded, prefix: Prefix) -> float:
    """How far the suffix's logits on the prefix's output are from the whole model's, on one batch.

    NaN or infinity where the architecture does not take what it is given.
    """
    model, split = pretrained.model, encoded.splits["train"]
    lengths = split.inputs.lengths
    rows = np.unique([lengths.argmin(), lengths.argmax(), *range(min(4, len(lengths)))])
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            batch = _on_device(encoded.collator.pad(split.inputs, rows), model)
            whole = model(**batch).logits
            parts = [
                states.cpu().numpy().astype(prefix.dtype).astype(np.float32)
                for states in _states_by_row(pretrained, batch, prefix)
            ]
            offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
            given = Inputs({STATES: np.concatenate(parts)}, offsets)
            batch = _on_device(encoded.collator.pad(given, np.arange(len(rows))), model)
            with _set_aside(model, pretrained.anatomy, prefix):
                split_in_two = model(**batch).logits
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        logger.info("splitting failed: %s", str(error).splitlines()[0])
        return math.inf
    finally:
        model.train(was_training)
    tolerance = 1.0 if prefix.dtype == np.float32 else 100.0  # float16 was asked for by name
    return float((whole - split_in_two).abs().max()) / tolerance


def _states_by_row(
    pretrained: Pretrained, batch: dict[str, torch.Tensor], prefix: Prefix
) -> list[torch.Tensor]:
    """Hidden states at the boundary for each row of a batch, without padding."""
    model, anatomy = pretrained.model, pretrained.anatomy
    below = _embeddings(model, anatomy)[-1]
    if prefix.layers:
        below = anatomy.layer_prefixes[prefix.layers - 1]

    def stop(_: nn.Module, __: Any, output: Any) -> None:
        raise _Reached(output[0] if isinstance(output, tuple) else output)

    hook = model.get_submodule(below).register_forward_hook(stop)
    try:
        model(**batch)
    except _Reached as reached:
        states = reached.states
    finally:
        hook.remove()
    mask = batch["attention_mask"].bool()
    rows = [row[real] for row, real in zip(states, mask, strict=True)]
    return [row[:1] for row in rows] if prefix.first_token else rows


@contextmanager
def _set_aside(model: PreTrainedModel, anatomy: Anatomy, prefix: Prefix) -> Iterator[None]:
    """Let the embeddings and the lowest layers step aside."""
    replaced: list[tuple[nn.Module, str, nn.Module]] = []

    def replace(path: str, substitute: nn.Module) -> None:
        parent_path, _, name = path.rpartition(".")
        parent = model.get_submodule(parent_path)
        replaced.append((parent, name, parent.get_submodule(name)))
        setattr(parent, name, substitute)

    try:
        for path in anatomy.layer_prefixes[: prefix.layers]:
            layer = model.get_submodule(path)
            replace(path, _Skipped(layer, EXTRA_OUTPUTS.get(type(layer).__name__)))
        for path in _embeddings(model, anatomy):
            replace(path, _Given())
        yield
    finally:
        for parent, name, module in reversed(replaced):
            setattr(parent, name, module)


def _embeddings(model: PreTrainedModel, anatomy: Anatomy) -> list[str]:
    """The modules below the first layer, in their order; ELECTRA widens its embeddings."""
    names = ("embeddings", "embeddings_project")
    return [f"{anatomy.encoder}.{name}" for name in names if hasattr(model.base_model, name)]


def _store(
    pretrained: Pretrained, encoded: Encoded, prefix: Prefix, home: Path, machine: Machine
) -> Path:
    """The folder with the states of every stored split: found by content, or computed now."""
    folder = home / first_decides(lambda: _key(pretrained, encoded, prefix), machine)
    if first_decides(folder.is_dir, machine):
        logger.info("  its features are there already: %s", folder)
        if machine.is_first:
            os.utime(folder)
        return folder
    aside = Path(first_decides(lambda: str(_make_aside(folder)), machine))
    for name in STORED_SPLITS:
        _write(aside / f"{name}.npy", pretrained, encoded, name, prefix, machine)
    if machine.is_first:
        try:
            aside.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
            shutil.rmtree(aside)  # another run was faster; its files say the same
    wait(machine)
    return folder


def _forget_the_oldest(home: Path, keep_gb: float) -> None:
    """Delete the stores that were not used for longest, until the rest fits."""
    used: list[tuple[float, int, Path]] = []
    for store in home.iterdir():
        if PART in store.name:
            continue  # another run is writing it
        with suppress(FileNotFoundError):  # another run has deleted it
            size = sum(file.stat().st_size for file in store.iterdir())
            used.append((store.stat().st_mtime, size, store))
    used.sort()
    while used and sum(size for _, size, _ in used) > keep_gb * 1e9:
        shutil.rmtree(used.pop(0)[2], ignore_errors=True)


def _make_aside(folder: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f"{folder.name}{PART}", dir=folder.parent))


def _write(  # noqa: PLR0913
    path: Path,
    pretrained: Pretrained,
    encoded: Encoded,
    name: str,
    prefix: Prefix,
    machine: Machine,
) -> None:
    """The states of one split, row after row; the processes share the work and the file."""
    model, inputs = pretrained.model, encoded.splits[name].inputs
    offsets = _offsets(encoded.splits[name], prefix)
    shape = (int(offsets[-1]), model.config.hidden_size)
    if machine.is_first:
        np.lib.format.open_memmap(path, "w+", prefix.dtype, shape).flush()
    wait(machine)
    states = np.lib.format.open_memmap(path, "r+")
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for rows in plan_inference(inputs.lengths, TOKENS)[machine.rank :: machine.world_size]:
            batch = _on_device(encoded.collator.pad(inputs, rows), model)
            for row, values in zip(rows, _states_by_row(pretrained, batch, prefix), strict=True):
                states[offsets[row] : offsets[row + 1]] = values.cpu().numpy()
    model.train(was_training)
    states.flush()
    wait(machine)


def _open(folder: Path, name: str, split: EncodedSplit) -> EncodedSplit:
    """A stored split in the shape of any other; its pages are read as they are needed."""
    states = np.load(folder / f"{name}.npy", mmap_mode="r")
    whole = len(states) == split.inputs.offsets[-1]
    offsets = split.inputs.offsets if whole else np.arange(len(split.inputs) + 1)
    return EncodedSplit(Inputs({STATES: states}, offsets), split.labels, split.cut)


def _key(pretrained: Pretrained, encoded: Encoded, prefix: Prefix) -> str:
    """The content the store is a function of: frozen weights, tokens, boundary and precision."""
    digest = hashlib.sha256(repr((prefix, type(pretrained.model).__name__)).encode())
    digest.update(pretrained.model.config.to_json_string().encode())
    for name, tensor in pretrained.model.state_dict().items():
        if pretrained.anatomy.depth(name) <= prefix.layers:
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    for split in STORED_SPLITS:
        inputs = encoded.splits[split].inputs
        for name in sorted(inputs.flat):
            digest.update(inputs.flat[name].tobytes())
        digest.update(inputs.offsets.tobytes())
    return digest.hexdigest()[:24]


def _offsets(split: EncodedSplit, prefix: Prefix) -> np.ndarray:
    return np.arange(len(split.inputs) + 1) if prefix.first_token else split.inputs.offsets


def stored_bytes(pretrained: Pretrained, encoded: Encoded, prefix: Prefix) -> int:
    """What the store of a prefix takes on disk."""
    vectors = sum(int(_offsets(encoded.splits[name], prefix)[-1]) for name in STORED_SPLITS)
    return vectors * pretrained.model.config.hidden_size * prefix.dtype.itemsize


def most_bytes(
    pretrained: Pretrained, encoded: Encoded, stage: Stage, config: FeaturesConfig
) -> int:
    """What the store of a stage takes at most; nothing where none is made."""
    if stage.lowest == 0 or config.cache is Cache.off:
        return 0
    prefix = Prefix(stage.lowest - 1, False, np.dtype(config.dtype.value))
    return stored_bytes(pretrained, encoded, prefix)


def _room(folder: Path, max_gb: float | None) -> int:
    """Bytes that may be stored."""
    free = shutil.disk_usage(folder).free
    return free if max_gb is None else min(free, int(max_gb * 1e9))


def _on_device(batch: dict[str, torch.Tensor], model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: tensor.to(model.device) for name, tensor in batch.items()}
