"""Runs the frozen prefix once, stores its output, and trains the suffix on that.

Below a stage's boundary nothing learns and nothing drops out, so the hidden states there are the
same in every epoch. They are computed once, without padding, into memory-mapped files. While the
suffix trains, the frozen modules of the model itself step aside: nothing is copied, nothing has to
be put back together.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from nlp_transfer.config.choices import Cache, Pooling, Solver
from nlp_transfer.config.sections.features import FeaturesConfig
from nlp_transfer.models.frozen_prefix import (
    STATES,
    Prefix,
    difference,
    on_device,
    states_by_row,
    without_prefix,
)
from nlp_transfer.models.loading import Pretrained, evaluating
from nlp_transfer.models.mean_pooling import PARTS, with_pooling
from nlp_transfer.models.strategies.stages import Stage
from nlp_transfer.tokenization.encoded import Encoded, EncodedSplit
from nlp_transfer.tokenization.model_inputs import Inputs, plan_inference, tokens_at_once
from nlp_transfer.utils.cache import find_or_make, forget_the_oldest
from nlp_transfer.utils.device import trim_memory
from nlp_transfer.utils.distributed import ProcessContext, broadcast_from_rank_zero, wait
from nlp_transfer.utils.logging import logger

# What a split must reproduce of the whole model's logits, in float32.
EXACT = 1e-4
STORED_SPLITS = ("train", "validation")  # test is run whole, once, at the end


@contextmanager
def trained_on_features(
    pretrained: Pretrained,
    encoded: Encoded,
    stage: Stage,
    config: FeaturesConfig,
    process: ProcessContext,
) -> Iterator[Encoded]:
    """What a stage trains on: stored hidden states where that pays and is exact, else the tokens.

    Inside the context the model's frozen modules are aside, so it takes just what is yielded.
    """
    if stage.lowest == 0:  # nothing is frozen
        yield encoded
        return
    choice = broadcast_from_rank_zero(lambda: _choose(pretrained, encoded, stage, config), process)
    if isinstance(choice, str):
        logger.info("stage %s runs through the whole model: %s", stage.name, choice)
        yield encoded
        return
    folder = _store(pretrained, _only(encoded, STORED_SPLITS), choice, config, process)
    stored = {
        name: _open(folder, name, encoded.splits[name])
        for name in STORED_SPLITS
        if name in encoded.splits
    }
    with without_prefix(pretrained.model, pretrained.structure, choice):
        yield Encoded({**encoded.splits, **stored}, encoded.collator)
    wait(process)  # nodes may see the same disk
    if process.is_first_of_node:
        if not stage.pristine:  # of weights that only this run has: nobody will ask for it
            shutil.rmtree(folder, ignore_errors=True)
        forget_the_oldest(Path(config.folder), config.keep_gb)


def mean_features(
    pretrained: Pretrained, encoded: Encoded, config: FeaturesConfig, process: ProcessContext
) -> dict[str, np.ndarray]:
    """What the encoder says of each text of every split: float32 [documents, width].

    The mean of the last layer's tokens; where a run has solved a head on it, it was stored then and
    is found.
    """
    layer = pretrained.model.config.model_type in PARTS
    if layer:
        pretrained = with_pooling(pretrained, Pooling.mean)
    dtype = np.dtype(config.dtype.value)
    prefix = Prefix(pretrained.structure.layers, layer, dtype, mean=not layer)
    features: dict[str, np.ndarray] = {}
    for names in (STORED_SPLITS, ("test",)):
        part = _only(encoded, names)
        if part.splits:
            folder = _store(pretrained, part, prefix, config, process)
            for name, split in part.splits.items():
                vectors = np.load(_file(folder, name)).astype(np.float32)
                windows = split.inputs.windows
                features[name] = vectors if windows is None else windows.average(vectors)
    if process.is_first_of_node:
        forget_the_oldest(Path(config.folder), config.keep_gb)
    return features


def _only(encoded: Encoded, names: Sequence[str]) -> Encoded:
    splits = {name: encoded.splits[name] for name in names if name in encoded.splits}
    return Encoded(splits, encoded.collator)


def _choose(
    pretrained: Pretrained, encoded: Encoded, stage: Stage, config: FeaturesConfig
) -> Prefix | str:
    """The prefix to store, or the reason to run the stage through the whole model."""
    if config.cache is Cache.off:
        return "features.cache=off"
    if config.cache is Cache.auto and (wasted := _not_worth_it(stage)):
        return wasted
    dtype = np.dtype(config.dtype.value)
    # With no layer above, a head that reads the first token needs only that one.
    firsts = (True, False) if stage.lowest > pretrained.structure.layers else (False,)
    prefixes = [Prefix(stage.lowest - 1, first, dtype) for first in firsts]
    gaps: list[float] = []
    for prefix in prefixes:
        gaps.append(difference(pretrained, encoded, prefix))
        if gaps[-1] <= EXACT:
            break
    else:
        name = type(pretrained.model).__name__
        return f"{name} cannot be split exactly here ({min(gaps):.1e})"
    try:
        Path(config.folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"features.folder={config.folder} cannot be written ({error.strerror})"
    size = stored_bytes(pretrained, encoded, prefix)
    room = _room(Path(config.folder), config.max_gb)
    if size > room:
        return f"its features take {size / 1e9:.2f} GB, and there is room for {room / 1e9:.2f}"
    by_gradient = stage.solver is Solver.gradient
    instead = f" instead of in each of {stage.epochs:g} epochs" if by_gradient else ""
    logger.info(
        "stage %s: the frozen part runs once%s, %.0f MB are stored", stage.name, instead, size / 1e6
    )
    return prefix


def _not_worth_it(stage: Stage) -> str | None:
    """Why storing would save nothing, or None: it saves frozen layers in every epoch but one."""
    if stage.lowest == 1:
        return "only the embeddings are frozen, which take hardly any time"
    if stage.epochs <= 1:
        return "in one epoch the frozen part is computed once in any case"
    return None


def _store(
    pretrained: Pretrained,
    encoded: Encoded,
    prefix: Prefix,
    config: FeaturesConfig,
    process: ProcessContext,
) -> Path:
    """The folder with the states of every split: found by content, or computed now."""

    def begin(folder: Path) -> None:
        for name in encoded.splits:
            vectors = int(_offsets(encoded.splits[name], prefix)[-1])
            shape = (vectors, pretrained.model.config.hidden_size)
            np.lib.format.open_memmap(_file(folder, name), "w+", prefix.dtype, shape).flush()

    def fill(folder: Path) -> None:
        for name in encoded.splits:
            _fill(_file(folder, name), pretrained, encoded, name, prefix, process)
        trim_memory()

    key = broadcast_from_rank_zero(lambda: _key(pretrained, encoded, prefix), process)
    folder = Path(config.folder) / key
    say = partial(logger.info, "  found in %s", folder)
    return find_or_make(folder, begin, fill, process, say)


def _fill(  # noqa: PLR0913
    file: Path,
    pretrained: Pretrained,
    encoded: Encoded,
    name: str,
    prefix: Prefix,
    process: ProcessContext,
) -> None:
    """This process's share of the states of one split; a node's processes share the file."""
    model, inputs = pretrained.model, encoded.splits[name].inputs
    offsets = _offsets(encoded.splits[name], prefix)
    states = np.lib.format.open_memmap(file, "r+")
    with evaluating(model):
        batches = plan_inference(inputs.lengths, tokens_at_once(model.device))
        for rows in batches[process.local_rank :: process.local_world_size]:
            batch = on_device(encoded.collator.pad(inputs, rows), model)
            for row, values in zip(rows, states_by_row(pretrained, batch, prefix), strict=True):
                states[offsets[row] : offsets[row + 1]] = values.cpu().numpy()
    states.flush()


def _file(folder: Path, split: str) -> Path:
    return folder / f"{split}.npy"


def _open(folder: Path, name: str, split: EncodedSplit) -> EncodedSplit:
    """A stored split in the shape of any other; its pages are read as they are needed."""
    states = np.load(_file(folder, name), mmap_mode="r")
    whole = len(states) == split.inputs.offsets[-1]
    offsets = split.inputs.offsets if whole else np.arange(len(split.inputs) + 1)
    inputs = Inputs({STATES: states}, offsets, split.inputs.windows)
    return EncodedSplit(inputs, split.labels, split.cut)


def _key(pretrained: Pretrained, encoded: Encoded, prefix: Prefix) -> str:
    """The content the store is a function of: frozen weights, tokens, boundary and precision."""
    digest = hashlib.sha256(repr((prefix, type(pretrained.model).__name__)).encode())
    digest.update(pretrained.model.config.to_json_string().encode())
    for name, tensor in pretrained.model.state_dict().items():
        if pretrained.structure.depth(name) <= prefix.layers:
            digest.update(tensor.detach().cpu().contiguous().numpy())
    for split in encoded.splits.values():
        inputs = split.inputs
        for name in sorted(inputs.flat):
            digest.update(np.ascontiguousarray(inputs.flat[name]).data)
        digest.update(np.ascontiguousarray(inputs.offsets).data)
    return digest.hexdigest()[:24]


def _offsets(split: EncodedSplit, prefix: Prefix) -> np.ndarray:
    return np.arange(len(split.inputs) + 1) if prefix.one_vector else split.inputs.offsets


def stored_bytes(pretrained: Pretrained, encoded: Encoded, prefix: Prefix) -> int:
    """What the store of a prefix takes on disk."""
    splits = _only(encoded, STORED_SPLITS).splits.values()
    vectors = sum(int(_offsets(split, prefix)[-1]) for split in splits)
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
