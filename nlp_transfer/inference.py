"""One forward loop, and the `Classifier` that answers questions with an exported folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import special
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from nlp_transfer.batches import plan_inference
from nlp_transfer.config import Problem
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.machine import Machine, gather, quiet, tokens_at_once
from nlp_transfer.model import evaluating, longest_input
from nlp_transfer.tokenization import (
    PAIRS,
    Collator,
    Inputs,
    Pairs,
    Texts,
    collator_of,
    encode_texts,
)
from nlp_transfer.windows import Reading


@dataclass(frozen=True)
class Prediction:
    """One answer."""

    label: str  # the likeliest
    score: float  # probability of `label`; of a regression, the score
    probabilities: dict[str, float]  # of every label, in the model's order
    labels: tuple[str, ...] = ()  # where a text may have several: those above one half


def predict_logits(
    model: PreTrainedModel,
    inputs: Inputs,
    collator: Collator,
    max_tokens: int | None = None,
    machine: Machine | None = None,
) -> np.ndarray:
    """Logits of every document, in their order, on every process; those of windows are joined.

    Runs in length-sorted batches of `max_tokens` tokens (None: what suits the device); the
    processes share the batches, and because these do not depend on how many processes there are,
    neither do the logits.

    Returns:
        float32 [documents, labels].
    """
    batches = plan_inference(inputs.lengths, max_tokens or tokens_at_once(model.device))
    mine = batches if machine is None else batches[machine.rank :: machine.world_size]
    answers = []
    with evaluating(model):
        for rows in mine:
            batch = {name: t.to(model.device) for name, t in collator.pad(inputs, rows).items()}
            answers.append((rows, model(**batch).logits.float().cpu().numpy()))
    if machine is not None:
        answers = gather(answers, machine)
    logits = np.full((len(inputs), model.config.num_labels), np.nan, dtype=np.float32)
    for rows, values in answers:
        logits[rows] = values
    if not np.isfinite(logits).all():
        raise UserError(
            ExitCode.TRAINING,
            "The model's logits are not finite: training has diverged, nothing was exported. "
            "Try a lower strategy.learning_rate or training.precision=fp32.",
        )
    assert sum(len(rows) for rows, _ in answers) == len(inputs), "every row is answered once"
    return logits if inputs.windows is None else inputs.windows.join(logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities [rows, labels] in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def probabilities_of(logits: np.ndarray, problem: Problem) -> np.ndarray:
    """What logits say, float64 [rows, labels]: probabilities, or of a regression the scores."""
    match problem:
        case Problem.multi_label:
            return special.expit(logits.astype(np.float64))
        case Problem.regression:
            return logits.astype(np.float64)
        case _:
            return softmax(logits)


class Classifier:
    """An exported folder, ready to answer.

    >>> Classifier.load("runs/…/model").predict(["What a find!"])[0].label
    'positive'
    """

    def __init__(self, model: PreTrainedModel, tokenizer: Any) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.labels = tuple(model.config.id2label[i] for i in range(model.config.num_labels))
        self.problem = Problem(model.config.problem_type or Problem.single_label.value)

    @classmethod
    def load(cls, folder: str | Path) -> Classifier:
        """Open a folder that `Trainer`, `save_pretrained` or this package wrote.

        Raises:
            UserError: if it is not one.
        """
        try:
            with quiet():
                load = AutoModelForSequenceClassification.from_pretrained
                model = load(folder, dtype=torch.float32, use_safetensors=True)
                return cls(model, AutoTokenizer.from_pretrained(folder))
        except (OSError, ValueError) as error:
            raise UserError(
                ExitCode.CHECKPOINT, f"{folder} cannot be opened as a classifier: {error}"
            ) from error

    def predict(
        self, texts: Sequence[str], text_pairs: Sequence[str] | None = None
    ) -> list[Prediction]:
        """One prediction per text, in order; long texts are read as they were in training.

        Args:
            text_pairs: the second texts, for a model of pairs.

        Raises:
            UserError: if the model was trained on pairs and gets none, or the other way round.
        """
        asked = self._asked(texts, text_pairs)
        if not len(asked):
            return []
        length = longest_input(self.model, self.tokenizer)
        reading = Reading.remembered(self.model.config)
        inputs = encode_texts(asked, self.tokenizer, length, reading)
        logits = predict_logits(self.model, inputs, collator_of(self.tokenizer))
        return [self._prediction(row) for row in probabilities_of(logits, self.problem)]

    def _prediction(self, row: np.ndarray) -> Prediction:
        labels: tuple[str, ...] = ()
        if self.problem is Problem.multi_label:
            labels = tuple(self.labels[i] for i in np.flatnonzero(row > 0.5))
        return Prediction(
            label=self.labels[int(row.argmax())],
            score=float(row.max()),
            probabilities=dict(zip(self.labels, map(float, row), strict=True)),
            labels=labels,
        )

    def _asked(self, texts: Sequence[str], text_pairs: Sequence[str] | None) -> Texts:
        if isinstance(texts, str) or isinstance(text_pairs, str):
            raise TypeError("predict() takes a list of texts; for one text give [text]")
        trained_on_pairs = self.model.config.to_dict().get(PAIRS, text_pairs is not None)
        if trained_on_pairs != (text_pairs is not None):
            raise UserError(
                ExitCode.DATA,
                "This model answers for pairs of texts: predict(texts, text_pairs) needs both."
                if trained_on_pairs
                else "This model answers for single texts: leave text_pairs out.",
            )
        if text_pairs is None:
            return list(texts)
        if len(texts) != len(text_pairs):
            raise UserError(
                ExitCode.DATA,
                f"There are {len(texts)} texts and {len(text_pairs)} second texts; expected one "
                "for each.",
            )
        return Pairs(list(texts), list(text_pairs))
