"""How much there is to compute in a batch: the unit in which steps of all lengths are timed."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nlp_transfer.tokenization.encoded import EncodedSplit
from nlp_transfer.tokenization.model_inputs import plan_inference
from nlp_transfer.training.optimization.batching import PlannedBatches


def work_of(rows: int, longest: int, width: int) -> float:
    """Tokens of a padded batch, each counted more where attention is over many.

    A layer multiplies a token with 12 width² numbers, and in the attention with 2 length · width.
    """
    return rows * longest * (1 + longest / (6 * width))


def step_work(lengths: np.ndarray, batches: Iterable[np.ndarray], width: int, parts: int) -> float:
    """Work of the batches of rows, each in `parts` micro-batches."""
    return sum(
        work_of(len(micro), int(lengths[micro].max()), width)
        for batch in batches
        for micro in np.array_split(batch, parts)
        if len(micro)
    )


def epoch_works(
    split: EncodedSplit, batch_size: int, seed: int, width: int, parts: int = 1
) -> list[float]:
    """Work of every step of the first epoch, in its order."""
    lengths = split.inputs.lengths
    plan = PlannedBatches(lengths, batch_size, seed, documents=split.inputs.documents)
    return [step_work(lengths, [batch], width, parts) for batch in plan.batches()]


def inference_work(split: EncodedSplit, width: int, tokens_at_once: int) -> float:
    """Work of answering every row of a split."""
    lengths = split.inputs.lengths
    return step_work(lengths, plan_inference(lengths, tokens_at_once), width, 1)


def systematic_sample(split: EncodedSplit, strata: np.ndarray, count: int) -> np.ndarray:
    """Documents of every stratum and length, as often as in the split: int [at most `count`]."""
    documents = len(split.labels)
    if documents <= count:
        return np.arange(documents)
    tokens = np.bincount(split.inputs.documents, weights=split.inputs.lengths)
    order = np.lexsort((tokens, strata))
    return np.sort(order[((np.arange(count) + 0.5) * documents / count).astype(int)])
