"""The plan: every row once, little padding, and the same whoever carries it out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nlp_transfer.tokenization.model_inputs import plan_inference
from nlp_transfer.training.optimization.batching import (
    PlannedBatches,
    accumulation_steps,
    plan_epoch,
)

# Rows and batch size: a short last batch, batches of fewer rows than processes, no rest, one batch.
SHAPES = [(101, 32), (101, 4), (64, 16), (3, 32)]


def lengths_of(rows: int, seed: int = 0) -> np.ndarray:
    """Tokens of each row, as skewed as those of real texts."""
    drawn = np.random.default_rng(seed).lognormal(3.5, 0.6, size=rows)
    return np.clip(drawn, 4, 256).astype(np.int64)


def padding(batches: list[np.ndarray], lengths: np.ndarray) -> int:
    """Tokens that are only there to fill up."""
    return sum(int(len(rows) * lengths[rows].max() - lengths[rows].sum()) for rows in batches)


def steps_of_all_ranks(
    rows: int, batch_size: int, world_size: int, accumulation: int, epoch: int = 0
) -> list[list[list[tuple[int, bool]]]]:
    """For every optimizer step the micro-batches of all processes, in the order of the plan."""
    by_rank = []
    for rank in range(world_size):
        batches = PlannedBatches(
            lengths_of(rows),
            batch_size,
            seed=7,
            accumulation=accumulation,
            rank=rank,
            world_size=world_size,
        )
        batches.set_epoch(epoch)
        micro_batches = list(batches)
        assert len(micro_batches) == len(batches)
        by_rank.append(micro_batches)
    # Processes wait for each other: one with fewer micro-batches would leave the others hanging.
    assert len({len(micro_batches) for micro_batches in by_rank}) == 1
    return [
        [by_rank[rank][start + i] for i in range(accumulation) for rank in range(world_size)]
        for start in range(0, len(by_rank[0]), accumulation)
    ]


@pytest.mark.parametrize(("rows", "batch_size"), SHAPES)
def test_every_row_comes_once_per_epoch_and_only_one_batch_is_short(
    rows: int, batch_size: int
) -> None:
    for epoch in range(3):
        batches = plan_epoch(lengths_of(rows), batch_size, seed=0, epoch=epoch)
        assert sorted(np.concatenate(batches)) == list(range(rows))
        assert len(batches) == math.ceil(rows / batch_size)
        sizes = sorted(len(batch) for batch in batches)
        assert sizes[1:] == [batch_size] * (len(batches) - 1)
        assert 1 <= sizes[0] <= batch_size


def test_a_plan_is_a_function_of_its_arguments_alone() -> None:
    lengths = lengths_of(500)
    before = lengths.copy()
    state = np.random.get_state()[1].copy()
    first = plan_epoch(lengths, 32, seed=3, epoch=2)
    np.random.default_rng().random(10)
    again = plan_epoch(lengths, 32, seed=3, epoch=2)
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in again]
    assert np.array_equal(lengths, before)
    # Nor does it draw from the stream that others draw from.
    assert np.array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("other", [{"seed": 4, "epoch": 2}, {"seed": 3, "epoch": 1}])
def test_another_seed_or_epoch_is_another_order_and_other_batches(other: dict[str, int]) -> None:
    # More rows than are sorted together, as in any data set of some size.
    lengths = lengths_of(5000)
    here = plan_epoch(lengths, 32, seed=3, epoch=2)
    there = plan_epoch(lengths, 32, **other)
    assert not np.array_equal(np.concatenate(here), np.concatenate(there))
    companies = {frozenset(batch.tolist()) for batch in here}
    assert len(companies & {frozenset(batch.tolist()) for batch in there}) < len(here) / 10


def test_batches_do_not_come_in_the_order_of_their_lengths() -> None:
    lengths = lengths_of(1000)
    longest = [int(lengths[batch].max()) for batch in plan_epoch(lengths, 32, seed=0, epoch=0)]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


def test_the_plan_pads_at_most_a_third_of_what_a_random_plan_pads() -> None:
    lengths = lengths_of(5000)
    planned = plan_epoch(lengths, 32, seed=0, epoch=0)
    order = np.random.default_rng(0).permutation(len(lengths))
    drawn = [order[start : start + 32] for start in range(0, len(order), 32)]
    assert padding(planned, lengths) <= padding(drawn, lengths) / 3


@pytest.mark.parametrize("accumulation", [1, 2, 4])
@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize(("rows", "batch_size"), SHAPES)
def test_what_all_processes_see_in_a_step_is_the_global_batch(
    rows: int, batch_size: int, world_size: int, accumulation: int
) -> None:
    for epoch in range(2):
        plan = plan_epoch(lengths_of(rows), batch_size, seed=7, epoch=epoch)
        steps = steps_of_all_ranks(rows, batch_size, world_size, accumulation, epoch)
        assert len(steps) == len(plan)
        places: list[int] = []
        for batch, micro_batches in zip(plan, steps, strict=True):
            pairs = [pair for micro in micro_batches for pair in micro]
            assert [draw.row for draw in pairs if draw.counts] == batch.tolist()
            sizes = [sum(draw.counts for draw in micro) for micro in micro_batches]
            assert max(sizes) - min(sizes) <= 1
            places += [draw.place for draw in pairs if draw.counts and draw.epoch == epoch]
            # A filler stands only where a micro-batch would be empty, and is a row of the batch.
            for micro in micro_batches:
                fillers = [draw.row for draw in micro if not draw.counts]
                assert micro
                assert not fillers or (len(micro) == 1 and fillers[0] in batch)
        assert places == list(range(rows))  # every time that a row is read has a number


@pytest.mark.parametrize(("rows", "batch_size"), SHAPES)
def test_processes_can_stand_in_for_accumulation(rows: int, batch_size: int) -> None:
    alone = steps_of_all_ranks(rows, batch_size, world_size=1, accumulation=4)
    for world_size, accumulation in ((2, 2), (4, 1)):
        assert steps_of_all_ranks(rows, batch_size, world_size, accumulation) == alone


@pytest.mark.parametrize(
    ("batch_size", "micro", "world_size", "steps"),
    [
        (32, None, 1, 1),
        (32, None, 8, 1),
        (32, 8, 1, 4),
        (32, 8, 2, 2),
        (32, 8, 4, 1),
        (32, 8, 8, 1),
        (32, 12, 1, 3),
        (32, 5, 3, 3),
        (32, 32, 2, 1),
        (1, 1, 8, 1),
    ],
)
def test_accumulation_makes_up_the_global_batch(
    batch_size: int, micro: int | None, world_size: int, steps: int
) -> None:
    assert accumulation_steps(batch_size, micro, world_size) == steps


@pytest.mark.parametrize("world_size", [1, 2, 3, 8])
@pytest.mark.parametrize("micro", [1, 3, 5, 8, 32])
def test_no_micro_batch_is_larger_than_was_asked(world_size: int, micro: int) -> None:
    accumulation = accumulation_steps(32, micro, world_size)
    for micro_batches in steps_of_all_ranks(101, 32, world_size, accumulation):
        assert max(len(rows) for rows in micro_batches) <= micro


@pytest.mark.parametrize("max_tokens", [1, 100, 256, 1000, 10**6])
def test_inference_keeps_to_its_tokens_and_answers_each_row_once(max_tokens: int) -> None:
    lengths = lengths_of(300)
    batches = plan_inference(lengths, max_tokens)
    assert sorted(np.concatenate(batches)) == list(range(300))
    for rows in batches:
        # Only a row that is too long by itself may be more, and then it stands alone.
        assert len(rows) == 1 or len(rows) * lengths[rows].max() <= max_tokens
    if max_tokens == 10**6:
        assert len(batches) == 1
    if max_tokens == 1:
        assert len(batches) == 300


def test_inference_fills_its_batches() -> None:
    batches = plan_inference(np.full(20, 10), max_tokens=40)
    assert [len(rows) for rows in batches] == [4] * 5


def test_inference_on_no_rows_is_no_batches() -> None:
    assert plan_inference(np.array([], dtype=np.int64), 100) == []
