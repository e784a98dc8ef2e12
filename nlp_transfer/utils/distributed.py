"""The process of a run: its rank, device, precision and threads, decided once."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from nlp_transfer.config.choices import Parallel
from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.training import TrainingConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.utils.device import _give_memory_back
from nlp_transfer.utils.logging import logger, output

if TYPE_CHECKING:
    import torch

# torch, transformers, datasets and accelerate are imported where they are used: commands that only
# read finished runs do not wait for them.
T = TypeVar("T")
# Of a process that waits for another: for one that encodes, exports or copies, hours are no fault,
# and where one has died, the launcher ends the others at once.
PATIENCE = timedelta(days=2)
# What `accelerate launch` says to its processes.
FSDP = "ACCELERATE_USE_FSDP"
SHARDED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}


@dataclass(frozen=True)
class ProcessContext:
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


def join(config: TrainingConfig) -> ProcessContext:
    """Set up logging and threads, join the other processes of the launch, if there are any."""
    import torch
    from accelerate import PartialState

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
    process = ProcessContext(*place, state.local_process_index, here)
    _set_up_logging(process)
    if process.world_size > 1:
        nodes = process.world_size // process.local_world_size
        logger.info(
            "%d processes on %d node%s, first on %s",
            process.world_size,
            nodes,
            "s" if nodes > 1 else "",
            process.device,
        )
    return process


def leave(process: ProcessContext) -> None:
    """Close the group of processes: from here on none waits for another."""
    if process.world_size > 1:
        from accelerate import PartialState

        PartialState().destroy_process_group()
        PartialState._reset_state()


def broadcast_from_rank_zero(decide: Callable[[], T], process: ProcessContext) -> T:
    """What the first process decides, on every process.

    Raises:
        UserError: on every process, where the first one finds that it cannot be.
    """
    if process.world_size == 1:
        return decide()
    from accelerate.utils import broadcast_object_list

    answers = [_answer(decide) if process.is_first else None]
    broadcast_object_list(answers)
    return _raise_errors(answers[0])


def broadcast_from_first_of_node(decide: Callable[[], T], process: ProcessContext) -> T:
    """What the first process of this node decides, on every process of it."""
    if process.world_size == 1:
        return decide()
    from accelerate.utils import gather_object

    answers = gather_object([_answer(decide) if process.is_first_of_node else None])
    return _raise_errors(
        answers[process.rank - process.local_rank]
    )  # a launcher numbers node after node


def _answer(decide: Callable[[], T]) -> T | UserError:
    """The result or the error of a call, to be sent: without it the other processes would wait."""
    try:
        return decide()
    except UserError as error:
        return error


def _raise_errors(answer: Any) -> Any:
    if isinstance(answer, UserError):
        raise answer
    return answer


def wait(process: ProcessContext) -> None:
    """Until every process is here."""
    if process.world_size > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()


def gather(rows: list[T], process: ProcessContext) -> list[T]:
    """The rows of all processes, in the order of their ranks, on every process."""
    if process.world_size == 1:
        return rows
    from accelerate.utils import gather_object

    return gather_object(rows)


def assert_same_on_all_ranks(
    what: str, compute: Callable[[], str], process: ProcessContext
) -> None:
    """Stop where not every process says the same; one alone is not even asked.

    Raises:
        UserError: on every process, with the ranks that differ from the first.
    """
    if process.world_size == 1:
        return
    from accelerate.utils import gather_object

    answers = gather_object([compute()])
    different = [str(rank) for rank, answer in enumerate(answers) if answer != answers[0]]
    if different:
        raise UserError(
            ExitCode.MACHINE,
            f"The processes do not hold the same {what}: rank {', '.join(different)} differs from "
            "rank 0. Give all of them the same files, packages and environment.",
        )


def as_launched(config: Config) -> Config:
    """The configuration with what `accelerate launch` says of it: FSDP2 is `parallel=fsdp`.

    Raises:
        UserError: for what accelerate's configuration asks and this package does not do.
    """
    if not _is_set(FSDP):
        return config
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise UserError(
            ExitCode.MACHINE,
            "accelerate is configured for the first version of FSDP. Set fsdp_version: 2 in its "
            "configuration file, or use torchrun and training.parallel=fsdp.",
        )
    if _is_set("FSDP_OFFLOAD_PARAMS"):
        raise UserError(
            ExitCode.MACHINE,
            "accelerate is configured for FSDP with fsdp_offload_params, which this package does "
            "not do. Set it to false.",
        )
    os.environ.pop(FSDP)  # the model is spread stage by stage, by torch itself
    return replace(config, training=replace(config.training, parallel=Parallel.fsdp))


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "false").lower() in ("1", "true", "yes")


def _refuse_sharded_models() -> None:
    for variable, name in SHARDED.items():
        if _is_set(variable):
            raise UserError(
                ExitCode.MACHINE,
                f"accelerate is configured for {name}, whose checkpoints and optimizers are its "
                "own: stages, continuing and export would not be the same. Use fsdp_version: 2, or "
                "torchrun and training.parallel=fsdp.",
            )


def _set_up_logging(process: ProcessContext) -> None:
    import datasets
    import transformers

    if not logger.handlers:
        handler = logging.StreamHandler(output())
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(logging.INFO if process.is_first else logging.ERROR)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # Said by torch at every DataLoader on a machine without a GPU.
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
