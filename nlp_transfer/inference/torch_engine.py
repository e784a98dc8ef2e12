"""One forward loop for logits, and the engine that runs an exported folder by torch."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inference.explanation import Question
from nlp_transfer.models.checkpoints.adapters import refuse_two_models
from nlp_transfer.models.checkpoints.folder import explain
from nlp_transfer.models.checkpoints.parts import (
    join_tokenizer,
    refuse_unfitting_weights,
    refuse_untrained,
)
from nlp_transfer.models.loading import LOADING_FAILS_WITH, evaluating
from nlp_transfer.models.shortcuts.last_layer import shortened
from nlp_transfer.models.shortcuts.sharding import is_sharded
from nlp_transfer.models.tokenizers import longest_input, take_literally
from nlp_transfer.problems.decoder import Decoder
from nlp_transfer.tokenization.batches import encode_texts
from nlp_transfer.tokenization.encoded import Collator
from nlp_transfer.tokenization.encoding import collator_of
from nlp_transfer.tokenization.model_inputs import (
    FEW_TOKENS,
    PAIRS,
    Inputs,
    Pairs,
    plan_inference,
    tokens_at_once,
)
from nlp_transfer.tokenization.windows import LongTextPolicy
from nlp_transfer.utils.distributed import ProcessContext, gather
from nlp_transfer.utils.logging import quiet

FEW_ROWS = 64  # so many cannot be sorted into batches without padding


def predict_logits(
    model: PreTrainedModel,
    inputs: Inputs,
    collator: Collator,
    max_tokens: int | None = None,
    process: ProcessContext | None = None,
) -> np.ndarray:
    """Logits of every document, in their order, on every process; those of windows are joined.

    Runs in length-sorted batches of `max_tokens` tokens (None: what suits the device); the
    processes share the batches, and because these do not depend on how many processes there are,
    neither do the logits.

    Returns:
        float32 [documents, labels].
    """
    batches = plan_inference(inputs.lengths, max_tokens or tokens_at_once(model.device))
    mine = batches if process is None else batches[process.rank :: process.world_size]
    rounds = len(mine)
    if process is not None and is_sharded(model):  # each forward pass needs all processes
        rounds = math.ceil(len(batches) / process.world_size)
    answers = []
    with evaluating(model), shortened(model):
        for number in range(rounds):
            rows = mine[number] if number < len(mine) else batches[0]
            batch = {name: t.to(model.device) for name, t in collator.pad(inputs, rows).items()}
            logits = model(**batch).logits.float().cpu().numpy()
            if number < len(mine):
                answers.append((rows, logits))
    if process is not None:
        answers = gather(answers, process)
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


class TorchEngine:
    """A checkpoint and its tokenizer, run by torch."""

    alone = False

    def __init__(self, model: PreTrainedModel, tokenizer: Any) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        take_literally(tokenizer, model)
        self.max_length = longest_input(model, tokenizer)
        self.collator = collator_of(tokenizer)
        config = model.config.to_dict()
        self.decoder = Decoder.from_model_config(config)
        self.paired = config.get(PAIRS)
        self.long_text = LongTextPolicy.from_model_config(config)

    @classmethod
    def load(cls, folder: Path, threads: int | None = None) -> TorchEngine:
        """Open an exported folder, on the accelerator of this process if there is one.

        Raises:
            UserError: if it is not one.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        refuse_two_models(folder)
        try:
            with quiet():
                model, report = AutoModelForSequenceClassification.from_pretrained(
                    folder,
                    dtype=torch.float32,
                    use_safetensors=True,
                    output_loading_info=True,
                    ignore_mismatched_sizes=True,  # to name them in the error
                )
                tokenizer = AutoTokenizer.from_pretrained(folder)
        except LOADING_FAILS_WITH as error:
            reason = explain(folder) or error
            raise UserError(
                ExitCode.CHECKPOINT, f"{folder} cannot be opened as a classifier: {reason}"
            ) from error
        refuse_untrained(model, report, str(folder))
        refuse_unfitting_weights(model, report, str(folder))
        join_tokenizer(tokenizer, model, str(folder), may_grow=False)
        return cls(model.to(_device()), tokenizer)

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Inputs:
        """Tokens; long texts are read as they were in training."""
        questions = list(texts) if pairs is None else Pairs(list(texts), list(pairs))
        return encode_texts(questions, self.tokenizer, self.max_length, self.long_text)

    def logits(self, inputs: Inputs) -> np.ndarray:
        """float32 [texts, labels], in the order of the texts."""
        few = len(inputs) <= FEW_ROWS and self.model.device.type == "cpu"
        return predict_logits(self.model, inputs, self.collator, FEW_TOKENS if few else None)

    def gradients(self, question: Question) -> tuple[np.ndarray, tuple[float, ...]]:
        """Integrated gradients: weights [labels, words], and how far their sums are off."""
        from nlp_transfer.inference.integrated_gradients import gradients  # captum is an extra

        return gradients(self, question)


def _device() -> torch.device:
    if not torch.accelerator.is_available():
        return torch.device("cpu")
    kind = torch.accelerator.current_accelerator()
    assert kind is not None
    return torch.device(kind.type, int(os.environ.get("LOCAL_RANK", "0")))
