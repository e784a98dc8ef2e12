"""What the hardware of one process can do: precision and memory."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Any

from nlp_transfer.config.choices import Precision
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.utils.logging import logger

if TYPE_CHECKING:
    import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


LARGE_TENSOR = 4 * 1024 * 1024  # bytes


def decide_precision(precision: Precision, device: torch.device) -> str:
    """`fp32`, `bf16` or `fp16`.

    `auto` is bf16 where the hardware is fast at it (GPUs since Ampere, CPUs with AMX: without AMX
    bf16 is four times slower than float32), fp16 on other GPUs, else fp32.

    Raises:
        UserError: if this machine cannot do what was asked.
    """
    import torch  # inside: commands that only read do not wait for it

    gpu = device.type == "cuda"
    match precision:
        case Precision.fp32:
            return "fp32"
        case Precision.fp16:
            if not gpu:
                raise UserError(
                    ExitCode.MACHINE,
                    f"training.precision=fp16 needs a GPU; this process computes on {device.type}. "
                    "Use training.precision=auto.",
                )
            return "fp16"
        case Precision.bf16:
            if gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
                raise UserError(
                    ExitCode.MACHINE,
                    "training.precision=bf16 is not supported by "
                    f"{torch.cuda.get_device_name(device)}. Use training.precision=auto.",
                )
            return "bf16"
        case Precision.auto:
            if gpu:
                fast = torch.cuda.is_bf16_supported(including_emulation=False)
                return "bf16" if fast else "fp16"
            return "bf16" if device.type == "cpu" and _has_amx() else "fp32"


def warn_if_slow(precision: str, device: torch.device) -> None:
    """Of bf16 that was asked for where it costs time."""
    if precision == "bf16" and device.type == "cpu" and not _has_amx():
        logger.info("bf16 is slower than float32 on this CPU: it has no AMX")


def _give_memory_back() -> None:
    """Let glibc return large tensors to the system as soon as they are freed.

    Batches of ever different lengths fragment its heap: a fifth of the peak, for no gain in speed.
    """
    library = _c_library()
    if hasattr(library, "mallopt"):
        for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            library.mallopt(parameter, LARGE_TENSOR)


def trim_memory() -> None:
    """Give back what glibc still holds of tensors that are gone; milliseconds, once an epoch."""
    library = _c_library()
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def _c_library() -> Any:
    """What this process is linked with; None on Windows."""
    return None if os.name == "nt" else ctypes.CDLL(None)


def _has_amx() -> bool:
    import torch

    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))
