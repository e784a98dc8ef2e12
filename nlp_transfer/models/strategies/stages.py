"""Turns a strategy into stages."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from nlp_transfer.config.choices import Adapt, Solver
from nlp_transfer.config.sections.strategy import StageConfig, StrategyConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.structure import ModelStructure
from nlp_transfer.utils.logging import logger

ADAPTER = ".lora_"  # in the names of an adapter's matrices
ADAPT = "adapt"  # the name of the stage that learns from texts alone
ADAPT_LOSSES = {Adapt.mlm: "masked_lm", Adapt.contrastive: "simcse"}


@dataclass(frozen=True)
class Stage:
    """One `Trainer.train()`: what is at least `lowest` deep learns, all else is frozen.

    With a `lora_rank` the layers themselves are frozen too: adapters beside them learn.
    """

    name: str
    lowest: int  # depth in the structure: 0 is everything, layers + 1 the head alone
    epochs: float
    head_learning_rate: float
    encoder_learning_rate: float
    layer_decay: float
    solver: Solver = Solver.gradient
    lora_rank: int = 0
    head: bool = True  # whether the loss reads the head's logits
    steps: int | None = None  # of the optimizer; None: as many as the epochs have
    loss: str | None = None  # None: training.loss
    temperature: float = 0.1  # of the contrastive loss, and of distillation
    consistency: float = 0.0  # the weight of R-Drop; above 0 each text is read twice
    crop: int | None = None  # the most tokens of a text that a loss of embeddings reads
    teacher: str | None = None  # whose logits are learned
    unlabeled: str | None = None  # a file of more texts that the teacher answers
    pristine: bool = True  # what is frozen here has not learned in an earlier stage either
    after_solver: bool = False  # an earlier stage has solved the head, and it stays as it is

    def learns(self, structure: ModelStructure, name: str) -> bool:
        """Whether a parameter learns in this stage."""
        depth = structure.depth(name)
        if not self.trains_head and depth > structure.layers - structure.mean_layer:
            return False
        if self.lora_rank and depth <= structure.layers and ADAPTER not in name:
            return False
        return depth >= self.lowest

    @property
    def trains_head(self) -> bool:
        """Whether the head learns; where not, a layer that only averages does not either.

        A solved head does not: its dense layer is a small multiple of the identity and its last
        layer as much larger, so steps of a size that suits the encoder throw its logits about.
        """
        return self.head and not self.after_solver

    def learning_rate(self, structure: ModelStructure, name: str) -> float:
        """The peak rate of a parameter."""
        depth = structure.depth(name)
        if depth > structure.layers:
            return self.head_learning_rate
        return self.encoder_learning_rate * self.layer_decay ** (structure.layers - depth)

    def describe(self, structure: ModelStructure) -> str:
        """What learns, in words."""
        top = structure.layers + 1 - self.lowest
        if top == 0:
            return "the head"
        if self.lora_rank:
            return (
                f"the head and adapters of rank {self.lora_rank} in the top {top} "
                f"of {structure.layers} layers"
            )
        if not self.trains_head:
            own = structure.layers - structure.mean_layer
            if self.lowest == 0:
                return f"the embeddings and all {own} layers"
            return f"the top {top - structure.mean_layer} of {own} layers"
        if self.lowest == 0:
            return f"everything: the head, all {structure.layers} layers and the embeddings"
        return f"the head and the top {top} of {structure.layers} layers"


def plan_stages(
    config: StrategyConfig,
    structure: ModelStructure,
    rows: int,
    labels: int,
    batch_size: int,
    texts: int | None = None,
) -> list[Stage]:
    """The stages in their order, the short forms (`strategy.epochs` …) applied.

    Args:
        rows: of train; with few, a stage gets more epochs than it says (`strategy.min_steps`).
        labels: that these rows have; 1 where they have scores.
        texts: that a stage without labels learns from; None: those of the rows.

    Raises:
        UserError: if a stage asks for more layers than there are.
    """
    stages = [
        replace(_plan(name, stage, config, structure), steps=_steps(stage, config, rows / labels))
        for name, stage in config.stages.items()
    ]
    if config.solve_head:
        stages = _solved_first(stages, structure)
    if config.adapt is not Adapt.none:
        stages = [_adapting(config, rows if texts is None else texts, batch_size), *stages]
    for i, stage in enumerate(stages):
        if stage.steps is not None and stage.name != ADAPT:
            stage = replace(stage, epochs=stage.steps / math.ceil(rows / batch_size))
        lowest = min((earlier.lowest for earlier in stages[:i]), default=stage.lowest)
        solved = any(earlier.solver is Solver.exact for earlier in stages[:i])
        stages[i] = replace(
            stage,
            pristine=lowest >= stage.lowest,
            after_solver=solved and structure.solvable_head and stage.lowest <= structure.layers,
        )
    if config.epochs is not None:
        return stages
    least = {name: stage.min_steps for name, stage in config.stages.items()}
    return [
        _long_enough(stage, _first(least.get(stage.name), config.min_steps), rows, batch_size)
        for stage in stages
    ]


def _first(value: int | None, default: int) -> int:
    return default if value is None else value


def _steps(stage: StageConfig, config: StrategyConfig, shots: float) -> int | None:
    """The steps that a stage says, or those for so many rows a label; None: those of its epochs."""
    if stage.steps is not None or stage.steps_per_shot is None or config.epochs is not None:
        return stage.steps
    steps = math.ceil(stage.steps_per_shot * shots)
    steps = max(steps, _first(stage.min_steps, config.min_steps), 1)
    return steps if stage.max_steps is None else min(steps, stage.max_steps)


def shortened_stages(stages: list[Stage], share: float) -> list[Stage]:
    """The same stages with a share of their epochs; whole ones, where one is left of them.

    Rates then fall to zero within what there is time for.
    """
    if share >= 1:
        return stages
    shorter = []
    for stage in stages:
        epochs = share * stage.epochs
        epochs = math.floor(epochs) if epochs >= 1 else epochs
        steps = None if stage.steps is None else max(round(share * stage.steps), 1)
        shorter.append(replace(stage, epochs=float(epochs), steps=steps))
    return shorter


def stage_steps(stage: Stage, rows: int, batch_size: int) -> int:
    """Optimizer steps of a stage."""
    if stage.steps is not None:
        return stage.steps
    return math.ceil(stage.epochs * math.ceil(rows / batch_size))


def _solved_first(stages: list[Stage], structure: ModelStructure) -> list[Stage]:
    """The same stages after a solved head: a first one for the head alone is solved itself."""
    first = stages[0]
    if first.lowest > structure.layers:
        return [replace(first, solver=Solver.exact), *stages[1:]]
    name = "head" if all(stage.name != "head" for stage in stages) else "solved_head"
    # Its epochs and rate count only for a head that cannot be solved.
    epochs, rate = 10.0, 1e-3
    head = Stage(name, structure.layers + 1, epochs, rate, rate, 1.0, Solver.exact)
    return [head, *stages]


def _adapting(config: StrategyConfig, texts: int, batch_size: int) -> Stage:
    """The stage that learns from texts alone; the token embeddings stay as they are."""
    rate = config.adapt_learning_rate
    return Stage(
        ADAPT,
        lowest=1,
        epochs=config.adapt_epochs,
        head_learning_rate=rate,
        encoder_learning_rate=rate,
        layer_decay=1.0,
        head=False,
        steps=math.ceil(config.adapt_epochs * math.ceil(texts / batch_size)),
        loss=ADAPT_LOSSES[config.adapt],
        temperature=0.05,
    )


def _long_enough(stage: Stage, min_steps: int, rows: int, batch_size: int) -> Stage:
    """The stage with as many whole epochs as `min_steps` takes, if it has fewer."""
    if stage.steps is not None or stage_steps(stage, rows, batch_size) >= min_steps:
        return stage
    epochs = math.ceil(min_steps / math.ceil(rows / batch_size))
    if stage.solver is Solver.gradient:
        logger.info(
            "stage %s: %d epochs instead of %g, for %d steps (strategy.min_steps)",
            stage.name,
            epochs,
            stage.epochs,
            min_steps,
        )
    return replace(stage, epochs=float(epochs))


def _plan(
    name: str, stage: StageConfig, config: StrategyConfig, structure: ModelStructure
) -> Stage:
    layers = _layers(name, stage, config, structure)
    if layers is None and stage.lora_rank:
        layers = structure.layers  # the embeddings have nothing to put an adapter beside
    encoder_rate, head_rate = stage.encoder_learning_rate, stage.head_learning_rate
    if config.learning_rate is not None:
        if layers == 0:
            # In a strategy that also trains layers, the short form is meant for those.
            if all(other.layers == "0" for other in config.stages.values()):
                head_rate = config.learning_rate
        else:
            encoder_rate = config.learning_rate
    return Stage(
        name=name,
        lowest=0 if layers is None else structure.layers + 1 - layers,
        epochs=stage.epochs if config.epochs is None else config.epochs,
        head_learning_rate=encoder_rate if head_rate is None else head_rate,
        encoder_learning_rate=encoder_rate,
        layer_decay=stage.layer_decay,
        solver=stage.solver,
        lora_rank=stage.lora_rank,
        head=stage.head,
        loss=stage.loss,
        temperature=stage.temperature,
        consistency=stage.consistency,
        crop=stage.crop,
        teacher=stage.teacher,
        unlabeled=stage.unlabeled,
    )


def _layers(
    name: str, stage: StageConfig, config: StrategyConfig, structure: ModelStructure
) -> int | None:
    """Number of top layers that learn; None: everything, the embeddings included."""
    if stage.layers == "all":
        return None
    if stage.layers == "encoder":
        return structure.layers
    layers = int(stage.layers)
    if layers and config.top_layers is not None:
        layers = config.top_layers
    if layers > structure.layers:
        raise UserError(
            ExitCode.CONFIG,
            f"Stage {name} trains the top {layers} layers, but there are {structure.layers}. "
            "Give fewer, or layers=all.",
        )
    return layers
