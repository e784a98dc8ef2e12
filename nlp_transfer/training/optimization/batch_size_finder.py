"""Finds how many texts fit into one training step (`training.micro_batch_size=auto`)."""

from __future__ import annotations

import numpy as np
import torch
from transformers import PreTrainedModel

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.tokenization.encoded import Collator
from nlp_transfer.tokenization.model_inputs import Inputs

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


def largest_micro_batch(
    model: PreTrainedModel,
    inputs: Inputs,
    collator: Collator,
    share: int,
    precision: str,
    readings: int = 1,
) -> int:
    """The largest of `share`, half of it, a quarter … with which the longest texts fit.

    The trial is a training step in which everything learns, with the optimizer's two moments of it,
    dropout, and whatever recomputing the model is set to: no stage of any strategy needs more. (Of
    adapters a little more of each text is kept, but they have far fewer gradients and moments.)

    Args:
        share: documents of a global batch that one process has to do.
        readings: how often a stage reads each of them in a step.

    Raises:
        UserError: if not even one text fits.
    """
    # Documents by their tokens, over all windows.
    tokens = np.bincount(inputs.documents, weights=inputs.lengths)
    longest = np.argsort(-tokens, kind="stable")
    size = share
    was_training = model.training
    while size:
        try:
            model.train()
            rows = np.flatnonzero(np.isin(inputs.documents, longest[:size]))
            _step(model, inputs, collator, np.tile(rows, readings), precision)
            return size
        except torch.OutOfMemoryError:
            size //= 2
        finally:
            model.zero_grad(set_to_none=True)
            model.train(was_training)
            if model.device.type == "cuda":
                torch.cuda.empty_cache()
    raise UserError(
        ExitCode.MACHINE,
        f"Not even one text of {inputs.lengths.max()} tokens fits into the memory of "
        f"{model.device}. Lower tokenization.max_length, or choose a smaller checkpoint.",
    )


def _step(
    model: PreTrainedModel, inputs: Inputs, collator: Collator, rows: np.ndarray, precision: str
) -> None:
    moments = [torch.empty_like(p) for p in model.parameters() for _ in range(2)]
    kind = AUTOCAST.get(precision)
    with torch.autocast(model.device.type, dtype=kind, enabled=kind is not None):
        batch = {name: t.to(model.device) for name, t in collator.pad(inputs, rows).items()}
        loss = model(**batch).logits.float().square().sum()
    loss.backward()
    del moments
