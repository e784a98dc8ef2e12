"""What both estimators share: from their parameters to a run, and the folder that it leaves."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from datasets import Dataset, Features, Value
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from transformers import TrainerCallback

from nlp_transfer.config.composition import compose, without_keys
from nlp_transfer.config.constants import AUTO, CROSS_VALIDATION
from nlp_transfer.config.groups import GROUPS, group_options
from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.labels.column import LabelColumn
from nlp_transfer.data.memory import with_tables
from nlp_transfer.data.sources import Source
from nlp_transfer.errors import ExitCode, InputError, UserError
from nlp_transfer.estimator.stored_run import PREFIX, StoredRun
from nlp_transfer.estimator.texts import (
    TextColumns,
    other_length,
    read_texts,
    refuse_other_length,
    refuse_other_shape,
)
from nlp_transfer.evaluation.registry import Metric
from nlp_transfer.inference.classifier import Classifier
from nlp_transfer.pipeline import complete, set_up
from nlp_transfer.reporting.drawing import draw_report
from nlp_transfer.reporting.result import Result
from nlp_transfer.training.extensions import Extensions, MetricFunction, with_loss
from nlp_transfer.training.losses import Loss
from nlp_transfer.utils.files import read_json, write_json
from nlp_transfer.utils.logging import libraries_as_before, warnings_only

FEWEST = 2  # texts that can be fitted
ESTIMATOR_FILE = "estimator.json"  # in a saved folder: what the run does not know
# Removed from a temporary folder when the run is finished.
CACHES = ("tokens", "features")
Overrides = Sequence[str] | Mapping[str, Any]
LABELS = LabelColumn("y", "Give labels that several texts share.", "take TextRegressor")


class TextEstimator(BaseEstimator):
    """Parameters, the run that they make, and its folder; not to be used itself."""

    SAVED: ClassVar[tuple[str, ...]] = ("checkpoint", "strategy", "seed", "verbose")

    def __init__(  # noqa: PLR0913
        self,
        checkpoint: str = "minilm",
        strategy: str = AUTO,
        *,
        seed: int = 42,
        overrides: Overrides | None = None,
        run_dir: str | Path | None = None,
        metrics: Sequence[Metric | MetricFunction] = (),
        callbacks: Sequence[TrainerCallback] = (),
        loss: Loss | Callable[..., Any] | None = None,
        verbose: bool = False,
    ) -> None:
        self.checkpoint = checkpoint
        self.strategy = strategy
        self.seed = seed
        self.overrides = overrides
        self.run_dir = run_dir
        self.metrics = metrics
        self.callbacks = callbacks
        self.loss = loss
        self.verbose = verbose

    @property
    def report_(self) -> Result:
        """The run: its metrics, and `report_.show()` for the report."""
        return self._stored().result

    @property
    def cross_validation_(self) -> dict[str, Any] | None:
        """Figures of the rows by models that have not seen them; None: a validation part decided.

        As in `metrics.json`: `rows`, `metrics`, `intervals`, `per_class` and more.
        """
        return self._stored().result.metrics.get(CROSS_VALIDATION)

    @property
    def classifier_(self) -> Classifier:
        """The exported model."""
        return self._stored().classifier

    def save(self, folder: str | Path) -> Path:
        """Copy the run into a folder: `model/`, the report and the figures.

        The folder is that of a run, for every command; the exported checkpoint is `model/`. The
        report shows rows of the data. Metrics, callbacks and a loss that were given are not kept.

        Raises:
            UserError: the folder holds something.
        """
        stored, target = self._stored(), Path(folder)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise UserError(
                ExitCode.RUN_FOLDER,
                f"{target} exists and is not empty; expected a new folder. Name another, or remove "
                "it.",
            )
        draw_report(stored.folder)
        shutil.copytree(
            stored.folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".lock")
        )
        parameters = {name: getattr(self, name) for name in self.SAVED}
        overrides = self.overrides or None
        if isinstance(overrides, Mapping):
            parameters["overrides"] = dict(overrides)
        else:
            parameters["overrides"] = None if overrides is None else list(overrides)
        fitted = {**self._fitted_state(), "paired": self._paired}
        about = {"estimator": type(self).__name__, "parameters": parameters, "fitted": fitted}
        write_json(target / ESTIMATOR_FILE, about)
        return target

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """A fitted estimator from a folder that `save` wrote, which it uses and leaves there.

        Raises:
            UserError: it is another folder.
        """
        place = Path(folder)
        file = place / ESTIMATOR_FILE
        about = read_json(file) if file.is_file() else {}
        if about.get("estimator") != cls.__name__:
            content = f"one of {about['estimator']}" if about else f"no {ESTIMATOR_FILE} in it"
            content = content if place.is_dir() else "no such folder"
            raise UserError(
                ExitCode.RUN_FOLDER,
                f"{place} does not hold a {cls.__name__}: expected a folder that save() wrote, "
                f"found {content}. Classifier.load opens runs and exported folders.",
            )
        estimator = cls(**about["parameters"])
        estimator._paired = about["fitted"].pop("paired")
        estimator._restore(about["fitted"])
        estimator._run = StoredRun(place)
        return estimator

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:  # the name is scikit-learn's
        return re.sub(r"\s*\n\s*", " ", super().__repr__(N_CHAR_MAX))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_run")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.target_tags.required = True
        return tags

    def _fit(self, config: Config, columns: TextColumns, labels: list[Any], kind: Any) -> None:
        """Run the pipeline on texts and labels; afterwards `_run` is its folder.

        Args:
            kind: of the label column, a feature of `datasets`.
        """
        if len(columns) != len(labels):
            raise other_length(len(columns), len(labels))
        if len(columns) < FEWEST:
            raise InputError(f"X has n_samples={len(columns)}; expected at least {FEWEST} texts.")
        paired = columns.pairs is not None
        pair = "text_pair" if paired else None
        config = replace(config, dataset=replace(config.dataset, text_pair=pair))
        temporary = None if self.run_dir is not None else Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            config = self._placed(config, temporary)
            folder = self._complete(config, _table(columns, labels, kind))
        except BaseException:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
            raise
        if temporary is not None:
            for cache in CACHES:
                shutil.rmtree(temporary / cache, ignore_errors=True)
        self._run = StoredRun(folder, temporary)
        self._paired = paired

    def _complete(self, config: Config, table: Dataset) -> Path:
        """The folder of the finished run."""
        tables = {"train": Source("X", table, label_column=LABELS)}
        config = with_tables(config, tables)
        extensions = Extensions.of(self.metrics, self.callbacks, self.loss)
        config = with_loss(config, extensions.loss)
        with libraries_as_before(), nullcontext() if self.verbose else warnings_only():
            return complete(
                set_up(config, tables, extensions), report=self.verbose, summary=self.verbose
            ).folder

    def _config(self, problem: str) -> Config:
        """The configuration of the parameters; overrides win.

        Raises:
            UserError: they name something that does not exist, or that `X` and `y` are.
        """
        overrides = self.overrides or ()
        if isinstance(overrides, str):
            raise InputError(
                f"overrides is {overrides!r}; expected a list of overrides, or a mapping, as in "
                "overrides={'training.batch_size': 32}."
            )
        words, options = list(overrides), {}
        if isinstance(overrides, Mapping):
            words = [f"{key}={value}" for key, value in overrides.items() if key in GROUPS]
            options = {key: value for key, value in overrides.items() if key not in GROUPS}
        names = {word.partition("=")[0].lstrip("+") for word in words}
        # The caller of an estimator holds test rows back.
        settings = {"seed": self.seed, "dataset.problem": problem, "dataset.test_fraction": 0.0}
        settings["export.fresh_process"] = self.run_dir is not None
        groups = ["+task=classify", f"strategy={self.strategy}"]
        if self.checkpoint in [name for name, _ in group_options("checkpoint")]:
            groups.append(f"checkpoint={self.checkpoint}")
        elif "checkpoint" not in names:
            settings["checkpoint.name"] = str(self.checkpoint)
        settings = {key: value for key, value in settings.items() if key not in names}
        groups = without_keys(groups, *names)
        config = compose(*groups, *words, settings={**settings, **options})
        if config.dry_run:
            raise InputError("overrides has dry_run=true, which fits nothing. Leave it out.")
        for name in ("text", "text_pair", "label"):
            if getattr(config.dataset, name) != getattr(DatasetConfig, name):
                raise InputError(
                    f"overrides has dataset.{name}, which names a column; X and y are the columns. "
                    "Leave it out."
                )
        return config

    def _placed(self, config: Config, temporary: Path | None) -> Config:
        """The configuration with the folders of this fit."""
        if temporary is None:
            return replace(config, run_dir=str(self.run_dir))
        tokens, features = (str(temporary / cache) for cache in CACHES)
        return replace(
            config,
            run_dir=str(temporary / "run"),
            tokenization=replace(config.tokenization, folder=tokens),
            features=replace(config.features, folder=features),
        )

    def _stored(self) -> StoredRun:
        if not hasattr(self, "_run"):
            raise NotFittedError(
                f"This {type(self).__name__} is not fitted yet: call fit with texts and labels."
            )
        return self._run

    def _probabilities(self, x: Any) -> tuple[np.ndarray, np.ndarray]:
        """Of every row, float64 [rows, labels], NaN where there is no text; and which have one."""
        classifier = self._stored().classifier
        columns = self._read(x)
        refuse_other_shape(columns, self._paired)
        answerable = columns.answerable
        probabilities = np.full((len(columns), len(classifier.labels)), np.nan)
        if answerable.any():
            rows = np.flatnonzero(answerable)
            texts = [columns.texts[row] for row in rows]
            pairs = None if columns.pairs is None else [columns.pairs[row] for row in rows]
            probabilities[rows] = classifier.probabilities(texts, pairs)
        return probabilities, answerable

    def _read(self, x: Any, y: Any = None) -> TextColumns:
        columns = read_texts(x)
        refuse_other_length(columns, y)
        return columns

    def _fitted_state(self) -> dict[str, Any]:
        """What `fit` learned beside the run, for JSON."""
        raise NotImplementedError

    def _restore(self, fitted: dict[str, Any]) -> None:
        """Set what `_fitted_state` gave."""
        raise NotImplementedError


def _table(columns: TextColumns, labels: list[Any], kind: Any) -> Dataset:
    cells: dict[str, list[Any]] = {"text": columns.texts, "label": labels}
    kinds = {"text": Value("string"), "label": kind}
    if columns.pairs is not None:
        cells["text_pair"], kinds["text_pair"] = columns.pairs, Value("string")
    return Dataset.from_dict(cells, Features(kinds))
