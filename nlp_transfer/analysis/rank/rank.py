"""Ranks checkpoints for a task by their frozen features, before any of them is trained."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nlp_transfer.analysis.rank.checkpoint_costs import costs_of
from nlp_transfer.analysis.rank.ranking import Candidate, Ranking, Scores
from nlp_transfer.analysis.rank.transferability import (
    h_score,
    log_maximum_evidence,
    neighbour_logits,
)
from nlp_transfer.config.choices import Pooling
from nlp_transfer.config.composition import compose
from nlp_transfer.config.groups import group_options
from nlp_transfer.config.schema import Config
from nlp_transfer.data.corpus import Corpus, load_run_corpus
from nlp_transfer.data.splitters import stratified_part, stratified_parts
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.intervals.significance import (
    LEVEL,
    Answers,
    Contender,
    Difference,
    Rows,
    difference,
    draw_scores,
    holm,
)
from nlp_transfer.evaluation.metric_set import Metrics, load_metrics
from nlp_transfer.features.linear_models import Table, out_of_fold
from nlp_transfer.features.summaries import FIRST, MEAN, stored_summaries
from nlp_transfer.models.loading import LOADING_FAILS_WITH, Pretrained
from nlp_transfer.models.mean_pooling import FIRST_TOKEN, PARTS
from nlp_transfer.models.preparation import load_and_encode
from nlp_transfer.utils.device import trim_memory
from nlp_transfer.utils.distributed import ProcessContext, join
from nlp_transfer.utils.logging import logger

ROWS = 2000  # of train, unless --rows says otherwise: minutes a checkpoint on a CPU
FOLDS = 5
POOLINGS = {Pooling.first: FIRST, Pooling.mean: MEAN}
FAILS_WITH: tuple[type[Exception], ...] = (UserError, *LOADING_FAILS_WITH)


@dataclass(frozen=True)
class _Question:
    """What every checkpoint is asked."""

    corpus: Corpus  # train alone
    folds: np.ndarray  # int [rows]
    metrics: Metrics
    by_layer: bool
    process: ProcessContext


def rank(  # noqa: PLR0913
    overrides: Sequence[str],
    checkpoints: Sequence[str],
    rows: int = ROWS,
    by_layer: bool = False,
    config_dir: str | Path | None = None,
    config: Config | None = None,
) -> Ranking:
    """Score every checkpoint on the same rows of train; one that fails does not stop the others.

    The features of each are kept in `features.folder`: the same command, interrupted or not,
    encodes nothing again.

    Args:
        overrides: as `nlp-transfer train` takes them, without a checkpoint.
        checkpoints: names of the group `checkpoint`, names on the Hub, or folders.
        rows: of train at most, drawn by label.
        by_layer: every layer, not only the last one.
        config: of the overrides, where that is composed already.

    Raises:
        UserError: if the configuration or the data are wrong.
    """
    _refuse(overrides)
    config = config or compose(*overrides, config_dir=config_dir, in_memory=False)
    process = join(config.training)
    corpus = load_run_corpus(config)
    question = _question(config, corpus, rows, by_layer, process)
    candidates = []
    for name in checkpoints:
        logger.info("%s", name)
        candidates.append(_candidate(name, overrides, config_dir, question))
        trim_memory()
    return Ranking(
        question.metrics.best,
        question.metrics.greater_is_better,
        len(question.folds),
        len(corpus.splits["train"]),
        by_layer,
        _in_order(candidates, question),
    )


def _refuse(overrides: Sequence[str]) -> None:
    named = [
        word
        for word in overrides
        if word.lstrip("+").startswith(("checkpoint=", "checkpoint.name="))
    ]
    if named:
        raise UserError(
            ExitCode.CONFIG,
            f"{named[0]} names one checkpoint, and rank compares several: leave it out and write "
            "--checkpoints A,B,C.",
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(ExitCode.CONFIG, "rank runs in one process. Start it without torchrun.")


def _choice(name: str, config_dir: str | Path | None) -> str:
    """What a person types to train this checkpoint."""
    groups = [option for option, _ in group_options("checkpoint", config_dir)]
    return f"checkpoint={name}" if name in groups else f"checkpoint.name={name}"


def _question(
    config: Config, corpus: Corpus, rows: int, by_layer: bool, process: ProcessContext
) -> _Question:
    references = corpus.references("train")
    strata = corpus.problem.strata(references)
    chosen = np.arange(len(references))
    if rows < len(chosen):
        chosen = stratified_part(strata, rows, config.dataset.seed)
    folds = (
        corpus.folds
        if corpus.folds is not None
        else stratified_parts(strata, FOLDS, config.dataset.seed)
    )
    folds = np.unique(folds[chosen], return_inverse=True)[1]
    _refuse_too_few(references[chosen], folds)
    train = corpus.splits["train"].select(chosen)
    corpus = replace(corpus, splits={"train": train}, folds=None)
    metrics = load_metrics(config.evaluation, corpus.labels, corpus.problem)
    return _Question(corpus, folds, metrics, by_layer, process)


def _refuse_too_few(references: np.ndarray, folds: np.ndarray) -> None:
    for fold in np.unique(folds):
        rest = references[folds != fold]
        if len(rest) < 2 or bool((rest == rest[0]).all()):
            raise UserError(
                ExitCode.DATA,
                f"The {len(folds)} rows of train are too few to compare checkpoints by "
                "cross-validation: expected at least two rows of two labels without each fold. "
                "Label more rows, or raise --rows.",
            )


def _candidate(
    name: str, overrides: Sequence[str], config_dir: str | Path | None, question: _Question
) -> Candidate:
    choice = _choice(name, config_dir)
    command = ["train", *(["--config-dir", str(config_dir)] if config_dir else []), *overrides]
    try:
        config = compose(*overrides, choice, config_dir=config_dir, in_memory=False)
        pretrained, encoded = load_and_encode(config, question.corpus, question.process)
        layers = pretrained.structure.layers
        depths = list(range(1, layers + 1)) if question.by_layer else [layers]
        inputs, collator = encoded.splits["train"].inputs, encoded.collator
        features = stored_summaries(
            pretrained, inputs, collator, depths, config.features, question.process
        )
        costs = costs_of(pretrained, inputs, collator)
    except FAILS_WITH as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        logger.info("  failed; the reason follows")
        return Candidate(name, _command([*command, choice]), failed=reason)
    scores = [
        _scores(features[:, place, position], pooling, depth, question)
        for place, depth in enumerate(depths)
        for pooling, position in _poolings(pretrained).items()
    ]
    best = _best_scores(scores, question.metrics)
    words = [*command, choice, *_pooling_words(pretrained, best.pooling)]
    gain = _gain_over_last(scores, best, layers, question)
    return Candidate(name, _command(words), None, layers, costs, scores, best, gain)


def _gain_over_last(
    scores: Sequence[Scores], best: Scores, layers: int, question: _Question
) -> Difference | None:
    if best.layer == layers:
        return None
    of_last = [each for each in scores if each.layer == layers]
    last = _best_scores(of_last, question.metrics)
    one, other = _contenders([best, last], question)
    return difference(one, other)


def _command(words: Sequence[str]) -> str:
    quoted = [
        word if not set(word) & set(" \"'$&|;<>()[]{}*?\\`!") else f"'{word}'" for word in words
    ]
    return " ".join(["nlp-transfer", *quoted])


def _poolings(pretrained: Pretrained) -> dict[Pooling, int]:
    """Those that mean something: the first token of a decoder has seen nothing else."""
    encoder = pretrained.model.config.model_type in (*PARTS, *FIRST_TOKEN)
    return POOLINGS if encoder else {Pooling.mean: MEAN}


def _pooling_words(pretrained: Pretrained, pooling: str) -> list[str]:
    config = pretrained.model.config
    can_choose = config.model_type in PARTS or hasattr(config, "classifier_pooling")
    return [f"checkpoint.pooling={pooling}"] if can_choose else []


def _scores(x: np.ndarray, pooling: Pooling, layer: int, question: _Question) -> Scores:
    corpus, metrics, labels = question.corpus, question.metrics, len(question.corpus.labels)
    problem, references = corpus.problem, corpus.references("train")
    table = Table(x.astype(np.float64), references, np.ones(len(x)))
    logits = out_of_fold(labels, table, question.folds, problem)
    figures = metrics.of_rows(logits, references)
    by_neighbours = metrics.compute(neighbour_logits(x, references, problem, labels), references)
    classes = problem.classes(references)
    targets = problem.targets(references, labels) if problem.has_labels else references
    value = figures["metrics"][metrics.best]
    return Scores(
        pooling.value,
        layer,
        float("nan") if value is None else value,
        figures["intervals"].get(metrics.best),
        log_maximum_evidence(x, targets),
        None if classes is None else h_score(x, classes),
        by_neighbours[metrics.best],
        logits,
    )


def _best_scores(scores: Sequence[Scores], metrics: Metrics) -> Scores:
    """Of equal ones the highest layer: a lower one would be no gain."""
    highest_first = sorted(scores, key=lambda each: -each.layer)
    return highest_first[_best([each.cross_validated for each in highest_first], metrics)]


def _best(values: Sequence[float], metrics: Metrics) -> int:
    sign = 1 if metrics.greater_is_better else -1
    return int(np.nanargmax([sign * value for value in values])) if np.isfinite(values).any() else 0


def _in_order(candidates: list[Candidate], question: _Question) -> list[Candidate]:
    """The best first; those that failed last, as they were named.

    Those that the data cannot tell from the best score stand together, ordered by LogME, which
    predicts the accuracy after training better than the score does.
    """
    scored = [(each, each.best) for each in candidates if each.best is not None]
    failed = [each for each in candidates if each.best is None]
    if not scored:
        return failed
    points = _contenders([best for _, best in scored], question)
    values = [point.score for point in points]
    first = _best(values, question.metrics)
    others = [i for i in range(len(scored)) if i != first]
    ps = holm([difference(points[first], points[i]).p for i in others])
    tied = {first, *(i for i, p in zip(others, ps, strict=True) if p >= LEVEL)}
    sign = -1 if question.metrics.greater_is_better else 1

    def place(i: int) -> tuple[bool, float]:
        return (False, -scored[i][1].logme) if i in tied else (True, sign * values[i])

    top, *rest = sorted(range(len(scored)), key=place)
    in_order = [scored[top][0], *(replace(scored[i][0], tied=i in tied) for i in rest)]
    return in_order + failed


def _contenders(scores: Sequence[Scores], question: _Question) -> list[Contender]:
    """On the same rows drawn again."""
    metrics = question.metrics
    rows = Rows(metrics.classes, question.corpus.references("train"))
    answers = [Answers(each.logits, metrics.decoder) for each in scores]
    values, draws = draw_scores(metrics.best, rows, answers)
    return [Contender((0,), values[[i]], draws[[i]]) for i in range(len(scores))]
