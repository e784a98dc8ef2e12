"""Distillation: a student learns the logits of a teacher, on texts that need no labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from nlp_transfer.config.schema import Config
from nlp_transfer.data.sources import read_files
from nlp_transfer.data.usable_rows import read_texts
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inference.classifier import find_model
from nlp_transfer.inference.torch_engine import TorchEngine, predict_logits
from nlp_transfer.models.loading import Pretrained
from nlp_transfer.models.strategies.stages import Stage
from nlp_transfer.problems.base import some_of
from nlp_transfer.tokenization.batches import encode_texts
from nlp_transfer.tokenization.encoded import Collator, Encoded, EncodedSplit
from nlp_transfer.tokenization.encoding import input_length
from nlp_transfer.tokenization.model_inputs import Inputs, Pairs
from nlp_transfer.tokenization.subsets import append_documents, select_documents
from nlp_transfer.tokenization.windows import LongTextPolicy
from nlp_transfer.training.losses import LossOptions, register_loss
from nlp_transfer.utils.logging import logger

DISTILLATION = "distillation"


@register_loss(DISTILLATION, reads="teacher")
def distillation(logits: torch.Tensor, answers: torch.Tensor, options: LossOptions) -> torch.Tensor:
    """Cross-entropy with the teacher's probabilities, both softened by the temperature.

    Hinton et al. 2015, eq. 1, times the square of the temperature; of several labels a text, of
    each label by itself, their mean.
    """
    heat = options.temperature
    if options.problem is not None and options.problem.several:
        entropy = nn.functional.binary_cross_entropy_with_logits
        losses = entropy(logits / heat, torch.sigmoid(answers / heat), reduction="none").mean(dim=1)
    else:
        losses = -((answers / heat).softmax(1) * (logits / heat).log_softmax(1)).sum(dim=1)
    return losses * heat**2


def distillation_rows(
    stage: Stage, pretrained: Pretrained, encoded: Encoded, config: Config, collator: Collator
) -> EncodedSplit:
    """Train and the texts without labels; the labels are the teacher's logits [rows, labels].

    Texts that are the same as one of validation or test, token by token, are left out: figures
    would be of texts that the student has seen.

    Raises:
        UserError: the teacher has other labels or another tokenizer, or the texts cannot be read.
    """
    assert stage.teacher is not None
    rows = encoded.splits["train"]
    if stage.unlabeled is not None:
        more = _texts_without_labels(stage.unlabeled, pretrained, config)
        held_out = {
            key for name, s in encoded.splits.items() if name != "train" for key in _keys(s)
        }
        new = np.array([key not in held_out for key in _keys(more)], dtype=bool)
        more = select_documents(more, new)
        logger.info(
            "  %s of %s texts of %s are read, none of them held out",
            f"{new.sum():,}",
            f"{len(new):,}",
            stage.unlabeled,
        )
        width = rows.labels.shape[1:]
        blank = EncodedSplit(
            more.inputs, np.zeros((len(more.labels), *width), rows.labels.dtype), 0
        )
        rows = append_documents(rows, blank)
    teacher = TorchEngine.load(find_model(Path(stage.teacher)))
    _refuse_other_teacher(teacher, pretrained, stage.teacher)
    teacher.model.to(pretrained.model.device)
    logits = predict_logits(teacher.model, rows.inputs, collator, config.evaluation.max_tokens)
    return EncodedSplit(rows.inputs, logits, rows.cut)


def _texts_without_labels(file: str, pretrained: Pretrained, config: Config) -> EncodedSplit:
    dataset = config.dataset
    sources = read_files(file, "strategy.stages.<stage>.unlabeled")
    firsts, seconds = read_texts(sources, dataset.text, dataset.text_pair)
    texts = firsts if dataset.text_pair is None else Pairs(firsts, seconds)
    length = input_length(pretrained.max_tokens, config.tokenization)
    policy = LongTextPolicy.from_config(config.tokenization)
    inputs = encode_texts(texts, pretrained.tokenizer, length, policy)
    return EncodedSplit(inputs, np.zeros(len(firsts)), 0)


def _keys(split: EncodedSplit) -> list[bytes]:
    """The tokens of each document; of one with windows those of the first."""
    inputs: Inputs = split.inputs
    starts = np.flatnonzero(np.diff(inputs.documents, prepend=-1))
    return [inputs[int(row)]["input_ids"].tobytes() for row in starts]


def _refuse_other_teacher(teacher: TorchEngine, pretrained: Pretrained, name: str) -> None:
    student = pretrained.model.config
    labels = tuple(student.id2label[i] for i in range(student.num_labels))
    if teacher.decoder.labels != labels:
        raise UserError(
            ExitCode.CONFIG,
            f"The teacher {name} has the labels {', '.join(teacher.decoder.labels)}; expected "
            f"those of the data, {some_of(labels)}. Train the teacher on the same labels.",
        )
    if teacher.tokenizer.get_vocab() != pretrained.tokenizer.get_vocab():
        raise UserError(
            ExitCode.CHECKPOINT,
            f"The teacher {name} and the student have different tokens, and both read the same. "
            "Take a student with the teacher's tokenizer (nlp-transfer distill makes one).",
        )
