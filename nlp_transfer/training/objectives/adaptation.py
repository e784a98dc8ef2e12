"""Stages that learn from texts alone, before any label is read (`strategy.adapt`).

`masked_lm` predicts masked tokens, as BERT does (Devlin et al. 2019, 3.1), on the texts of the task
(Gururangan et al. 2020, "Don't stop pretraining"). `simcse` gives each text to the encoder twice,
and pulls the two embeddings, which differ by dropout alone, together and away from those of all
other texts of the batch (Gao et al. 2021, "SimCSE"; as in Chen et al. 2020 both passes of the
others count).

A part of the texts is held out: the loss on it, before and after, is what the report shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.loading import Pretrained, evaluating
from nlp_transfer.tokenization.encoded import Collator, Draw, Encoded, EncodedSplit, TrainingRows
from nlp_transfer.tokenization.model_inputs import plan_inference, tokens_at_once
from nlp_transfer.tokenization.subsets import append_documents, select_documents
from nlp_transfer.training.losses import LossOptions, register_loss
from nlp_transfer.training.objectives.consistency import has_dropout
from nlp_transfer.training.objectives.contrastive import supervised_contrastive
from nlp_transfer.training.optimization.batching import PlannedBatches, plan_epoch

MASKED = 0.15  # of the tokens; of these 80% are hidden, 10% another token, 10% as they are
HIDDEN, OTHER = 0.8, 0.9
HELD_OUT, MOST_HELD_OUT, FEWEST_HELD_OUT = 0.05, 500, 8  # texts
NOT_MASKED = -1  # in the place of a token's id


@register_loss("simcse", reads="passes")
def simcse(embeddings: torch.Tensor, answers: torch.Tensor, options: LossOptions) -> torch.Tensor:
    """How far the two embeddings of each text are from one another, compared with all others.

    Args:
        embeddings: float32 [rows, width], two of each text.
        answers: the number of the text, float32 [rows, 1].
    """
    alike = (answers == answers.T).float()
    return supervised_contrastive(embeddings, alike, options.temperature)


@register_loss("masked_lm", reads="tokens")
def masked_lm(
    logits: torch.Tensor,
    answers: torch.Tensor,
    options: LossOptions,  # noqa: ARG001
) -> torch.Tensor:
    """Cross-entropy of each masked token.

    Args:
        logits: float32 [masked tokens, vocabulary].
        answers: ids, float32 [masked tokens, 1].
    """
    return nn.functional.cross_entropy(logits, answers[:, 0].long(), reduction="none")


@dataclass(frozen=True)
class AdaptationTexts:
    """The texts of a stage; the labels are their numbers."""

    learned: EncodedSplit
    held_out: EncodedSplit | None  # None: there are too few texts


def adaptation_texts(encoded: Encoded, seed: int) -> AdaptationTexts:
    """Those of train and those without labels, or these alone; a part of them is held out."""
    parts = [] if encoded.unlabeled_alone else [encoded.splits["train"].inputs]
    parts += [] if encoded.unlabeled is None else [encoded.unlabeled.inputs]
    # Of windows each is a text.
    splits = [EncodedSplit(replace(p, windows=None), np.zeros(len(p)), 0) for p in parts]
    texts = splits[0] if len(splits) == 1 else append_documents(*splits)
    count = len(texts.labels)
    texts = replace(texts, labels=np.arange(count))
    held_out = min(int(HELD_OUT * count), MOST_HELD_OUT)
    if held_out < FEWEST_HELD_OUT:
        return AdaptationTexts(texts, None)
    order = np.random.default_rng([seed, count]).permutation(count)
    learned, rest = np.sort(order[held_out:]), np.sort(order[:held_out])
    return AdaptationTexts(select_documents(texts, learned), select_documents(texts, rest))


class SimCSEBatches(PlannedBatches):
    """Every text of a batch comes twice; every process runs the whole batch, as each text needs all
    others of it."""

    def batches(self) -> Iterator[np.ndarray]:
        """The rows of every global batch."""
        for rows in super().batches():
            yield np.concatenate([rows, rows])


class MaskedRows(TrainingRows):
    """Texts with some of their tokens masked, others each time that a text is read.

    `labels` are float32 [rows, 1 + tokens]: how many tokens are masked, and the id of each that is.
    """

    def __init__(
        self, split: EncodedSplit, collator: Collator, tokenizer: object, seed: int
    ) -> None:
        super().__init__(split, collator)
        self.is_fixed = False
        self._mask, self._vocabulary = tokenizer.mask_token_id, len(tokenizer)  # type: ignore[attr-defined, arg-type]
        self._special = np.array(tokenizer.all_special_ids)  # type: ignore[attr-defined]
        self._seed = seed

    def __getitems__(self, draws: Sequence[Draw]) -> dict[str, torch.Tensor]:
        """One micro-batch."""
        batch = self.collator.pad(self.split.inputs, [draw.row for draw in draws])
        ids, real = batch["input_ids"].numpy(), batch["attention_mask"].numpy().astype(bool)
        targets = np.full(ids.shape, NOT_MASKED, dtype=np.float32)
        for i, draw in enumerate(draws):
            generator = np.random.default_rng([self._seed, draw.epoch, draw.place])
            ours = np.flatnonzero(real[i] & ~np.isin(ids[i], self._special))
            if not (draw.counts and len(ours)):
                continue
            count = max(round(MASKED * len(ours)), 1)
            places = generator.permutation(ours)[:count]
            targets[i, places] = ids[i, places]
            how = generator.random(count)
            others = generator.integers(self._vocabulary, size=count)
            changed = np.where(how < OTHER, others, ids[i, places])
            ids[i, places] = np.where(how < HIDDEN, self._mask, changed)
        counts = (targets != NOT_MASKED).sum(axis=1, keepdims=True).astype(np.float32)
        labels = np.concatenate([counts, targets], axis=1)
        return {**batch, "labels": torch.from_numpy(labels)}


def refuse_no_mask(tokenizer: object, name: str) -> None:
    """Stop where there is no token that hides another."""
    if getattr(tokenizer, "mask_token_id", None) is None:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"strategy.adapt=mlm hides tokens, and the tokenizer of {name} has no mask token. Take "
            "strategy.adapt=contrastive, or another checkpoint.",
        )


def refuse_no_dropout(pretrained: Pretrained, name: str) -> None:
    """Stop where two passes of a text would be the same."""
    if not has_dropout(pretrained.model.base_model):
        raise UserError(
            ExitCode.CONFIG,
            f"strategy.adapt=contrastive tells two passes of a text apart by dropout, and {name} "
            "has none. Add checkpoint.dropout=0.1.",
        )


Loss = Callable[..., torch.Tensor]


def held_out_tokens_loss(model: PreTrainedModel, rows: MaskedRows, loss: Loss) -> dict[str, float]:
    """The loss of masked tokens, always the same ones, and their perplexity."""
    total, tokens = 0.0, 0.0
    with evaluating(model):
        for places in plan_inference(rows.split.inputs.lengths, tokens_at_once(model.device)):
            batch = rows.__getitems__([Draw(int(row), True, 0, int(row)) for row in places])
            labels = batch.pop("labels").to(model.device)
            outputs = model(**{name: t.to(model.device) for name, t in batch.items()})
            total += float(loss(outputs, labels, 1.0))
            tokens += float(labels[:, 0].sum())
    mean = total / max(tokens, 1.0)
    return {"eval_loss": mean, "eval_perplexity": math.exp(min(mean, 700.0))}


def held_out_passes_loss(
    model: PreTrainedModel, rows: TrainingRows, loss: Loss, batch_size: int
) -> dict[str, float]:
    """The loss of texts in batches of the same size, with the same dropout every time."""
    total, count, was_training = 0.0, len(rows), model.training
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        model.train()
        for batch in plan_epoch(rows.split.inputs.lengths, batch_size, 0, 0):
            draws = [Draw(int(row), True) for row in np.concatenate([batch, batch])]
            inputs = rows.__getitems__(draws)
            labels = inputs.pop("labels").to(model.device)
            outputs = model(**{name: t.to(model.device) for name, t in inputs.items()})
            total += float(loss(outputs, labels, 2.0))
        model.train(was_training)
    return {"eval_loss": total / count}
