"""Rows that are drawn again, as weights, as counts of labels and as means."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import sparse

from nlp_transfer.evaluation.metrics.classification import confusion_matrix
from nlp_transfer.evaluation.rows import Counts, EvaluatedRows

DRAWS = 1000
SEED = 0  # the same answers have the same intervals, whatever the run's seed
UNSEEN = 0.75  # right answers, and as many wrong ones, that may be drawn besides
AT_ONCE = 250_000  # weights in memory
BLOCK = 1 << 16  # of more rows than that, so many are drawn at a time: they stay in the cache
SOME = 16  # draws of one block
DENSE_LABELS = 100  # of more, the cells of the confusion matrix that hold no row are drawn together
SELDOM = 1e-9  # a weight that lets a label stand in a mean of labels, and nowhere else


def resampled(rows: int, draws: int) -> Iterator[np.ndarray]:
    """How often each row is drawn, float [some draws, rows], until there are `draws` of them."""
    generator = np.random.default_rng(SEED)
    if rows > AT_ONCE:
        shares = _shares_of_blocks(rows, draws, generator)
        for draw in range(draws):
            parts = [_drawn_of(block, n[draw : draw + 1], generator) for block, n in shares]
            yield np.concatenate(parts, axis=1)
        return
    at_once = max(AT_ONCE // rows, 1)
    for start in range(0, draws, at_once):
        some = min(at_once, draws - start)
        resamples = generator.integers(0, rows, (some, rows)) + rows * np.arange(some)[:, None]
        counts = np.bincount(resamples.ravel(), minlength=some * rows)
        yield counts.reshape(some, rows).astype(np.float64)


def resampled_counts(rows: EvaluatedRows, draws: int) -> Iterator[Counts]:
    """Counts of drawn rows, [some draws, labels]; `UNSEEN` answers may be drawn too."""
    if rows.has_many_labels_a_row:
        yield from _drawn_columns(rows, draws)
    elif len(rows.classes.names) <= DENSE_LABELS:
        labels = len(rows.classes.names)
        confusion = confusion_matrix(rows.truth, rows.decisions, labels)
        yield from map(Counts.of, resampled_confusion(confusion, draws))
    else:
        yield from _drawn_cells(rows, draws)


def resampled_confusion(confusion: np.ndarray, draws: int) -> Iterator[np.ndarray]:
    """Confusion matrices of drawn rows, [some draws, labels, labels].

    A metric of labels depends on nothing else of its rows. `UNSEEN` ones may be drawn too.
    """
    generator = np.random.default_rng(SEED)
    labels, rows = len(confusion), int(confusion.sum())
    smooth = np.where(np.eye(labels) == 1, 1 / labels, 1 / (labels * max(labels - 1, 1)))
    cells = (confusion + UNSEEN * smooth).ravel()
    at_once = max(AT_ONCE // cells.size, 1)
    for start in range(0, draws, at_once):
        some = min(at_once, draws - start)
        resamples = generator.multinomial(rows, cells / cells.sum(), size=some)
        yield resamples.reshape(some, labels, labels).astype(np.float64)


def _drawn_cells(rows: EvaluatedRows, draws: int) -> Iterator[Counts]:
    """As from `resampled_confusion`, without a matrix: only cells that hold rows are drawn alone.

    The unseen right answers are one cell more and the unseen wrong ones another; what is drawn of
    these two is spread over the labels at random.
    """
    generator = np.random.default_rng(SEED)
    labels = len(rows.classes.names)
    pairs, sizes = np.unique(rows.truth * labels + rows.decisions, return_counts=True)
    ones, places = np.ones(len(pairs)), np.arange(len(pairs))
    actual, predicted = (
        sparse.csr_array((ones, (places, column)), shape=(len(pairs), labels))
        for column in np.divmod(pairs, labels)
    )
    columns = sparse.hstack([actual.multiply(predicted), predicted, actual], format="csr")
    cells = np.r_[sizes, UNSEEN, UNSEEN]
    at_once = max(AT_ONCE // max(len(cells), labels), 1)
    for start in range(0, draws, at_once):
        some = min(at_once, draws - start)
        resamples = generator.multinomial(len(rows), cells / cells.sum(), size=some)
        counts = Counts(*np.split((resamples[:, :-2] @ columns).astype(np.float64), 3, axis=1))
        right, wrong = (np.repeat(np.arange(some), resamples[:, i]) for i in (-2, -1))
        label = generator.integers(0, labels, len(right))
        for part in (counts.hits, counts.predicted, counts.actual):
            np.add.at(part, (right, label), 1)
        label = generator.integers(0, labels, len(wrong))
        other = (label + generator.integers(1, labels, len(wrong))) % labels
        np.add.at(counts.actual, (wrong, label), 1)
        np.add.at(counts.predicted, (wrong, other), 1)
        yield counts


def _drawn_columns(rows: EvaluatedRows, draws: int) -> Iterator[Counts]:
    """Of rows with several labels."""
    generator = np.random.default_rng(SEED)
    labels = len(rows.classes.names)
    totals = rows.columns.sum(axis=0).reshape(3, 1, labels)
    for weights in resampled(len(rows), draws):
        counts = rows.counts(weights)
        right, wrongly, missed = (
            generator.poisson(unseen / labels, counts.hits.shape)
            for unseen in (UNSEEN, UNSEEN / 2, UNSEEN / 2)
        )
        resamples = np.stack(
            [
                counts.hits + right,
                counts.predicted + right + wrongly,
                counts.actual + right + missed,
            ]
        )
        absent = resamples[1] + resamples[2] == 0
        yield Counts(*np.where(absent, SELDOM * totals, resamples))


def resampled_means(rows: int, columns_of: Callable[[slice], np.ndarray]) -> np.ndarray:
    """Of the columns of drawn rows, [draws, columns].

    Args:
        columns_of: of consecutive rows, [rows of the block, columns]; of many rows, a block at a
            time is in memory.
    """
    if rows <= AT_ONCE:
        table = columns_of(slice(0, rows))
        return np.concatenate([weights @ table for weights in resampled(rows, DRAWS)]) / rows
    generator = np.random.default_rng(SEED)
    sums: np.ndarray | float = 0.0
    for block, drawn in _shares_of_blocks(rows, DRAWS, generator):
        table = columns_of(block)
        starts = range(0, DRAWS, SOME)
        parts = [_drawn_of(block, drawn[at : at + SOME], generator) @ table for at in starts]
        sums = sums + np.concatenate(parts)
    return np.asarray(sums) / rows


def _shares_of_blocks(
    rows: int, draws: int, generator: np.random.Generator
) -> list[tuple[slice, np.ndarray]]:
    """Blocks of rows, and how many of the rows of each draw are of the block, int [draws].

    Which of them these are is drawn block by block: the weights have the same distribution, and
    memory is not read at random, which takes three times as long for a million rows.
    """
    blocks = [slice(start, min(start + BLOCK, rows)) for start in range(0, rows, BLOCK)]
    sizes = np.array([block.stop - block.start for block in blocks])
    drawn = generator.multinomial(rows, sizes / rows, size=draws)
    return list(zip(blocks, drawn.T, strict=True))


def _drawn_of(block: slice, drawn: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """How often each row of a block is drawn, float [draws, rows of the block]."""
    size = block.stop - block.start
    weights = np.empty((len(drawn), size))
    for counts, count in zip(weights, drawn, strict=True):
        rows = generator.integers(0, size, count, dtype=np.uint16)
        counts[:] = np.bincount(rows, minlength=size)
    return weights
