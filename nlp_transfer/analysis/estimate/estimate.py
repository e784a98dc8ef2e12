"""Estimates every strategy of the list for a task: what fits, how long it takes, what it needs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nlp_transfer.analysis.estimate.device import HALVED, Device, seconds_on
from nlp_transfer.analysis.estimate.fitting import Fit, fit_of
from nlp_transfer.config.composition import compose, without_keys
from nlp_transfer.config.constants import AUTO
from nlp_transfer.config.groups import group_options
from nlp_transfer.config.schema import Config
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.preparation import encode_label_texts, load_and_encode
from nlp_transfer.models.strategies.auto_strategy import candidates
from nlp_transfer.models.strategies.recipes import Recipe
from nlp_transfer.run_setup import set_up
from nlp_transfer.run_state import RunSetup
from nlp_transfer.runs.folder import RunFolder, State
from nlp_transfer.runs.identity import run_path
from nlp_transfer.runs.names import RUN_FILE
from nlp_transfer.training.context import TrainingContext
from nlp_transfer.training.forecast.forecast import (
    RecipeForecast,
    activation_bytes,
    forecast_recipe,
)
from nlp_transfer.training.forecast.ledger import Correction, correction, remember
from nlp_transfer.training.forecast.timed_recipes import (
    host_bytes,
    machine_estimate,
    processor_total,
    total_seconds,
)
from nlp_transfer.training.forecast.timing import parts_of_step
from nlp_transfer.utils.device import trim_memory
from nlp_transfer.utils.files import write_json
from nlp_transfer.utils.logging import logger
from nlp_transfer.utils.memory import held_bytes


@dataclass(frozen=True)
class Row:
    """One strategy: what it takes, or why it cannot be trained here."""

    strategy: str
    command: str
    failed: str | None = None
    recipes: tuple[str, ...] = ()  # that `auto` compares
    steps: int = 0  # of the final model
    seconds: tuple[float, float, float] = (0.0, 0.0, 0.0)  # at least, expected, at most
    processor: float = 0.0  # seconds of the processor: of a CPU those of all threads
    host: int | None = None  # bytes at the peak
    device: int | None = None  # bytes at the peak, where the device has memory of its own
    disk: int = 0  # bytes
    fit: Fit | None = None


@dataclass(frozen=True)
class Estimates:
    """Every strategy, and how good the last estimates were."""

    rows: list[Row]
    strategy: str  # the strategy of the configuration
    texts: int  # labelled
    folds: int
    device: Device | None  # None: this machine
    correction: Correction

    @property
    def refused(self) -> Row | None:
        """The strategy of the configuration, where it does not fit."""
        own = [row for row in self.rows if row.strategy == self.strategy]
        return next((row for row in own if row.fit is not None and not row.fit.fits), None)

    def as_dict(self) -> dict[str, Any]:
        """For other programs."""
        entries = asdict(self)
        entries.pop("correction")
        entries["outcomes"] = [asdict(outcome) for outcome in self.correction.outcomes]
        return entries


def estimate(
    overrides: Sequence[str],
    config_dir: str | Path | None = None,
    device: Device | None = None,
    only: Sequence[str] = (),
    config: Config | None = None,
) -> Estimates:
    """Time a few steps of every stage of every strategy, and count what there is to do.

    Args:
        overrides: as `nlp-transfer train` takes them.
        device: a machine that is not here; None: this one.
        only: strategies; none: all of the list.
        config: of the overrides, where that is composed already.

    Raises:
        UserError: if the configuration or the data are wrong.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(ExitCode.CONFIG, "estimate runs in one process. Start it without torchrun.")
    config = config or compose(*overrides, config_dir=config_dir, in_memory=False)
    setup = set_up(config)
    known = correction(setup.process)
    names = only or _strategies(config, config_dir)
    with _context(setup) as context:
        before = held_bytes()
        timed: dict[str, RecipeForecast] = {}
        question = _Question(overrides, config_dir, setup, device, known)
        rows = []
        for name in names:
            logger.info("%s", name)
            rows.append(_row(name, question, context, timed, before))
            trim_memory()
    return Estimates(
        rows,
        config.strategy.name,
        setup.corpus.labelled_rows,
        question.folds,
        device,
        known,
    )


def _strategies(config: Config, config_dir: str | Path | None) -> list[str]:
    """That of the configuration first, then the others of the list."""
    names = [name for name, _ in group_options("strategy", config_dir)]
    own = config.strategy.name
    return [own, *(name for name in names if name != own)]


@contextmanager
def _context(setup: RunSetup) -> Iterator[TrainingContext]:
    """As a run has it, in a folder that is thrown away."""
    pretrained, encoded = load_and_encode(setup.config, setup.corpus, setup.process)
    labels = encode_label_texts(setup.config, setup.corpus, pretrained)
    with tempfile.TemporaryDirectory() as path:
        write_json(Path(path) / RUN_FILE, {})
        folder = RunFolder(Path(path), State.absent, setup.process)
        yield TrainingContext(pretrained, encoded, labels, setup.metrics, setup.config, folder)


@dataclass(frozen=True)
class _Question:
    """What every strategy is asked."""

    overrides: Sequence[str]
    config_dir: str | Path | None
    setup: RunSetup
    device: Device | None
    known: Correction

    @property
    def folds(self) -> int:
        """Of cross-validation; 0: a validation split decides."""
        folds = self.setup.corpus.folds
        return 0 if folds is None else int(folds.max()) + 1


def _row(
    name: str,
    question: _Question,
    context: TrainingContext,
    timed: dict[str, RecipeForecast],
    before: int | None,
) -> Row:
    setup, device, overrides = question.setup, question.device, question.overrides
    words = without_keys(overrides, "strategy")
    words = words if name == AUTO else [*words, f"strategy={name}"]
    command = " ".join(["nlp-transfer train", *words])
    try:
        config = compose(*words, config_dir=question.config_dir, in_memory=False)
        context = replace(context, config=config)
        kind = context.pretrained.model.config.model_type
        recipes = candidates(config, setup.corpus, kind)
        forecasts = [_forecast(context, setup, recipe, timed) for recipe in recipes]
    except UserError as error:
        logger.info("  %s", error)
        return Row(name, command, " ".join(str(error).split()))
    last = forecasts[-1]
    seconds = question.known.range_of(total_seconds(forecasts, config))
    if device is None:
        path = run_path(config, setup.corpus.fingerprint, setup.code)
        remember(machine_estimate(forecasts, config, path, setup.process, before))
    else:
        parts = [seconds_on(device, context, forecast, question.folds) for forecast in forecasts]
        least, expected, most = (sum(values) for values in zip(*parts, strict=True))
        seconds = (least, expected, most)
    host, own = _memory(forecasts, context, device, before)
    if own is None and host is not None:
        host = int(question.known.memory_factor * host)
    return Row(
        name,
        command,
        None,
        tuple(forecast.name for forecast in forecasts),
        last.steps,
        seconds,
        question.known.factor * processor_total(forecasts),
        host,
        own,
        max(forecast.disk for forecast in forecasts),
        fit_of(forecasts, context, device, host, own),
    )


def _forecast(
    context: TrainingContext, setup: RunSetup, recipe: Recipe, timed: dict[str, RecipeForecast]
) -> RecipeForecast:
    """Timed once: `auto` compares strategies that are on the list themselves."""
    key = repr((recipe.strategy.stages, recipe.label_names, recipe.strategy.solve_head))
    if key not in timed:
        timed[key] = forecast_recipe(context, setup.corpus, recipe)
    return replace(timed[key], name=recipe.name)


def _memory(
    forecasts: Sequence[RecipeForecast],
    context: TrainingContext,
    device: Device | None,
    before: int | None,
) -> tuple[int | None, int | None]:
    """Bytes at the peak: of the host, and of a device with memory of its own."""
    training = max(forecast.memory for forecast in forecasts)
    if device is None and context.folder.process.device.type == "cpu":
        return None if before is None else host_bytes(forecasts, before), None
    if device is None:
        return before, training
    parts = parts_of_step(context.config, context.folder.process)
    activations = max(
        activation_bytes(stage, context, parts)
        for forecast in forecasts
        for stage in forecast.timing.stages
    )
    return before, int(training - (1 - HALVED) * activations)
