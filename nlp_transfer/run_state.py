"""What each step of the pipeline hands to the next; frozen, in the order in which they are made."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from transformers import PreTrainedModel

from nlp_transfer.config.schema import Config
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.evaluation.calibration import Calibration
from nlp_transfer.evaluation.evaluator import SplitEvaluation
from nlp_transfer.evaluation.metric_set import Metrics
from nlp_transfer.evaluation.thresholds import ChosenThresholds
from nlp_transfer.models.strategies.stages import Stage
from nlp_transfer.runs.folder import RunFolder
from nlp_transfer.runs.identity import CodeDigests
from nlp_transfer.training.context import TrainingContext
from nlp_transfer.training.extensions import NO_EXTENSIONS, Extensions
from nlp_transfer.training.loop import Trained
from nlp_transfer.training.refit import HeldOutModel
from nlp_transfer.training.selection import Selection
from nlp_transfer.utils.distributed import ProcessContext

SHORT_RUN = 2_000  # labelled rows: with fewer, a run takes minutes


@dataclass(frozen=True)
class RunSetup:
    """A checked configuration, its data, the metrics of the run, and what Python adds."""

    config: Config
    corpus: Corpus
    metrics: Metrics
    process: ProcessContext
    extensions: Extensions = NO_EXTENSIONS
    code: CodeDigests = field(default_factory=dict)
    """Digests of code outside this package: what was given from Python, and what is registered."""

    @property
    def verifies_soon(self) -> bool:
        """Whether the process that verifies may start at once: it waits minutes, not hours."""
        alone = self.process.is_first and self.config.export.fresh_process
        return alone and self.corpus.labelled_rows < SHORT_RUN


@dataclass(frozen=True)
class Prepared:
    """A run's setup with its folder, the pretrained model and the encoded splits."""

    setup: RunSetup
    context: TrainingContext
    start: float
    """Seconds of the clock, as `time.time` gives them."""
    processor_start: float
    """The same by `processor_seconds`."""

    @property
    def folder(self) -> RunFolder:
        """Where the run keeps everything."""
        return self.context.folder


@dataclass(frozen=True)
class Fitted:
    """A plain model, how it came about, and answers to rows it has not learned from."""

    prepared: Prepared
    config: Config
    """With the strategy that was chosen."""
    selection: Selection
    answers: dict[str, np.ndarray]
    """Logits by split, of models that have not learned from its rows."""
    trained: Trained
    stages: list[Stage]
    held_out: HeldOutModel | None
    """None: the final model itself is measured, or folds are."""

    @property
    def model(self) -> PreTrainedModel:
        """The final model."""
        return self.trained.model


@dataclass(frozen=True)
class Measured:
    """A calibrated model and what it is worth on each split."""

    fitted: Fitted
    calibration: Calibration
    thresholds: ChosenThresholds
    evaluations: dict[str, SplitEvaluation]
    ms_per_text: float | None
    """None: no split was answered by the final model."""
