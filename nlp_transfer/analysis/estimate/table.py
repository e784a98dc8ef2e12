"""Estimates for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from nlp_transfer.analysis.estimate.estimate import Estimates, Row
from nlp_transfer.training.forecast.ledger import describe
from nlp_transfer.utils.text import aligned, wrapped

HEAD = ["strategy", "steps", "minutes", "range", "memory GB", "disk GB", ""]
BUSY = 1.5  # seconds a second of the processor, the process that verifies included


def estimates_text(estimates: Estimates) -> str:
    """A table, what does not fit, and how good the last estimates were."""
    return "\n".join(_lines(estimates))


def _lines(estimates: Estimates) -> Iterator[str]:
    folds = f", {estimates.folds} folds" if estimates.folds else ""
    where = "on this machine, as busy as it is now"
    if estimates.device is not None:
        device = estimates.device
        where = f"on paper: {device.name}, {device.gigabytes:g} GB, {device.teraflops:g} TFLOPS"
    yield f"{estimates.texts:,} labelled texts{folds}; {where}"
    yield ""
    done = [row for row in estimates.rows if row.failed is None]
    yield from aligned([HEAD, *(_cells(row) for row in done)])
    yield ""
    for row in done:
        if len(row.recipes) > 1 or row.strategy == "auto":
            verb = "compares" if len(row.recipes) > 1 else "takes"
            yield from wrapped(f"{row.strategy} {verb} {' and '.join(row.recipes)}.")
    for row in estimates.rows:
        if row.failed is not None:
            yield from wrapped(f"{row.strategy}: not here. {row.failed}")
    for row in done:
        if row.fit is not None and not row.fit.fits:
            yield from _unfit(row)
    if estimates.device is None:
        yield from _busy(estimates)
        yield from wrapped(describe(estimates.correction.outcomes))
    else:
        yield from wrapped(
            "On paper, steps reach a quarter of the rate (range: a half to a tenth); reading the "
            "data, export and verification are not counted."
        )


def _busy(estimates: Estimates) -> Iterator[str]:
    own = [row for row in estimates.rows if row.strategy == estimates.strategy and not row.failed]
    for row in own:
        if row.seconds[1] > BUSY * row.processor:
            minutes = _minutes(row.processor / 60)
            yield from wrapped(
                f"Others compute on this machine: {row.strategy} needs {minutes} minutes of a "
                "processor, and as long as that where nobody else does."
            )


def _cells(row: Row) -> list[str]:
    low, expected, high = (value / 60 for value in row.seconds)
    memory = row.device if row.device is not None else row.host
    fits = row.fit is None or row.fit.fits
    return [
        row.strategy,
        f"{row.steps:,}" if row.steps else "solved",
        _minutes(expected),
        f"{_minutes(low)} to {_minutes(high)}",
        "?" if memory is None else f"{memory / 1e9:.1f}",
        f"{row.disk / 1e9:.2f}",
        "" if fits else "does not fit",
    ]


def _minutes(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def _unfit(row: Row) -> Iterator[str]:
    assert row.fit is not None
    yield (
        f"{row.strategy} needs {row.fit.needed / 1e9:.1f} GB, and {row.fit.free / 1e9:.1f} GB are "
        "free. What would make it fit:"
    )
    for remedy in row.fit.remedies:
        yield from wrapped(f"  {remedy}")
