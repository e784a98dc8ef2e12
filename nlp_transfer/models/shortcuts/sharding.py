"""Shards a model across the processes while a stage trains it: torch's FSDP2 (`fully_shard`).

Each process holds a slice of every weight, gradient and moment; a layer is whole only while it is
computed. What is sharded is a copy of the model, which takes over its memory: between stages the
model is whole and plain again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from nlp_transfer.utils.distributed import ProcessContext


@contextmanager
def sharded(
    model: PreTrainedModel, layers: Sequence[str], process: ProcessContext
) -> Iterator[PreTrainedModel]:
    """A copy of the model sharded across all processes; afterwards the model has its weights.

    While this lasts, the model itself is without weights. Where an error ends it, they are zeros:
    no process waits for others that may be gone.

    Args:
        layers: paths of the modules that are whole one after the other.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    originals = dict(model.named_parameters())
    shapes = {name: parameter.shape for name, parameter in originals.items()}
    shared: dict[int, Any] = {
        id(p): nn.Parameter(p.detach(), requires_grad=p.requires_grad) for p in originals.values()
    }
    copied = copy.deepcopy(model, shared)
    for parameter in originals.values():
        parameter.data = parameter.new_empty(0)
    mesh = init_device_mesh(process.device.type, (process.world_size,))
    for path in layers:
        fully_shard(copied.get_submodule(path), mesh=mesh)
    # Of the rest as of the layers: after a forward pass nothing is whole.
    fully_shard(copied, mesh=mesh, reshard_after_forward=True)
    copied._is_distributed_loading_by_transformers = True  # so the Trainer leaves it as it is
    try:
        yield copied
    except BaseException:
        for name, parameter in originals.items():
            parameter.data = torch.zeros(shapes[name], dtype=parameter.dtype)
        raise
    for name, parameter in copied.named_parameters():
        originals[name].data = whole(parameter.detach())
        originals[name].grad = None


def is_sharded(model: nn.Module) -> bool:
    """Whether every forward pass of the model needs all processes."""
    return bool(getattr(model, "is_distributed_loading_by_transformers", False))


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor that may be sharded; every process has to ask."""
    return tensor.full_tensor() if is_dtensor(tensor) else tensor


def local(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor that may be sharded."""
    return tensor.to_local() if is_dtensor(tensor) else tensor


def shard_like(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor that every process has, sharded as another one of its shape is."""
    if not is_dtensor(like):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    there = tensor.to(like.device)
    return distribute_tensor(there, like.device_mesh, like.placements, src_data_rank=None)


def joined_like(part: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The whole of which this process holds a part, as of another tensor; every process asks."""
    if not is_dtensor(like):
        return part
    from torch.distributed.tensor import DTensor

    shape, stride = like.shape, like.stride()
    there = part.to(like.device)
    mesh, placements = like.device_mesh, like.placements
    sharded_tensor = DTensor.from_local(there, mesh, placements, shape=shape, stride=stride)
    return sharded_tensor.full_tensor().cpu()


def is_dtensor(tensor: Any) -> bool:
    """Whether a tensor is a `DTensor`, which is imported only where there is one."""
    return hasattr(tensor, "full_tensor")
