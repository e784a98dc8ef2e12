"""Draws splits and folds of labelled rows: at random, by group, or by hash."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nlp_transfer.config.choices import Cut
from nlp_transfer.errors import ExitCode, UserError


@dataclass(frozen=True)
class Rows:
    """What a cut goes by."""

    strata: np.ndarray  # int [rows], a label say: of each, every part has its share
    keys: Sequence[str]  # of each row, what is hashed (its group, or its text) where it is
    groups: np.ndarray | None  # int [rows], the group of each; None: every row by itself


def cut_off(  # noqa: PLR0913
    rows: Rows, share: float, size: int, how: Cut, split: str, seed: int
) -> np.ndarray:
    """Which rows become a split: bool [rows]; by groups or hash, of about this share of them.

    Raises:
        UserError: where nothing would be cut off, or nothing left.
    """
    if how is Cut.hash:
        selected = hashed(rows.keys, split) < share
    elif rows.groups is not None:
        together = _at_least(2, rows, f"a {split} split", f"give dataset.{split} a file")
        selected = stratified_group_parts(together, rows.strata, (1 - share, share), seed) == 1
    else:
        # The rest is drawn, not the cut: it is train that must keep a row of every label.
        rest = stratified_part(rows.strata, len(rows.strata) - size, seed)
        selected = np.isin(np.arange(len(rows.strata)), rest, invert=True)
    if selected.all() or not selected.any():
        by = "hash" if how is Cut.hash else "group"
        raise UserError(
            ExitCode.DATA,
            f"The {len(selected)} rows of train are too few to cut {share:.0%} of them off as a "
            f"{split} split by {by}. Give dataset.{split} a file.",
        )
    return selected


def fold_of(rows: Rows, folds: int, how: Cut, seed: int) -> np.ndarray:
    """The fold of each row, 0 to `folds` - 1.

    Raises:
        UserError: where a fold would have no row.
    """
    if how is Cut.hash:
        fold_numbers = np.floor(hashed(rows.keys, "fold") * folds).astype(np.int64)
    elif rows.groups is not None:
        together = _at_least(folds, rows, f"dataset.folds={folds}", "take fewer folds")
        fold_numbers = stratified_group_parts(together, rows.strata, (1 / folds,) * folds, seed)
    else:
        fold_numbers = stratified_parts(rows.strata, folds, seed)
    if len(np.unique(fold_numbers)) < folds:
        raise UserError(
            ExitCode.DATA,
            f"dataset.folds={folds}: the {len(fold_numbers)} rows of train fill only "
            f"{len(np.unique(fold_numbers))} of them. Take fewer folds.",
        )
    return fold_numbers


def _at_least(parts: int, rows: Rows, what: str, otherwise: str) -> np.ndarray:
    """The groups; refused where there are fewer than parts."""
    assert rows.groups is not None
    count = len(np.unique(rows.groups))
    if count < parts:
        raise UserError(
            ExitCode.DATA,
            f"{what} needs at least {parts} groups, and dataset.group has {count}. "
            f"Check the column, or {otherwise}.",
        )
    return rows.groups


def stratified_part(labels: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Sorted indices of `size` rows, drawn so that every label keeps its share.

    Largest remainders decide about the last rows; a label of the whole stays in the part as long
    as there is room for one row of each.

    Args:
        labels: int [rows].
    """
    generator = np.random.default_rng(seed)
    distinct, counts = np.unique(labels, return_counts=True)
    quota = counts * size / len(labels)
    take = np.floor(quota).astype(int)
    if size >= len(distinct):
        take = np.maximum(take, 1)
    # Rows still to give go to the largest remainders; rows too many come from the largest labels.
    while take.sum() < size:
        take[np.argmax(np.where(take < counts, quota - take, -np.inf))] += 1
    while take.sum() > size:
        take[np.argmax(take)] -= 1
    rows = [
        generator.permutation(np.flatnonzero(labels == label))[:n]
        for label, n in zip(distinct, take, strict=True)
    ]
    return np.sort(np.concatenate(rows))


def stratified_parts(strata: np.ndarray, parts: int, seed: int) -> np.ndarray:
    """The part of each row, 0 to `parts` - 1: drawn, each stratum shared out as evenly as can be.

    Args:
        strata: int [rows], a label say.
    """
    order = np.random.default_rng(seed).permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]
    part_numbers = np.empty(len(strata), dtype=np.int64)
    part_numbers[order] = np.arange(len(strata)) % parts
    return part_numbers


def stratified_group_parts(
    groups: np.ndarray, strata: np.ndarray, shares: Sequence[float], seed: int
) -> np.ndarray:
    """The part of each row, whole groups: drawn, then each put where its labels are most wanted.

    Every part gets a group. How close the parts come to their shares depends on the groups.

    Args:
        groups: int [rows], 0 to the number of groups - 1.
        shares: of the rows, for each part; there are at least as many groups as parts.
    """
    counts = np.zeros((groups.max() + 1, strata.max() + 1))
    np.add.at(counts, (groups, strata), 1)
    missing = np.outer(shares, counts.sum(axis=0))
    part_of = np.empty(len(counts), dtype=np.int64)
    empty = set(range(len(shares)))
    order = np.random.default_rng(seed).permutation(len(counts))
    for remaining, group in zip(range(len(order), 0, -1), order, strict=True):
        candidates = sorted(empty) if remaining <= len(empty) else list(range(len(shares)))
        # What lessens the squared distance to the shares most; of equals, the emptiest part.
        gain = missing[candidates] @ counts[group]
        best = max(range(len(candidates)), key=lambda i: (gain[i], missing[candidates[i]].sum()))
        part_of[group] = candidates[best]
        missing[candidates[best]] -= counts[group]
        empty.discard(candidates[best])
    return part_of[groups]


def hashed(keys: Sequence[str], salt: str) -> np.ndarray:
    """A number from 0 to 1 for each key, the same everywhere and always: float64 [keys]."""
    return np.array([_number(f"{salt}\0{key}") for key in keys])


def _number(text: str) -> float:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
