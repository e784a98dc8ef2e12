"""Watches a stage while it trains: its progress, and a loss that is not finite."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from tqdm.auto import tqdm
from transformers import TrainerCallback

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.training.optimization.signals import stop_request
from nlp_transfer.utils.distributed import ProcessContext
from nlp_transfer.utils.logging import logger, output

LINES = 10  # of a stage in the log, at most
BAR = "{desc} |{bar}| {n_fmt}/{total_fmt}, {remaining} left"


class FiniteLoss(TrainerCallback):
    """Stops at a loss that is not finite, and says at which step, without waiting for the device.

    The first bad step is noted on the device and read only when the `Trainer` logs.
    """

    def __init__(self, loss: Callable[..., torch.Tensor]) -> None:
        self._loss = loss
        self._step = 0
        self._first_bad: torch.Tensor | None = None

    def __call__(self, *arguments: Any, **keywords: Any) -> torch.Tensor:
        loss = self._loss(*arguments, **keywords)
        if self._first_bad is None:
            self._first_bad = torch.tensor(-1, device=loss.device)
        bad = (self._first_bad < 0) & ~torch.isfinite(loss.detach())
        self._first_bad = torch.where(bad, self._step, self._first_bad)
        return loss

    def on_step_begin(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        """Remember which step the next losses belong to."""
        self._step = state.global_step + 1

    def on_log(self, *_: Any, **__: Any) -> None:
        """Raise where one was bad."""
        if self._first_bad is not None and self._first_bad.item() >= 0:
            raise UserError(
                ExitCode.TRAINING,
                f"The loss is not finite at step {self._first_bad.item()}: nothing was exported. "
                "Try a lower strategy.learning_rate or training.precision=fp32.",
            )


class StageProgress(TrainerCallback):
    """A progress bar in a terminal or notebook, and everywhere at most `LINES` plain lines.

    A line is due after each tenth of the stage: with the next look at validation, or, where there
    is no validation, with the next loss.
    """

    def __init__(self, stage: str, best: str, shows_bar: bool) -> None:
        self._stage = stage
        self._best = best
        self._shows_bar = shows_bar
        self._bar: Any = None
        self._lines = 0  # tenths of the stage that have been logged
        self._loss: float | None = None
        self._value: float | None = None

    def on_train_begin(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        """Open the bar, where an earlier process stopped if there was one."""
        self._lines = LINES * state.global_step // state.max_steps
        if state.is_world_process_zero:
            self._bar = tqdm(
                desc=f"stage {self._stage}",
                total=state.max_steps,
                initial=state.global_step,
                bar_format=BAR,
                dynamic_ncols=True,
                disable=not self._shows_bar,
                leave=False,
                file=output(),
            )

    def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        """Move it on."""
        if self._bar is not None:
            self._bar.set_description_str(self._words(state), refresh=False)
            self._bar.update(state.global_step - self._bar.n)

    def on_log(self, args: Any, state: Any, _: Any, logs: dict[str, float], **__: Any) -> None:
        """Remember the loss; it is the progress where there is no validation."""
        self._loss = logs.get("loss", self._loss)
        if args.eval_strategy == "no" and "loss" in logs:
            self._log_progress(state)

    def on_evaluate(
        self, _: Any, state: Any, __: Any, metrics: dict[str, float], **___: Any
    ) -> None:
        """Remember what validation says."""
        value = metrics[f"eval_{self._best}"]
        self._value = value if math.isfinite(value) else None
        self._log_progress(state, f", validation loss {metrics['eval_loss']:.4f}")

    def _log_progress(self, state: Any, validation: str = "") -> None:
        """The line, where one is due."""
        lines = LINES * state.global_step // state.max_steps
        if self._bar is None or lines <= self._lines:
            return
        self._lines = lines
        self._bar.set_description_str(self._words(state), refresh=False)
        loss = "" if self._loss is None else f", loss {self._loss:.4f}"
        if validation and self._value is not None:
            validation += f", {self._best} {self._value:.4f}"
        with tqdm.external_write_mode():
            logger.info(
                "  stage %s: %sstep %d of %d%s%s",
                self._stage,
                # A stage that is planned in steps is one epoch of them.
                f"epoch {state.epoch:.3g}, " if state.num_train_epochs > 1 else "",
                state.global_step,
                state.max_steps,
                loss,
                validation,
            )

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def _words(self, state: Any) -> str:
        """What stands before the bar: what is not known yet is left out."""
        words = [f"stage {self._stage}", f"epoch {state.epoch:.1f}/{state.num_train_epochs:g}"]
        if self._loss is not None:
            words.append(f"loss {self._loss:.3f}")
        if self._value is not None:
            words.append(f"{self._best} {self._value:.3f}")
        return ", ".join(words)


class SavesAndStops(TrainerCallback):
    """Asks for a checkpoint in time, and after the step in which a process was told to stop.

    All processes save and stop together: what one of them wants, all do.
    """

    def __init__(self, process: ProcessContext, minutes: float) -> None:
        self._process = process
        self._seconds = 60 * minutes
        self._last = 0.0
        self.stopped_by: str | None = None

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """From here on a signal waits for the end of a step."""
        stop_request.can_wait = True
        self._last = time.monotonic()

    def on_step_end(self, _: Any, __: Any, control: Any, **___: Any) -> None:
        """Save where it is time, or where somebody is to stop."""
        overdue = time.monotonic() - self._last >= self._seconds
        stop, save = self._agreed(stop_request.by is not None, overdue)
        if stop:
            self.stopped_by = stop_request.by or "a signal to another process"
            control.should_training_stop = True
        if stop or save:
            control.should_save = True

    def on_save(self, *_: Any, **__: Any) -> None:
        """A checkpoint was written: the time until the next one begins."""
        self._last = time.monotonic()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """From here on a signal need not wait."""
        stop_request.can_wait = False

    def _agreed(self, *decisions: bool) -> list[bool]:
        if self._process.world_size == 1:
            return list(decisions)
        flags = torch.tensor([int(decision) for decision in decisions], device=self._process.device)
        torch.distributed.all_reduce(flags, torch.distributed.ReduceOp.MAX)
        return [bool(decision) for decision in flags.tolist()]
