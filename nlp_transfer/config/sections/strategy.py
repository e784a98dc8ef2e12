"""The stages of a training."""

from __future__ import annotations

from dataclasses import dataclass, field

from nlp_transfer.config.choices import Adapt, Solver
from nlp_transfer.config.constants import AUTO, MISSING


@dataclass
class StageConfig:
    """One stretch of training: how many top layers learn, how fast, for how long."""

    layers: str = MISSING
    """all (with the embeddings), encoder (all layers, without the embeddings), or a number of top
    layers; 0: the head alone."""
    head: bool = True
    """Whether the head learns; false if the loss reads the embeddings below it."""
    epochs: float = 3.0
    """Passes over train."""
    steps: int | None = None
    """Optimizer steps, instead of epochs."""
    loss: str | None = None
    """The name of a loss; null: training.loss."""
    temperature: float = 0.1
    """Divides the similarities of the contrastive loss (lower values look at the nearest texts
    only), and the logits of the loss distillation (higher values look at every label)."""
    consistency: float = 0.0
    """The weight of R-Drop: each text is read twice, and what dropout changes in its answer is part
    of the loss; 0: read once."""
    crop: int | None = None
    """The most tokens of a text that a loss of embeddings reads, from a place that is drawn each
    time; null: as many as a text has. Pairs are read whole."""
    teacher: str | None = None
    """A finished run or an exported folder whose logits the loss distillation learns."""
    unlabeled: str | None = None
    """A file or a glob of more texts that the teacher answers, with the columns of the dataset."""
    encoder_learning_rate: float = 5e-5
    """The peak learning rate of the encoder's layers."""
    head_learning_rate: float | None = None
    """The peak learning rate of the head; null: the encoder's."""
    solver: Solver = Solver.gradient
    """How the stage finds its weights."""
    layer_decay: float = 1.0
    """Each layer learns this many times as fast as the one above it."""
    lora_rank: int = 0
    """Train the layers through adapters of this rank; 0: the layers themselves."""
    min_steps: int | None = None
    """The fewest optimizer steps of this stage; null: strategy.min_steps. Epochs that are typed for
    a stage set it to 0."""
    steps_per_shot: float | None = None
    """Optimizer steps, instead of epochs, for each row that a label has on average: at least
    min_steps, at most max_steps. Epochs that are typed for a stage set it, and max_steps, to
    null."""
    max_steps: int | None = None
    """The most optimizer steps that steps_per_shot gives; null: no bound."""


@dataclass
class StrategyConfig:
    """A list of stages, and short forms that apply to all of them where they make sense."""

    name: str = MISSING
    """The name of the strategy; auto: chosen by the data."""
    stages: dict[str, StageConfig] = field(default_factory=dict)
    epochs: float | None = None
    """Epochs of every stage."""
    learning_rate: float | None = None
    """The learning rate of the encoder in every stage; of the head if nothing else learns."""
    top_layers: int | None = None
    """The number of top layers, in every stage that trains some but not all layers."""
    min_steps: int = 100
    """The fewest optimizer steps of a stage, unless epochs are given: few rows need more epochs."""
    solve_head: bool = False
    """Start from a head that is solved on frozen features."""
    self_training: bool | None = None
    """Learn from the surest of the model's own answers to dataset.unlabeled, too; null: auto does
    if cross-validation of 100 rows or more says that it helps."""
    adapt: Adapt = Adapt.none
    """What the encoder learns first, from the texts of train and dataset.unlabeled alone."""
    adapt_epochs: float = 1.0
    """Passes of strategy.adapt over its texts."""
    adapt_learning_rate: float = 5e-5
    """The peak learning rate of the encoder in strategy.adapt."""
    label_names: bool | None = None
    """Use label names as training texts; null: auto does if they are words and rows are few."""
    max_minutes: float | None = None
    """The most minutes of the run: auto starts nothing that they do not pay for, and training ends
    in time for the best model so far to be exported; null: as long as it takes."""
    allow_destructive_rate: bool = False
    """Allow learning rates of the encoder above 1e-3."""

    @property
    def is_auto(self) -> bool:
        """Whether the stages are still to be chosen."""
        return self.name == AUTO and not self.stages
