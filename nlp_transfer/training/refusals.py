"""Stops before training where training would fail."""

from __future__ import annotations

from importlib.util import find_spec

from nlp_transfer.config.choices import Solver
from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.strategy import StrategyConfig
from nlp_transfer.config.sections.training import AugmentConfig, TrainingConfig
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.training.extensions import NO_EXTENSIONS, Extensions
from nlp_transfer.training.objectives.augmentation import is_augmented
from nlp_transfer.training.objectives.class_weights import weigh_labels


def refuse_absent_trackers(report_to: list[str]) -> None:
    """Stop before training where a tracker is asked for that is not installed."""
    for name in report_to:
        if find_spec(name) is None:
            raise UserError(
                ExitCode.CONFIG,
                f"training.report_to has {name}, which is not installed. "
                f"Type pip install {name}, or leave it out.",
            )


def refuse_augmenting_nothing(
    config: Config, corpus: Corpus, extensions: Extensions = NO_EXTENSIONS
) -> None:
    """Stop before training where `training.augment` would change nothing, or spoil labels."""
    augment, problem = config.training.augment, corpus.problem
    if augment == AugmentConfig():
        return
    if augment.mix and not (problem.integer_references or problem.several):
        raise UserError(
            ExitCode.CONFIG,
            f"training.augment.mix={augment.mix:g} joins two texts with the same label; "
            f"dataset.problem={problem.name} has {problem.rows_have}. Leave it out.",
        )
    losses = [
        extensions.find_loss(stage.loss, config.training.loss, problem)
        for stage in config.strategy.stages.values()
        if stage.solver is Solver.gradient
    ]
    if config.strategy.stages and not any(is_augmented(config.training, x) for x in losses):
        raise UserError(
            ExitCode.CONFIG,
            f"training.augment has no effect with strategy={config.strategy.name}: none of its "
            "stages reads the texts of train anew in every epoch. Leave it out, or choose another "
            "strategy (contrastive, full, probe_then_full).",
        )


def refuse_no_answers(strategy: StrategyConfig, corpus: Corpus) -> None:
    """Stop before training where there is nothing that `strategy.self_training` could answer."""
    if not strategy.self_training:
        return
    if corpus.unlabeled is None:
        raise UserError(
            ExitCode.CONFIG,
            "strategy.self_training=true answers texts without labels, and there are none. Name "
            "their file: dataset.unlabeled=more.csv.",
        )
    if not corpus.has_classes:
        raise UserError(
            ExitCode.CONFIG,
            "strategy.self_training=true takes the likeliest label of a text for its own; expected "
            f"one label a text, and dataset.problem={corpus.problem.name} has "
            f"{corpus.problem.rows_have}. Leave it out.",
        )


def refuse_unfitting(
    training: TrainingConfig, corpus: Corpus, extensions: Extensions = NO_EXTENSIONS
) -> None:
    """Stop before training where what is asked of the loss does not fit the problem."""
    references = corpus.references("train")
    weigh_labels(references, corpus.labels, corpus.problem, training.class_weights)
    extensions.find_loss(None, training.loss, corpus.problem)
    if not corpus.problem.has_labels and training.label_smoothing:
        raise UserError(
            ExitCode.CONFIG,
            f"training.label_smoothing={training.label_smoothing} is for labels; the corpus has "
            "scores. Leave it out.",
        )
