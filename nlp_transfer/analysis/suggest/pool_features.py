"""What an exported model says of the texts of a pool: logits and mean-pooled features, on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nlp_transfer.analysis.suggest.pool import PoolFile, Scan, read_pool
from nlp_transfer.config.sections.features import FeaturesConfig
from nlp_transfer.inference.torch_engine import TorchEngine
from nlp_transfer.models.loading import evaluating
from nlp_transfer.tokenization.model_inputs import plan_inference, tokens_at_once
from nlp_transfer.utils.cache import find_or_make, forget_the_oldest
from nlp_transfer.utils.distributed import ProcessContext
from nlp_transfer.utils.hashing import digest_of
from nlp_transfer.utils.logging import logger

LOGITS, FEATURES, MEAN = "logits.npy", "features.npy", "mean.npy"
AT_ONCE = 8192  # rows that are scaled together


@dataclass(frozen=True)
class PoolFeatures:
    """Of the rows of a pool that can be chosen."""

    logits: np.ndarray  # float32 [rows, labels]
    x: np.ndarray  # float32 [rows, width], around their mean and of length 1, on disk
    mean: np.ndarray  # float32 [width], of the features before

    def directions(self, features: np.ndarray) -> np.ndarray:
        """Features of other texts in the same coordinates."""
        return _directions(features, self.mean)


def pool_features(  # noqa: PLR0913
    engine: TorchEngine,
    model: Path,
    pool: PoolFile,
    scan: Scan,
    config: FeaturesConfig,
    process: ProcessContext,
) -> PoolFeatures:
    """Computed in batches and stored; found again for the same texts and the same model."""
    rows, width = len(scan.kept), engine.model.config.hidden_size

    def begin(folder: Path) -> None:
        shapes = {LOGITS: (rows, len(engine.decoder.labels)), FEATURES: (rows, width)}
        for name, shape in shapes.items():
            np.lib.format.open_memmap(folder / name, "w+", np.dtype(np.float32), shape).flush()

    def fill(folder: Path) -> None:
        logits = np.lib.format.open_memmap(folder / LOGITS, "r+")
        x = np.lib.format.open_memmap(folder / FEATURES, "r+")
        start = 0
        for texts, pairs in _kept_texts(pool, scan):
            part = slice(start, start + len(texts))
            logits[part], x[part] = answers_and_features(engine, texts, pairs)
            start += len(texts)
            logger.info("  %s of %s texts are read", f"{start:,}", f"{rows:,}")
        mean = x.mean(axis=0, dtype=np.float64).astype(np.float32)
        np.save(folder / MEAN, mean)
        for begin_at in range(0, rows, AT_ONCE):
            part = slice(begin_at, begin_at + AT_ONCE)
            x[part] = _directions(x[part], mean)
        logits.flush()
        x.flush()

    weights = digest_of(sorted((*model.glob("*.json"), *model.glob("*.safetensors"))))
    digest = hashlib.sha256(f"pool {weights} {scan.digest}".encode())
    digest.update(scan.kept.tobytes())
    folder = Path(config.folder) / digest.hexdigest()[:24]
    say = partial(logger.info, "features of the pool are found in %s", folder)
    find_or_make(folder, begin, fill, process, say)
    features = PoolFeatures(
        np.load(folder / LOGITS), np.load(folder / FEATURES, mmap_mode="r"), np.load(folder / MEAN)
    )
    forget_the_oldest(Path(config.folder), config.keep_gb)
    return features


def answers_and_features(
    engine: TorchEngine, texts: Sequence[str], pairs: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Logits [texts, labels] and the mean of the last hidden states [texts, width], float32.

    Of a long text in windows, the features are the mean over its windows.
    """
    model, inputs = engine.model, engine.encode(texts, pairs)
    logits = np.empty((len(inputs), len(engine.decoder.labels)), np.float32)
    features = np.empty((len(inputs), model.config.hidden_size), np.float32)
    with evaluating(model):
        for rows in plan_inference(inputs.lengths, tokens_at_once(model.device)):
            padded = engine.collator.pad(inputs, rows)
            batch = {name: tensor.to(model.device) for name, tensor in padded.items()}
            output = model(**batch, output_hidden_states=True)
            states = getattr(output, "hidden_states", None)
            last = output.encoder_last_hidden_state if states is None else states[-1]
            mask = batch["attention_mask"].unsqueeze(-1)
            means = (last * mask).sum(1) / mask.sum(1)
            logits[rows] = output.logits.float().cpu().numpy()
            features[rows] = means.float().cpu().numpy()
    if inputs.windows is None:
        return logits, features
    return inputs.windows.join(logits), inputs.windows.average(features)


def _kept_texts(pool: PoolFile, scan: Scan) -> Iterator[tuple[list[str], list[str] | None]]:
    for part in read_pool(pool):
        end = part.first + len(part.texts)
        here = scan.kept[np.searchsorted(scan.kept, part.first) : np.searchsorted(scan.kept, end)]
        rows = (here - part.first).tolist()
        if rows:
            pairs = None if part.pairs is None else [part.pairs[i] for i in rows]
            yield [part.texts[i] for i in rows], pairs


def _directions(x: np.ndarray, mean: np.ndarray) -> np.ndarray:
    x = x - mean
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
