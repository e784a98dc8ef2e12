"""Which process am I, of how many, on what hardware: precision and threads decided once."""

from __future__ import annotations

import ctypes
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import datasets
import torch
import transformers
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from nlp_transfer.config import Precision, TrainingConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inputs import CPU_TOKENS

T = TypeVar("T")
logger = logging.getLogger("nlp_transfer")
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
# Of a process that waits for another: for one that encodes, exports or copies, hours are no fault,
# and where one has died, the launcher ends the others at once.
PATIENCE = timedelta(days=2)
# What `accelerate launch` says to its processes.
SHARDED = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}
LARGE_TENSOR = 4 * 1024 * 1024  # bytes


@dataclass(frozen=True)
class Machine:
    """One process of a run and the device it computes on."""

    rank: int
    world_size: int
    device: torch.device
    local_rank: int = 0  # among the processes of this node
    local_world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    @property
    def is_first_of_node(self) -> bool:
        """Whether this process writes what every node keeps for itself."""
        return self.local_rank == 0


def join(config: TrainingConfig) -> Machine:
    """Set up logging and threads, join the other processes of the launch, if there are any."""
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    _give_memory_back()
    # Told to use an accelerator that is not there, accelerate would not join the other processes.
    _refuse_sharded_models()
    without = config.cpu or not torch.accelerator.is_available()
    state = PartialState(cpu=without, timeout=PATIENCE)
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if state.num_processes != launched:
        raise UserError(
            ExitCode.MACHINE,
            f"The launcher started {launched} processes, but this one sees {state.num_processes}. "
            "Start them with torchrun --nproc-per-node.",
        )
    here = int(os.environ.get("LOCAL_WORLD_SIZE", launched))
    place = (state.process_index, state.num_processes, state.device)
    machine = Machine(*place, state.local_process_index, here)
    _set_up_logging(machine)
    if machine.world_size > 1:
        nodes = machine.world_size // machine.local_world_size
        logger.info(
            "%d processes on %d node%s, first on %s",
            machine.world_size,
            nodes,
            "s" if nodes > 1 else "",
            machine.device,
        )
    return machine


def leave(machine: Machine) -> None:
    """Close the group of processes: from here on each goes its own way."""
    if machine.world_size > 1:
        PartialState().destroy_process_group()
        PartialState._reset_state()


def first_decides(decide: Callable[[], T], machine: Machine) -> T:
    """What the first process decides, on every process.

    Raises:
        UserError: on every process, where the first one finds that it cannot be.
    """
    if machine.world_size == 1:
        return decide()
    said = [_answer(decide) if machine.is_first else None]
    broadcast_object_list(said)
    return _taken(said[0])


def node_decides(decide: Callable[[], T], machine: Machine) -> T:
    """What the first process of this node decides, on every process of it."""
    if machine.world_size == 1:
        return decide()
    answers = gather_object([_answer(decide) if machine.is_first_of_node else None])
    return _taken(answers[machine.rank - machine.local_rank])  # a launcher numbers node after node


def _answer(decide: Callable[[], T]) -> T | UserError:
    """Errors are answers too: the others would wait for one, and die of it with tracebacks."""
    try:
        return decide()
    except UserError as error:
        return error


def _taken(answer: Any) -> Any:
    if isinstance(answer, UserError):
        raise answer
    return answer


def wait(machine: Machine) -> None:
    """Until every process is here."""
    if machine.world_size > 1:
        PartialState().wait_for_everyone()


def gather(rows: list[T], machine: Machine) -> list[T]:
    """The rows of all processes, in the order of their ranks, on every process."""
    return rows if machine.world_size == 1 else gather_object(rows)


def tokens_at_once(device: torch.device) -> int:
    """Tokens of one forward pass without gradients, padding included.

    A CPU is at its matrix rate with so few, and holds less in memory; a GPU wants more.
    """
    return CPU_TOKENS if device.type == "cpu" else 16384


def agree(what: str, said: Callable[[], str], machine: Machine) -> None:
    """Stop where not every process says the same; one alone is not even asked.

    Raises:
        UserError: on every process, with the ranks that differ from the first.
    """
    if machine.world_size == 1:
        return
    answers = gather_object([said()])
    different = [str(rank) for rank, answer in enumerate(answers) if answer != answers[0]]
    if different:
        raise UserError(
            ExitCode.MACHINE,
            f"The processes do not hold the same {what}: rank {', '.join(different)} differs from "
            "rank 0. Give all of them the same files, packages and environment.",
        )


def decide_precision(asked: Precision, device: torch.device) -> str:
    """`fp32`, `bf16` or `fp16`.

    `auto` is bf16 where the hardware is fast at it (GPUs since Ampere, CPUs with AMX: without AMX
    bf16 is four times slower than float32), fp16 on other GPUs, else fp32.

    Raises:
        UserError: if this machine cannot do what was asked.
    """
    gpu = device.type == "cuda"
    match asked:
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


def say_if_slow(precision: str, device: torch.device) -> None:
    """Of bf16 that was asked for where it costs time."""
    if precision == "bf16" and device.type == "cpu" and not _has_amx():
        logger.info("bf16 is slower than float32 on this CPU: it has no AMX")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' notes while we say the same in one line of our own."""
    before = transformers.logging.get_verbosity()
    had_bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)
        if had_bars:
            transformers.logging.enable_progress_bar()


def _give_memory_back() -> None:
    """Let glibc return large tensors to the system as soon as they are freed.

    Batches of ever different lengths fragment its heap: a fifth of the peak, for no gain in speed.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            library.mallopt(parameter, LARGE_TENSOR)


def trim_memory() -> None:
    """Give back what glibc still holds of tensors that are gone; milliseconds, once an epoch."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def _refuse_sharded_models() -> None:
    for variable, name in SHARDED.items():
        if os.environ.get(variable, "false").lower() in ("1", "true", "yes"):
            raise UserError(
                ExitCode.MACHINE,
                f"accelerate is configured for {name}, which spreads one model over processes. "
                "Here each holds the whole model: what is frozen runs apart from what learns, "
                "and replicas are proved equal to the bit. Use a configuration without it, or "
                "torchrun; where memory is short, training.micro_batch_size=auto and "
                "training.gradient_checkpointing=true.",
            )


def _has_amx() -> bool:
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def _set_up_logging(machine: Machine) -> None:
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(logging.INFO if machine.is_first else logging.ERROR)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # Said by torch at every DataLoader on a machine without a GPU.
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
