"""What Python adds to a configuration: metrics, callbacks and a loss without a registered name."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import TrainerCallback

from nlp_transfer.config.choices import ClassWeights
from nlp_transfer.config.schema import Config
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.metric_set import Metrics
from nlp_transfer.evaluation.registry import METRICS, Metric, key_of
from nlp_transfer.models.strategies.stages import Stage
from nlp_transfer.problems import Problem
from nlp_transfer.problems.registry import PROBLEMS
from nlp_transfer.runs.identity import REGISTERED
from nlp_transfer.training.forecast.budget import Deadline
from nlp_transfer.training.losses import LOSSES, Loss, find_loss
from nlp_transfer.training.stages.history import StageHistory
from nlp_transfer.utils.object_digest import Unhashable, digest_of_object

MetricFunction = Callable[[Any, Any], float]


@dataclass(frozen=True)
class Extensions:
    """Code that is given to `run`; it is part of what the run is."""

    metrics: tuple[Metric | MetricFunction, ...] = ()
    callbacks: tuple[TrainerCallback, ...] = ()
    loss: Loss | None = None
    deadline: Deadline | None = None  # of one training, by `strategy.max_minutes`

    @classmethod
    def of(
        cls,
        metrics: Sequence[Metric | MetricFunction] = (),
        callbacks: Sequence[TrainerCallback | type[TrainerCallback]] = (),
        loss: Loss | Callable[..., Any] | None = None,
    ) -> Extensions:
        """What was given, checked; a class of callbacks becomes an instance.

        Raises:
            UserError: one of them is something else.
        """
        for metric in metrics:
            if not callable(metric) and not isinstance(metric, Metric):
                raise UserError(
                    ExitCode.CONFIG,
                    f"metrics has {metric!r}; expected functions of (references, decisions), or "
                    "Metric. Metrics of this package are named in evaluation.metrics=[…].",
                )
        instances = tuple(c() if isinstance(c, type) else c for c in callbacks)
        for callback in instances:
            if not isinstance(callback, TrainerCallback):
                raise UserError(
                    ExitCode.CONFIG,
                    f"callbacks has {callback!r}; expected instances of "
                    "transformers.TrainerCallback.",
                )
        if loss is not None and not isinstance(loss, Loss):
            loss = Loss.from_callable(loss)
        return cls(tuple(metrics), instances, loss)

    def digests(self) -> dict[str, str | None]:
        """What each is, by what it is called: SHA-256 of its code and content; None: it has none.

        As `callback Tracker`, `metric agreement`, `loss focal`; a second of the same name is
        `callback Tracker (2)`.
        """
        parts: list[tuple[str, Any]] = [
            *((f"metric {_name(metric)}", metric) for metric in self.metrics),
            *((f"callback {type(callback).__name__}", callback) for callback in self.callbacks),
            *((f"loss {loss.name}", loss) for loss in [self.loss] if loss is not None),
        ]
        digests: dict[str, str | None] = {}
        for name, part in parts:
            same = sum(each.partition(" (")[0] == name for each in digests)
            digests[f"{name} ({same + 1})" if same else name] = _digest(part)
        return digests

    def for_fold(self) -> Extensions:
        """Copies of the callbacks, so that each fold has them as they were given.

        Raises:
            UserError: one cannot be copied.
        """
        copies = []
        for callback in self.callbacks:
            try:
                copies.append(copy.deepcopy(callback))
            except Exception as error:  # noqa: BLE001 (it is code of the person who calls us)
                raise UserError(
                    ExitCode.CONFIG,
                    f"The callback {type(callback).__name__} cannot be copied for the folds of "
                    f"cross-validation ({error}). Give it a __deepcopy__, or train without folds "
                    "(evaluation.folds=0).",
                ) from error
        return replace(self, callbacks=tuple(copies))

    def find_loss(self, of_stage: str | None, of_run: str | None, problem: Problem) -> Loss:
        """The loss that a stage names, else the one that was given, else that of the run.

        Raises:
            UserError: there is none of this name, or it is not for this problem.
        """
        if of_stage is None and self.loss is not None:
            return self.loss
        return find_loss(of_stage or of_run, problem)


NO_EXTENSIONS = Extensions()


def registered_code(
    config: Config, metrics: Metrics, extensions: Extensions
) -> dict[str, str | None]:
    """Digests of what a run names and other code has registered, such as `registered loss focal`.

    None: it has no content that could be hashed.
    """
    problem, losses = metrics.problem, []
    if extensions.loss is None:
        losses.append(config.training.loss or problem.loss)
    stages = config.strategy.stages.values()
    losses += [stage.loss for stage in stages if stage is not None and stage.loss is not None]
    origins = {
        f"problem {problem.name}": PROBLEMS.foreign(problem.name),
        **{f"loss {name}": LOSSES.foreign(name) for name in losses},
        **{
            f"metric {metric.name}": METRICS.foreign(key_of(metric.kind.problem, metric.name))
            for metric in metrics.metrics
            if metric not in extensions.metrics
        },
    }
    return {
        f"{REGISTERED}{name}": _digest(origin)
        for name, origin in origins.items()
        if origin is not None
    }


def refuse_unhashable(digests: dict[str, str | None], config: Config) -> None:
    """Code without a digest cannot name a run: the person has to.

    Raises:
        UserError: `run_dir` is not given.
    """
    nameless = [name for name, digest in digests.items() if digest is None]
    if nameless and config.run_dir is None:
        raise UserError(
            ExitCode.CONFIG,
            f"The {', the '.join(nameless)} cannot be hashed (something in it has no content, such "
            "as an open file or a lock), so no folder can be named after this run. Name one: "
            "run_dir=FOLDER.",
        )


def with_loss(config: Config, loss: Loss | str | None) -> Config:
    """The configuration with the name of the loss that was given.

    Raises:
        UserError: the configuration asks for what a plain function does not read.
    """
    if loss is None:
        return config
    training = config.training
    if isinstance(loss, str):
        return replace(config, training=replace(training, loss=loss))
    for key, value, default in (
        ("label_smoothing", training.label_smoothing, 0.0),
        ("class_weights", training.class_weights, ClassWeights.none.value),
    ):
        if not loss.reads_options and value != default:
            raise UserError(
                ExitCode.CONFIG,
                f"training.{key}={value} has no effect on the loss {loss.name}, a function of "
                "logits and labels alone. Leave it out, or give a Loss, whose function reads it.",
            )
    return replace(config, training=replace(training, loss=loss.name))


def unused_extensions(
    extensions: Extensions, stages: Sequence[Stage], history: Sequence[StageHistory]
) -> Iterator[str]:
    """What was given and had no effect on what was trained, one line each."""
    by_gradient = [s for s, h in zip(stages, history, strict=True) if h.steps]
    reason = "no stage learns by gradient (the head was solved)"
    if extensions.callbacks and not by_gradient:
        yield f"The callbacks were not called: {reason}."
    if extensions.loss is not None and not any(stage.loss is None for stage in by_gradient):
        reason = "every stage that learns by gradient names its own" if by_gradient else reason
        yield f"The loss {extensions.loss.name} has no effect: {reason}."


def _name(metric: Metric | MetricFunction) -> str:
    return metric.name if isinstance(metric, Metric) else getattr(metric, "__name__", str(metric))


def _digest(part: Any) -> str | None:
    try:
        return digest_of_object(part)
    except Unhashable:
        return None
