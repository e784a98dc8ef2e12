"""Chooses rows by uncertainty and diversity together, or by how typical they are."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from sklearn.cluster import MiniBatchKMeans

MOST_CLUSTERS = 500
SMALLEST = 5  # rows of a cluster that has a typical row
COMPARED = 2000  # rows of a cluster that are compared with each other
NEIGHBOURS = 20


class By(Enum):
    """How rows are chosen."""

    auto = "auto"
    """As the evidence of the run allows."""
    uncertain = "uncertain"
    """Rows that the model is unsure of and that differ from each other."""
    typical = "typical"
    """Rows that many others are like, far from labelled rows."""


@dataclass(frozen=True)
class Choice:
    """Rows in the order in which they are worth a label, and one number that says why."""

    rows: np.ndarray  # int64 [chosen]
    why: np.ndarray
    """Of uncertain rows, the cosine of the nearest row chosen before; of typical ones, how many
    rows are in their cluster."""


def errors_of(probabilities: np.ndarray, decisions: np.ndarray | None) -> np.ndarray:
    """How far the probabilities are from what they decide, float32 [rows, labels].

    With the features it gives the gradient of the loss at the last layer, if the guess were right.

    Args:
        probabilities: float [rows, labels]; of scores anything.
        decisions: int64 [rows]; of several labels bool [rows, labels]; None: scores, which have no
            uncertainty.
    """
    if decisions is None:
        return np.ones((len(probabilities), 1), np.float32)
    errors = probabilities.astype(np.float32)
    if decisions.ndim == 1:
        errors[np.arange(len(errors)), decisions] -= 1
    else:
        errors -= decisions
    return errors


def uncertain_rows(errors: np.ndarray, x: np.ndarray, count: int, seed: int) -> Choice:
    """k-means++ over the gradients of the last layer (BADGE, Ash et al. 2020).

    A gradient is the outer product of a row's error and its features; distances between gradients
    are computed from the products of both, so no gradient is ever written down.

    Args:
        errors: float32 [rows, labels].
        x: float32 [rows, width], each of length 1; it may be on disk, and is read once a choice.
    """
    generator = np.random.default_rng(seed)
    sizes = (errors.astype(np.float64) ** 2).sum(axis=1)
    distances, nearest_chosen = sizes.copy(), np.full(len(x), -1.0)
    rows: list[int] = []
    why: list[float] = []
    for _ in range(min(count, len(x))):
        row = _draw(distances, rows, generator)
        why.append(nearest_chosen[row])
        rows.append(row)
        cosines = x @ np.asarray(x[row])
        apart = sizes + sizes[row] - 2 * (errors @ errors[row]) * cosines
        distances = np.minimum(distances, np.maximum(apart, 0))
        distances[rows] = 0
        nearest_chosen = np.maximum(nearest_chosen, cosines)
    return Choice(np.array(rows, dtype=np.int64), np.array(why))


def _draw(distances: np.ndarray, taken: list[int], generator: np.random.Generator) -> int:
    """In proportion to the distances; where all are none, any that is left."""
    total = distances.sum()
    if total > 0:
        return int(generator.choice(len(distances), p=distances / total))
    free = np.ones(len(distances), dtype=bool)
    free[taken] = False
    return int(generator.choice(np.flatnonzero(free)))


def typical_rows(x: np.ndarray, labelled: np.ndarray, count: int, seed: int) -> Choice:
    """The rows with the nearest neighbours in clusters without a label (TypiClust).

    Hacohen et al. 2022: with few labels, typical rows teach more than uncertain ones. There are as
    many clusters as labelled rows and rows to choose; the largest without a label come first.

    Args:
        x: float32 [rows, width], each of length 1; it may be on disk.
        labelled: float32 [labelled rows, width], of the same kind.
    """
    count = min(count, len(x))
    clusters = min(len(labelled) + count, MOST_CLUSTERS, len(x))
    means = MiniBatchKMeans(clusters, random_state=seed, n_init=1, batch_size=4096).fit(x)
    members = [np.flatnonzero(means.labels_ == i) for i in range(clusters)]
    covered = np.zeros(clusters, dtype=np.int64)
    if len(labelled):
        covered += np.bincount(means.predict(labelled), minlength=clusters)
    ranked: dict[int, list[int]] = {}
    rows: list[int] = []
    why: list[int] = []
    while len(rows) < count:
        left = [i for i in range(clusters) if len(ranked.get(i, members[i]))]
        large = [i for i in left if len(members[i]) >= SMALLEST] or left
        best = min(large, key=lambda i: (covered[i], -len(members[i])))
        if best not in ranked:
            ranked[best] = members[best][_by_density(x[members[best]], seed)].tolist()
        rows.append(ranked[best].pop(0))
        why.append(len(members[best]))
        covered[best] += 1
    return Choice(np.array(rows, dtype=np.int64), np.array(why))


def _by_density(x: np.ndarray, seed: int) -> np.ndarray:
    """Rows of a cluster, those with the nearest neighbours first; of a large one only a part is
    compared, and the others come last."""
    order = np.random.default_rng(seed).permutation(len(x))
    some = np.asarray(x[order[:COMPARED]])
    cosines = some @ some.T
    nearest = min(NEIGHBOURS, len(some) - 1) + 1  # itself included
    density = np.partition(cosines, -nearest, axis=1)[:, -nearest:].mean(axis=1)
    return np.concatenate([order[:COMPARED][np.argsort(-density, kind="stable")], order[COMPARED:]])
