"""Plans every batch of every epoch.

A plan is a pure function of (lengths, seed, epoch, global batch size): the same for one process
and for eight, for an unbroken run and a continued one. Rows of similar length share a batch, so
there is little padding; a process takes its slice of each batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from nlp_transfer.tokenization.encoded import Draw

# Rows are sorted by length inside groups of this many batches: long enough for little padding,
# short enough for the batches of an epoch to differ from those of the next.
BATCHES_PER_GROUP = 50


def plan_epoch(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The global batches of one epoch: every row once, in batches of similar length.

    Args:
        lengths: int [rows], tokens of each row.

    Returns:
        Row indices, one array per optimizer step; only one may be shorter than `batch_size`.
    """
    generator = np.random.default_rng([seed, epoch])
    order = generator.permutation(len(lengths))
    group = batch_size * BATCHES_PER_GROUP
    by_length = [
        chunk[np.argsort(-lengths[chunk], kind="stable")]
        for chunk in (order[start : start + group] for start in range(0, len(order), group))
    ]
    rows = np.concatenate(by_length)
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    return [batches[i] for i in generator.permutation(len(batches))]


def accumulation_steps(batch_size: int, micro_batch_size: int | None, world_size: int) -> int:
    """How many forward passes of one process make a global batch."""
    share = math.ceil(batch_size / world_size)
    return math.ceil(share / min(micro_batch_size or share, share))


class PlannedBatches(Sampler[list[Draw]]):
    """One process's micro-batches of the plan.

    What is planned are documents; where these have several rows (windows), `documents` says which
    one each row is of, int [rows], and a document's rows come together.

    Every global batch is cut into `accumulation * world_size` micro-batches of equal size but for
    one row, in an order that does not depend on the number of processes. Where a short batch does
    not have a row for each, a row is repeated with `counts=False`, and adds nothing to the loss.
    """

    def __init__(  # noqa: PLR0913
        self,
        lengths: np.ndarray,
        batch_size: int,
        seed: int,
        *,
        accumulation: int = 1,
        rank: int = 0,
        world_size: int = 1,
        documents: np.ndarray | None = None,
    ) -> None:
        owners = np.arange(len(lengths)) if documents is None else documents
        starts = np.flatnonzero(np.diff(owners, prepend=-1))
        self.lengths = np.maximum.reduceat(lengths, starts)
        self._ends = np.append(starts, len(lengths))
        self.batch_size = batch_size
        self.seed = seed
        self.accumulation = accumulation
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Plan this epoch at the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self.lengths) / self.batch_size) * self.accumulation

    def count(self, lengths: np.ndarray) -> tuple[int, int, int]:
        """Documents of an epoch over all processes, tokens of them, and with padding.

        Args:
            lengths: int [rows], tokens of each row as it is given to the model.
        """
        parts = self.accumulation * self.world_size
        documents = sum(map(len, self.plan_documents()))
        batches = list(self.batches())
        padded = sum(
            len(micro) * int(lengths[micro].max())
            for batch in batches
            for micro in np.array_split(batch, parts)
            if len(micro)
        )
        return documents, sum(int(lengths[batch].sum()) for batch in batches), padded

    def plan_documents(self) -> Iterator[np.ndarray]:
        """The documents of every global batch of this epoch."""
        yield from plan_epoch(self.lengths, self.batch_size, self.seed, self.epoch)

    def batches(self) -> Iterator[np.ndarray]:
        """The rows of every global batch: all windows of its documents."""
        for batch in self.plan_documents():
            yield np.concatenate([np.arange(self._ends[d], self._ends[d + 1]) for d in batch])

    def __iter__(self) -> Iterator[list[Draw]]:
        parts = self.accumulation * self.world_size
        before = 0
        for batch in self.batches():
            places = np.array_split(np.arange(len(batch)), parts)
            for micro in places[self.rank :: self.world_size]:
                if len(micro):
                    yield [Draw(int(batch[i]), True, self.epoch, before + int(i)) for i in micro]
                else:
                    yield [Draw(int(batch[0]), False, self.epoch, before)]
            before += len(batch)
