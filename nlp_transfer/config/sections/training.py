"""How a stage is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nlp_transfer.config.choices import ClassWeights, Parallel, Precision, Schedule

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")


@dataclass
class AugmentConfig:
    """Changes to the texts of train, drawn anew each time that a text is read; 0: none."""

    word_dropout: float = 0.0
    """The share of words that are left out."""
    word_swap: float = 0.0
    """The share of words that change places with the next one."""
    typos: float = 0.0
    """The share of words with a typing mistake: a letter that is missing, doubled, exchanged with
    the next one, or its neighbour on a QWERTY keyboard."""
    mix: float = 0.0
    """The share of texts whose end is replaced by the end of another text with the same label."""


@dataclass
class TrainingConfig:
    """How a stage is trained."""

    batch_size: int = 16
    """Rows of one optimizer step, over all processes."""
    micro_batch_size: int | str | None = None
    """Rows of one forward pass of one process; auto: as many as fit into memory; null: all."""
    parallel: Parallel = Parallel.ddp
    """How several processes train one model; fsdp is for one that does not fit into each."""
    precision: Precision = Precision.auto
    """The arithmetic of the training step."""
    schedule: Schedule = Schedule.linear
    """How the learning rate falls after the warm-up."""
    warmup: float = 0.1
    """The share of a stage's steps in which the learning rate rises."""
    weight_decay: float = 0.01
    """The weight decay of AdamW; biases and normalisation layers have none."""
    max_grad_norm: float = 1.0
    """Clip gradients to this norm."""
    loss: str | None = None
    """The name of a loss; null: that of the kind of label."""
    label_smoothing: float = 0.0
    """The share of each target that is spread over all labels."""
    class_weights: Any = ClassWeights.none.value
    """Weights of the labels in the loss: none, balanced, sqrt, or a mapping such as {spam: 3, ham:
    1}."""
    early_stopping: int | None = None
    """End a stage after this many epochs without a better metric; null: never."""
    checkpoint_minutes: float = 10.0
    """The minutes between two checkpoints of a stage; a signal to stop writes one at once."""
    keep_best: bool = True
    """Keep the best epoch of a stage instead of the last."""
    threads: int | None = None
    """CPU threads of each process; null: torch's own choice."""
    cpu: bool = False
    """Do not use an accelerator."""
    compile: bool = False
    """Compile the model by torch.compile: minutes at first, then faster steps on GPUs."""
    gradient_checkpointing: bool = False
    """Recompute activations: less memory for about a third more time."""
    report_to: list[str] = field(default_factory=list)
    """Experiment trackers: tensorboard, wandb, mlflow, trackio."""
    progress: bool = True
    """Show a progress bar."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
