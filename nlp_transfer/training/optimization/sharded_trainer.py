"""The `Trainer` of a stage whose model is sharded across the processes.

Its checkpoints hold whole weights and moments, as those of one process do: any number of processes
continues them, sharded or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from nlp_transfer.models.shortcuts.sharding import is_dtensor, shard_like, whole
from nlp_transfer.training.optimization.trainer import StageTrainer

WEIGHTS, OPTIMIZER, SCHEDULER = "model.safetensors", "optimizer.pt", "scheduler.pt"


class ShardedStageTrainer(StageTrainer):
    """Five hooks more: gradients are clipped, and checkpoints written and read, by all together.

    They are private. The library's own checkpoints of such models are of another kind, which one
    process cannot read, and are without an optimizer.
    """

    def _clip_grad_norm(self, model: Any) -> torch.Tensor:
        return whole(super()._clip_grad_norm(model))

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        return whole(super()._get_grad_norm(model, grad_norm))

    def _defer_fsdp_gradient_reduction(self) -> Any:
        """Between the micro-batches of a step; the library asks what we do not set."""
        return _without_reduction(self.model)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The library's files, with whole weights."""
        del _internal_call
        state = {name: whole(t).cpu() for name, t in self.model.state_dict().items()}
        if self._process.is_first:
            folder = Path(output_dir or self.args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            self.model.config.save_pretrained(folder)
            save_file({n: t.contiguous() for n, t in state.items()}, folder / WEIGHTS)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        assert self.optimizer is not None
        state = self.optimizer.state_dict()
        moments = {
            index: {name: _stored(value) for name, value in values.items()}
            for index, values in state["state"].items()
        }
        if self._process.is_first:
            torch.save({**state, "state": moments}, Path(output_dir, OPTIMIZER))
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir, SCHEDULER))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        state = load_file(Path(resume_from_checkpoint, WEIGHTS))
        own = (model or self.model).state_dict()
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(shard_like(state[name], tensor))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not Path(checkpoint, OPTIMIZER).is_file():
            return
        assert self.optimizer is not None
        state = torch.load(Path(checkpoint, OPTIMIZER), "cpu", weights_only=True, mmap=True)
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        moments = {
            index: {
                name: shard_like(value, parameters[index])
                if getattr(value, "shape", None) == parameters[index].shape
                else value
                for name, value in values.items()
            }
            for index, values in state["state"].items()
        }
        self.optimizer.load_state_dict({**state, "state": moments})
        scheduler = torch.load(Path(checkpoint, SCHEDULER), "cpu", weights_only=True)
        self.lr_scheduler.load_state_dict(scheduler)


def _stored(value: Any) -> Any:
    return whole(value).cpu() if is_dtensor(value) else value


@contextmanager
def _without_reduction(model: Any) -> Iterator[None]:
    """Gradients are added up on each process, and exchanged after the last micro-batch."""
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)
