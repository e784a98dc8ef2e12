"""One stage and all that it is done with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedModel, TrainingArguments

from nlp_transfer.config.choices import Parallel, Solver
from nlp_transfer.config.schema import Config
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.metric_set import Metrics
from nlp_transfer.inference.torch_engine import predict_logits
from nlp_transfer.models.loading import Pretrained
from nlp_transfer.models.strategies.stages import Stage
from nlp_transfer.problems import Problem
from nlp_transfer.tokenization.encoded import Encoded
from nlp_transfer.training.extensions import NO_EXTENSIONS, Extensions
from nlp_transfer.training.losses import Loss, find_loss, losses_of_rows
from nlp_transfer.training.objectives.augmentation import is_augmented
from nlp_transfer.training.objectives.class_weights import weigh_labels
from nlp_transfer.training.objectives.target_scaling import TargetScaler
from nlp_transfer.training.optimization.best_epoch import ValidationResult
from nlp_transfer.utils.distributed import ProcessContext


@dataclass(frozen=True)
class StageRun:
    """One stage and all that it is done with."""

    pretrained: Pretrained
    encoded: Encoded
    scaler: TargetScaler
    stage: Stage
    metrics: Metrics
    config: Config
    process: ProcessContext
    arguments: TrainingArguments
    earlier: Sequence[Stage] = ()  # the stages before it
    extensions: Extensions = NO_EXTENSIONS

    @property
    def is_sharded(self) -> bool:
        """Whether the processes hold a slice of the model each, while this stage trains it."""
        by_gradient = self.stage.solver is Solver.gradient
        sharded = self.config.training.parallel is Parallel.fsdp
        return sharded and by_gradient and self.process.world_size > 1

    @property
    def has_validation(self) -> bool:
        """Whether there is something to measure; where not, the last weights are kept."""
        return "validation" in self.encoded.splits and self.loss.reads_logits

    @property
    def labels_read(self) -> bool:
        """Whether an earlier stage has learned from the labels."""
        return any(self._loss_of(stage).reads_labels for stage in self.earlier)

    @property
    def augments_texts(self) -> bool:
        """Whether the texts of train are changed each time that they are read."""
        by_gradient = self.stage.solver is Solver.gradient
        return by_gradient and is_augmented(self.config.training, self.loss)

    @property
    def crops_texts(self) -> bool:
        """Whether texts are so long that only parts of them are read, drawn each time."""
        longest = self.encoded.splits["train"].inputs.lengths.max(initial=0)
        is_pair = self.config.dataset.text_pair is not None
        return self.stage.crop is not None and longest > self.stage.crop and not is_pair

    @property
    def loss(self) -> Loss:
        """What this stage minimises."""
        return self._loss_of(self.stage)

    def _loss_of(self, stage: Stage) -> Loss:
        return loss_of(stage, self.config, self.metrics.problem, self.extensions)

    def measure(self, encoded: Encoded, model: PreTrainedModel) -> ValidationResult:
        """Validation metrics and losses of the model as it is now.

        Args:
            encoded: what the stage reads, tokens or stored features.
        """
        validation, tokens = encoded.splits["validation"], self.config.evaluation.max_tokens
        logits = predict_logits(model, validation.inputs, encoded.collator, tokens, self.process)
        original = self.scaler.original
        return ValidationResult(
            self.metrics.compute(original(logits), original(validation.labels)),
            losses_of_rows(self._validation_loss, logits, validation.labels),
        )

    @property
    def _validation_loss(self) -> Loss:
        """That of the stage, or of the problem where the stage does not compare with labels."""
        return self.loss if self.loss.reads == "logits" else find_loss(None, self.metrics.problem)

    @property
    def label_weights(self) -> np.ndarray | None:
        """How much a row of each label counts."""
        references = self.encoded.splits["train"].labels
        model_config = self.pretrained.model.config
        labels = tuple(model_config.id2label[i] for i in range(model_config.num_labels))
        problem = self.metrics.problem
        return weigh_labels(references, labels, problem, self.config.training.class_weights)


def loss_of(
    stage: Stage, config: Config, problem: Problem, extensions: Extensions = NO_EXTENSIONS
) -> Loss:
    """The loss that a stage names, or that of the run.

    Raises:
        UserError: there is none of this name, it is not for this problem, or not for this stage.
    """
    loss = extensions.find_loss(stage.loss, config.training.loss, problem)
    if loss.reads_logits is not stage.head:
        needs = f"reads {loss.reads}: the head has nothing to learn from it"
        if not stage.head:
            needs = "reads logits: the head has to learn"
        raise UserError(
            ExitCode.CONFIG,
            f"Stage {stage.name}: the loss {loss.name} {needs}. Set "
            f"strategy.stages.{stage.name}.head={str(not stage.head).lower()}.",
        )
    if stage.consistency and (loss.reads != "logits" or stage.solver is Solver.exact):
        solved = "the head is solved exactly, without readings"
        reason = solved if loss.reads == "logits" else f"the loss {loss.name} reads {loss.reads}"
        raise UserError(
            ExitCode.CONFIG,
            f"Stage {stage.name}: strategy.stages.{stage.name}.consistency={stage.consistency:g} "
            f"compares two answers to a text, and {reason}.",
        )
    if stage.crop is not None and loss.reads != "embeddings":
        raise UserError(
            ExitCode.CONFIG,
            f"Stage {stage.name}: strategy.stages.{stage.name}.crop={stage.crop} is for a loss "
            f"that compares embeddings, such as contrastive; the loss is {loss.name}.",
        )
    if (loss.reads == "teacher") is not bool(stage.teacher):
        raise UserError(
            ExitCode.CONFIG,
            f"Stage {stage.name}: strategy.stages.{stage.name}.teacher={stage.teacher}, and the "
            f"loss is {loss.name}. A teacher goes with loss=distillation, and it with a teacher.",
        )
    return loss
