"""Runs one stage: by gradient with the `Trainer`, or solved exactly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from transformers import PreTrainedModel

from nlp_transfer.config.choices import Solver
from nlp_transfer.features.cache import trained_on_features
from nlp_transfer.features.head_solver import solve_head
from nlp_transfer.inference.torch_engine import predict_logits
from nlp_transfer.models.lora import adapted
from nlp_transfer.models.strategies.learning import frozen_below
from nlp_transfer.tokenization.encoded import Encoded
from nlp_transfer.training.optimization.trainer import Outcome
from nlp_transfer.training.plan import count_parameters
from nlp_transfer.training.stages.gradient import train_by_gradient
from nlp_transfer.training.stages.history import StageHistory
from nlp_transfer.training.stages.stage_run import StageRun
from nlp_transfer.utils.logging import logger

COMPARED_ROWS = 16  # before and after adapters are merged


def run_stage(run: StageRun) -> StageHistory:
    """Let the model learn what the stage says.

    Raises:
        UserError: if the loss is not finite, or a step does not fit into memory.
    """
    stage, config, encoded = run.stage, run.config, run.encoded
    model, structure = run.pretrained.model, run.pretrained.structure
    start = time.perf_counter()
    sample_split = encoded.splits.get("validation", encoded.splits["train"])
    sample, tokens = sample_split.inputs.first(COMPARED_ROWS), config.evaluation.max_tokens
    predict = partial(predict_logits, model, sample, encoded.collator, tokens)
    checkpointed = recomputed(model, config.training.gradient_checkpointing)
    with adapted(model, stage, structure, predict), checkpointed:
        learning, all_of_them = count_parameters(model, stage, structure)
        logger.info(
            "stage %s learns %s, %s of %s parameters (%.1f%%)",
            stage.name,
            stage.describe(structure),
            f"{learning:,}",
            f"{all_of_them:,}",
            100 * learning / all_of_them,
        )
        inputs = _stage_inputs(run)
        with inputs as stage_inputs, frozen_below(model, stage, structure):
            encoded_at = time.perf_counter()
            outcome = _solve(run, stage_inputs) if stage.solver is Solver.exact else None
            if outcome is None:
                outcome = train_by_gradient(run, stage_inputs)
    model.zero_grad(set_to_none=True)
    return StageHistory(
        name=stage.name,
        learns=stage.describe(structure),
        parameters=learning,
        all_parameters=all_of_them,
        steps=outcome.steps,
        seconds=time.perf_counter() - start,
        encoding_seconds=encoded_at - start,
        best=outcome.best,
        speed=outcome.speed,
        log=outcome.log,
        kept_step=outcome.kept_step,
    )


def _stage_inputs(run: StageRun) -> AbstractContextManager[Encoded]:
    """What the stage trains on: tokens, or stored features of texts that stay as they are.

    A model that is sharded is not split: what is frozen of it is sharded, too.
    """
    if run.augments_texts or run.crops_texts or run.loss.adapts or run.is_sharded:
        return nullcontext(run.encoded)
    features = run.config.features
    return trained_on_features(run.pretrained, run.encoded, run.stage, features, run.process)


@contextmanager
def recomputed(model: PreTrainedModel, enabled: bool) -> Iterator[None]:
    """Activations are thrown away in the forward pass, and computed again in the backward pass."""
    if enabled:
        model.activation_checkpointing_enable({"use_reentrant": False})
        model.disable_input_require_grads()  # they would carry gradients through what is frozen
    try:
        yield
    finally:
        if enabled:
            model.activation_checkpointing_disable()


def _solve(run: StageRun, encoded: Encoded) -> Outcome | None:
    """Solve the head; None where it has to be trained by gradient instead."""
    strength = solve_head(
        run.pretrained,
        encoded.splits["train"],
        encoded.splits.get("validation"),
        encoded.collator,
        run.config.evaluation.max_tokens,
        run.process,
        run.config.seed,
        run.label_weights,
        fitted_on_train=run.labels_read and not run.stage.pristine,
    )
    if strength is None:
        logger.info("  this head cannot hold a linear function: it is trained by gradient")
        return None
    logger.info("  solved exactly, as a regression with C = %g", strength)
    if not run.has_validation:
        return Outcome(0, None, None, [])
    result = run.measure(encoded, run.pretrained.model)
    loss, best = float(result.losses.mean()), run.metrics.best
    value = result.metrics[best]
    if value is not None:
        logger.info("  validation loss %.4f, %s %.4f", loss, best, value)
    log = {"eval_loss": loss} | {f"eval_{name}": value for name, value in result.metrics.items()}
    return Outcome(0, value, None, [log])
