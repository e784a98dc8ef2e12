"""What a stage that is trained by gradient reads in each step, and what it minimises."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nlp_transfer.models.checkpoints.masked_lm import MaskedLMHead, last_states
from nlp_transfer.models.strategies.stages import stage_steps
from nlp_transfer.tokenization.batches import special_tokens_of
from nlp_transfer.tokenization.encoded import Encoded, EncodedSplit, TrainingRows
from nlp_transfer.tokenization.encoding import input_length
from nlp_transfer.training.losses import LossOptions, document_loss
from nlp_transfer.training.objectives.adaptation import (
    NOT_MASKED,
    MaskedRows,
    SimCSEBatches,
    adaptation_texts,
    held_out_passes_loss,
    held_out_tokens_loss,
    refuse_no_dropout,
    refuse_no_mask,
)
from nlp_transfer.training.objectives.augmentation import AugmentedTexts
from nlp_transfer.training.objectives.consistency import READINGS, has_dropout, with_consistency
from nlp_transfer.training.objectives.contrastive import (
    ContrastiveBatches,
    groups_of,
    read_embeddings,
)
from nlp_transfer.training.objectives.cropping import CroppedTexts
from nlp_transfer.training.objectives.pair_distillation import (
    REGRESSOR_RATE,
    distillation_split,
    refuse_unfitting_model,
    regressing,
)
from nlp_transfer.training.objectives.teacher import distillation_rows
from nlp_transfer.training.optimization.batching import PlannedBatches
from nlp_transfer.utils.distributed import broadcast_from_rank_zero
from nlp_transfer.utils.logging import logger

if TYPE_CHECKING:
    from nlp_transfer.training.stages.stage_run import StageRun


@dataclass(frozen=True)
class Objective:
    """The rows of a stage, the plan of its batches, its loss, and what learns beside the model."""

    rows: TrainingRows
    batches: PlannedBatches
    loss: Callable[..., torch.Tensor]
    groups: list[dict[str, Any]] = field(default_factory=list)  # of the optimizer
    held_out: Callable[[], dict[str, float]] | None = None  # the loss of texts that are not learned

    @property
    def lengths(self) -> np.ndarray:
        """int [rows], tokens of each row."""
        return self.rows.lengths

    @property
    def tokens(self) -> np.ndarray | None:
        """The tokens of all rows, int [tokens]; none where hidden states are stored instead.

        None: it is not known which will occur.
        """
        if not self.rows.is_fixed:
            return None
        ids = self.rows.split.inputs.distinct_tokens
        if ids is None:
            return np.array([], dtype=int)
        return np.append(ids, self.rows.collator.padding["input_ids"])


def objective_of(run: StageRun, encoded: Encoded) -> AbstractContextManager[Objective]:
    """The objective of a stage, by what its loss reads; hooks on the model last as long.

    Args:
        encoded: what the stage reads, tokens or stored features.
    """
    by_input = {
        "logits": _of_logits,
        "embeddings": _of_embeddings,
        "pairs": _of_pairs,
        "teacher": _of_teacher,
        "passes": _of_passes,
        "tokens": _of_tokens,
    }
    return by_input[run.loss.reads](run, encoded)


@contextmanager
def _of_logits(run: StageRun, encoded: Encoded) -> Iterator[Objective]:
    # Planned by the texts' own lengths, whatever is stored of them.
    batches = _planned(run, run.encoded.splits["train"])
    rows, loss = _train_rows(run, encoded), run.loss
    if run.stage.consistency and has_dropout(run.pretrained.model):
        rows.times, loss = READINGS, with_consistency(loss, run.stage.consistency)
    elif run.stage.consistency:
        # Both readings, and the gradients, would be those of one.
        logger.info("  the model has no dropout: each text is read once (checkpoint.dropout)")
    yield Objective(rows, batches, document_loss(loss, _options(run)))


@contextmanager
def _of_embeddings(run: StageRun, encoded: Encoded) -> Iterator[Objective]:
    train, size = run.encoded.splits["train"], run.config.training.batch_size
    batches = ContrastiveBatches(
        train.inputs.lengths,
        size,
        run.arguments.seed,
        groups=groups_of(train.labels, run.metrics.problem, size),
        steps=stage_steps(run.stage, len(train.labels), size),
        documents=train.inputs.documents,
    )
    with read_embeddings(run.pretrained) as embeddings:
        loss = document_loss(run.loss, _options(run), embeddings)
        yield Objective(_train_rows(run, encoded), batches, loss)


@contextmanager
def _of_pairs(run: StageRun, encoded: Encoded) -> Iterator[Objective]:
    """Pairs made of the training texts; every process is given those of the first."""
    refuse_unfitting_model(run.pretrained)
    train, size = run.encoded.splits["train"], run.config.training.batch_size
    make = partial(
        distillation_split,
        run.pretrained,
        train,
        encoded.collator,
        pairs=size * stage_steps(run.stage, len(train.labels), size),
        max_length=input_length(run.pretrained.max_tokens, run.config.tokenization),
        seed=run.arguments.seed,
        bf16=run.arguments.bf16,
    )
    rows = broadcast_from_rank_zero(make, run.process)
    with regressing(run.pretrained.model, rows.labels.shape[1]) as regressor:
        rate = {"lr": REGRESSOR_RATE, "weight_decay": 0.0}
        groups = [{"params": list(regressor.parameters()), **rate}]
        loss = document_loss(run.loss, _options(run))
        yield Objective(TrainingRows(rows, encoded.collator), _planned(run, rows), loss, groups)


@contextmanager
def _of_teacher(run: StageRun, encoded: Encoded) -> Iterator[Objective]:
    """The texts of train and those of a file, with the logits of the teacher for each."""
    make = partial(
        distillation_rows, run.stage, run.pretrained, run.encoded, run.config, encoded.collator
    )
    rows = broadcast_from_rank_zero(make, run.process)
    loss = document_loss(run.loss, _options(run))
    yield Objective(TrainingRows(rows, encoded.collator), _planned(run, rows), loss)


@contextmanager
def _of_passes(run: StageRun, encoded: Encoded) -> Iterator[Objective]:
    """The texts of train and those without labels, each twice."""
    refuse_no_dropout(run.pretrained, run.config.checkpoint.name)
    texts, size = adaptation_texts(run.encoded, run.config.seed), run.config.training.batch_size
    inputs = texts.learned.inputs
    batches = SimCSEBatches(inputs.lengths, size, run.arguments.seed)
    model, collator = run.pretrained.model, encoded.collator
    with read_embeddings(run.pretrained) as embeddings:
        loss = document_loss(run.loss, _options(run), embeddings)
        held_out = None
        if texts.held_out is not None:
            rows = TrainingRows(texts.held_out, collator)
            held_out = partial(held_out_passes_loss, model, rows, loss, size)
        yield Objective(TrainingRows(texts.learned, collator), batches, loss, held_out=held_out)


@contextmanager
def _of_tokens(run: StageRun, encoded: Encoded) -> Iterator[Objective]:
    """The texts of train and those without labels, with some of their tokens masked."""
    tokenizer, model = run.pretrained.tokenizer, run.pretrained.model
    refuse_no_mask(tokenizer, run.config.checkpoint.name)
    head = MaskedLMHead(run.config.checkpoint, run.pretrained)
    texts, seed = adaptation_texts(run.encoded, run.config.seed), run.arguments.seed
    rows = MaskedRows(texts.learned, encoded.collator, tokenizer, seed)
    autocast = partial(torch.autocast, model.device.type, torch.bfloat16, run.arguments.bf16)
    options = _options(run)
    with last_states(run.pretrained) as states:

        def loss(_: Any, labels: torch.Tensor, num_items_in_batch: Any) -> torch.Tensor:
            targets = labels[:, 1:]
            masked = targets != NOT_MASKED
            with autocast():
                logits = head(states()[masked])
            losses = run.loss.function(logits.float(), targets[masked][:, None], options)
            return losses.sum() / num_items_in_batch

        held_out = None
        if texts.held_out is not None:
            others = MaskedRows(texts.held_out, encoded.collator, tokenizer, 0)
            held_out = partial(held_out_tokens_loss, model, others, loss)
        yield Objective(rows, _planned(run, texts.learned), loss, held_out=held_out)


def _train_rows(run: StageRun, encoded: Encoded) -> TrainingRows:
    """The rows of train, changed or cut each time that they are read where the run asks for it."""
    train = encoded.splits["train"]
    changed, seed = None, run.arguments.seed
    if run.augments_texts:
        changed = AugmentedTexts.of(run.config, run.pretrained, train, seed)
    if not run.crops_texts:
        return TrainingRows(train, encoded.collator, changed)
    assert run.stage.crop is not None
    around = special_tokens_of(run.pretrained.tokenizer)
    cropped = CroppedTexts(train.inputs, around, run.stage.crop, seed, changed)
    return TrainingRows(train, encoded.collator, cropped, run.stage.crop)


def _planned(run: StageRun, rows: EncodedSplit) -> PlannedBatches:
    return PlannedBatches(
        rows.inputs.lengths,
        run.config.training.batch_size,
        run.arguments.seed,
        accumulation=run.arguments.gradient_accumulation_steps,
        rank=run.process.rank,
        world_size=run.process.world_size,
        documents=rows.inputs.documents,
    )


def _options(run: StageRun) -> LossOptions:
    weights = run.label_weights
    return LossOptions(
        run.config.training.label_smoothing,
        None if weights is None else torch.from_numpy(weights).float(),
        run.stage.temperature,
        run.metrics.problem,
    )
