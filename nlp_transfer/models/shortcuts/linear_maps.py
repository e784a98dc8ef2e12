"""Lets linear maps in float32 use AVX-512 on CPUs that are not Intel's.

There torch multiplies by MKL, which takes its AVX2 path, at half of what the CPU can do; oneDNN,
which comes with torch too, takes AVX-512. Both add in float32: they differ by rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

CPU_INFO = Path("/proc/cpuinfo")


@contextmanager
def fast_linear_maps(model: nn.Module) -> Iterator[None]:
    """While this lasts, the linear maps of a model use oneDNN, where that is the faster one."""
    maps = [module for module in model.modules() if type(module) is nn.Linear]
    changed = [m for m in maps if "forward" not in vars(m)] if onednn_is_faster() else []
    for module in changed:
        module.forward = partial(_forward, module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


@cache
def onednn_is_faster() -> bool:
    """Whether MKL would leave AVX-512 unused; never depends on a measurement, so runs repeat."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # it is private: others may rename it
        return False
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not CPU_INFO.is_file():
        return False
    return "GenuineIntel" not in CPU_INFO.read_text(encoding="utf-8")


def _forward(module: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    plain = (
        x.dtype is torch.float32
        and module.weight.dtype is torch.float32
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
    if not plain:
        return nn.functional.linear(x, module.weight, module.bias)
    return _Linear.apply(x, module.weight, module.bias)


def _multiply(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """`x @ weight.T + bias` by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    """A linear map and its three products."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return _multiply(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, gradient.shape[-1])
        return (
            _multiply(gradient, weight.t(), None) if of_x else None,
            _multiply(rows.t(), x.reshape(-1, x.shape[-1]).t(), None) if of_weight else None,
            rows.sum(dim=0) if of_bias else None,
        )
