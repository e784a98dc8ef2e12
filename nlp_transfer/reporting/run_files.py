"""What a measured run writes down in `metrics.json` and `run.json`."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from nlp_transfer.quality.findings import cautions
from nlp_transfer.reporting.figures import (
    describe_calibration,
    no_test_note,
    refit_note,
    split_figures,
)
from nlp_transfer.reporting.splits import reported_split
from nlp_transfer.run_state import Measured
from nlp_transfer.runs.provenance import provenance
from nlp_transfer.runs.record import RunEntries
from nlp_transfer.training.forecast.clock import processor_seconds
from nlp_transfer.training.plan import describe_stages
from nlp_transfer.utils.files import read_json
from nlp_transfer.utils.memory import device_peak_bytes, peak_bytes


def metrics_of(measured: Measured) -> dict[str, dict[str, Any]]:
    """The content of `metrics.json`, with what to know of the figures."""
    fitted, evaluations = measured.fitted, measured.evaluations
    corpus, report = fitted.prepared.setup.corpus, fitted.prepared.context.folder.data_report
    notes = cautions(read_json(report)["findings"]) if report.is_file() else {}
    if fitted.held_out is not None:
        notes.setdefault(reported_split(fitted.answers), []).append(
            refit_note(corpus.labelled_rows)
        )
    return split_figures(evaluations, no_test_note(corpus.splits, evaluations), notes)


def entries_of(
    measured: Measured, verified: dict[str, Any], predictions: dict[str, str], length: int
) -> RunEntries:
    """The entries of `run.json`.

    Args:
        verified: what the comparison of the exported folder gave.
        predictions: as `write_predictions` gives it.
        length: tokens of the longest input.
    """
    fitted, evaluations = measured.fitted, measured.evaluations
    setup, prepared = fitted.prepared.setup, fitted.prepared
    corpus, splits = setup.corpus, prepared.context.encoded.splits
    stages, refit = describe_stages(fitted.stages, fitted.trained.history), None
    if fitted.held_out is not None:  # the model that the figures are of
        refit = {"rows": corpus.labelled_rows, "stages": stages}
        stages = describe_stages(fitted.held_out.stages, fitted.held_out.history)
    return RunEntries(
        seed=setup.config.seed,
        problem=corpus.problem.name,
        labels=corpus.labels,
        lower_is_better=[m.name for m in setup.metrics.metrics if not m.greater_is_better],
        rows={name: len(split.labels) for name, split in splits.items()},
        cut={name: split.cut for name, split in splits.items()},
        max_length=length,
        folds=0 if corpus.folds is None else int(corpus.folds.max()) + 1,
        recipe=fitted.selection.recipe.name,
        ladder=fitted.selection.as_entries(),
        stages=stages,
        refit=refit,
        thresholds=asdict(measured.thresholds),
        calibration=describe_calibration(measured.calibration, evaluations),
        verified=verified,
        predictions=predictions,
        ms_per_text=measured.ms_per_text,
        seconds=round(time.time() - prepared.start, 2),
        processor_seconds=round(
            processor_seconds(setup.process.device) - prepared.processor_start, 2
        ),
        peak_memory={"host": peak_bytes(), "device": device_peak_bytes()},
        budget=None if prepared.context.budget is None else prepared.context.budget.as_entry(),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        **provenance(fitted.config, fitted.model.config, setup.process),
    )
