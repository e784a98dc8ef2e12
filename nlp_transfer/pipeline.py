"""The straight line: from a configuration to a verified checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from nlp_transfer.config.schema import Config, EvaluationConfig, HubConfig
from nlp_transfer.data.corpus import Corpus, answers_of, load_corpus
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.calibration import calibrate
from nlp_transfer.evaluation.error_analysis import mistakes
from nlp_transfer.evaluation.evaluator import (
    Metrics,
    SplitEvaluation,
    evaluate_split,
    load_metrics,
    refuse_undefined_best,
)
from nlp_transfer.evaluation.slices import slices_of
from nlp_transfer.evaluation.thresholds import choose, how_asked
from nlp_transfer.export.checkpoint import Claim, export, verify
from nlp_transfer.hub import upload
from nlp_transfer.inference.torch_engine import predict_logits
from nlp_transfer.models.auto_strategy import resolve
from nlp_transfer.models.loading import Pretrained, load_pretrained
from nlp_transfer.models.mean_pooling import pool, with_pooling
from nlp_transfer.models.stages import Stage, plan_stages
from nlp_transfer.quality import report as data_report
from nlp_transfer.reporting import console
from nlp_transfer.reporting.card_examples import one_of_each, shows_examples, with_examples
from nlp_transfer.reporting.model_card import CARD_FILE, write_card
from nlp_transfer.runs.folder import (
    MISTAKES_FILE,
    REPORT_FILE,
    RunFolder,
    State,
    open_run,
    run_path,
)
from nlp_transfer.runs.predictions import write_predictions
from nlp_transfer.runs.provenance import provenance
from nlp_transfer.tokenization.encoding import (
    Encoded,
    encode,
    input_length,
    taken,
    texts_of,
    write_input_settings,
)
from nlp_transfer.training.loop import refuse_absent_trackers, refuse_unfitting, train
from nlp_transfer.training.plan import describe_stages, plan
from nlp_transfer.utils.device import decide_precision
from nlp_transfer.utils.distributed import (
    ProcessContext,
    assert_same_on_all_ranks,
    broadcast_from_rank_zero,
    join,
    leave,
)
from nlp_transfer.utils.files import read_json, write_json, write_text
from nlp_transfer.utils.logging import logger


@dataclass(frozen=True)
class Result:
    """A finished run (or, after `dry_run`, only its name)."""

    folder: Path
    model: Path
    metrics: dict[str, dict[str, Any]]  # as in metrics.json
    best: float  # the validation metric that chose the epoch; NaN after a dry run
    begun: str = field(default=State.absent.value, compare=False)  # what the folder held before
    chosen_by: str = ""  # the name of the metric that `best` is


def run(config: Config) -> Result:
    """Do all of it; a run that is finished already is reported."""
    process = join(config.training)
    corpus = load_corpus(config.dataset, config.dataset.seed, config.evaluation.slices)
    assert_same_on_all_ranks("data", lambda: corpus.fingerprint, process)
    _say(corpus)
    metrics = load_metrics(config.evaluation, corpus.labels, corpus.problem)
    how_asked(config.evaluation, metrics.decoder)
    refuse_undefined_best(metrics, corpus.references("validation"), len(corpus.labels))
    # Refused now, not in the middle.
    decide_precision(config.training.precision, process.device)
    refuse_absent_trackers(config.training.report_to)
    refuse_unfitting(config.training, corpus)
    if config.hub.repository is not None:
        broadcast_from_rank_zero(lambda: upload.check(config.hub), process)
    if config.dry_run:
        return _dry_run(config, corpus, process)
    with open_run(config, corpus.fingerprint, process) as folder:
        if folder.state is State.finished:
            logger.info("%s is finished (overwrite=true starts it again)", folder.path)
            measured = read_json(folder.metrics)
            leave(process)
        else:
            measured = _run(config, corpus, metrics, folder)
        if process.is_first:
            _draw(folder.path)
            print(console.summary(folder.read(), measured, folder.path), flush=True)
            _publish(config.hub, corpus, folder.model)
    best = measured["validation"]["metrics"][metrics.best]
    best = float("nan") if best is None else best
    return Result(folder.path, folder.model, measured, best, folder.state.value, metrics.best)


def _run(
    config: Config, corpus: Corpus, metrics: Metrics, folder: RunFolder
) -> dict[str, dict[str, Any]]:
    """From a loaded corpus to a finished folder; returns what `metrics.json` says."""
    start = time.time()
    config = _with_strategy(config, corpus, folder.decide)
    pretrained = load_pretrained(config.checkpoint, corpus.labels, config.seed, corpus.problem)
    pretrained.model.to(folder.process.device)
    given = (corpus, pretrained.tokenizer, pretrained.max_tokens, config.tokenization)
    data_report.keep(folder, *given)
    encoded = encode(*given, folder.process)
    # Stores are named by this configuration too: `suspects` finds them only if it is whole here.
    write_input_settings(
        pretrained.model.config, texts_of(corpus.splits["train"]), config.tokenization
    )
    pretrained = pool(pretrained, encoded, config, folder.decide)
    stages = _stages(config, pretrained, encoded)
    trained = train(pretrained, encoded, stages, metrics, config, folder)
    calibration = calibrate(trained.model, encoded, config.evaluation, folder.process)
    began = time.perf_counter()
    logits = _logits(trained.model, encoded, config.evaluation, folder.process)
    answering_seconds = time.perf_counter() - began
    references = corpus.references("validation")
    chosen = broadcast_from_rank_zero(
        lambda: choose(logits["validation"], references, metrics, config.evaluation), folder.process
    )
    metrics = replace(metrics, thresholds=chosen.thresholds)
    metrics.decoder.write_to(trained.model.config)
    evaluations = _evaluate(logits, corpus, metrics, config.evaluation)
    measured = console.measured(evaluations, console.untested(corpus.splits, evaluations))
    leave(folder.process)
    if folder.process.is_first:  # no collective from here on: nobody waits for an export
        length = input_length(pretrained.max_tokens, config.tokenization)
        export(trained.model, pretrained.tokenizer, config.checkpoint.name, length, folder.model)
        claim = _claim(corpus, evaluations, config.export.verify_rows, folder.model)
        worst = verify([claim])[0]
        write_json(folder.metrics, measured)
        write_json(folder.path / MISTAKES_FILE, _mistakes(corpus, evaluations))
        entries = {
            "seed": config.seed,
            "problem": corpus.problem.name,
            "labels": corpus.labels,
            "rows": {name: len(split.labels) for name, split in encoded.splits.items()},
            "cut": {name: split.cut for name, split in encoded.splits.items()},
            "max_length": length,
            **provenance(config, trained.model.config, folder.process),
            "stages": describe_stages(stages, trained),
            "thresholds": asdict(chosen),
            "calibration": console.describe_calibration(calibration, evaluations),
            "verified": {"rows": len(claim.texts), "difference": worst},
            "predictions": write_predictions(folder.path, evaluations, corpus),
            "ms_per_text": round(1000 * answering_seconds / sum(map(len, logits.values())), 4),
            "seconds": round(time.time() - start, 2),
        }
        write_card(folder.model, config, entries, measured)
        folder.finish(**entries)
    return measured


def _mistakes(corpus: Corpus, evaluations: dict[str, SplitEvaluation]) -> dict[str, Any]:
    """Of the last split that was evaluated: test, where there is one."""
    split, evaluation = list(evaluations.items())[-1]
    return mistakes(split, evaluation, texts_of(corpus.splits[split]), corpus.labels)


def _draw(path: Path) -> None:
    """The report of a finished run, where there is none; drawing it cannot cost the run."""
    if (path / REPORT_FILE).is_file():
        return
    try:
        from nlp_transfer.reporting.html import write_report  # takes matplotlib, half a second

        write_report(path)
    except Exception as error:  # (whatever it is, the model is there)
        if isinstance(error, UserError) and error.code is ExitCode.STOPPED:
            raise
        reason = f"{type(error).__name__}: {error}"
        again = f"`nlp-transfer report {path}` tries again"
        logger.warning(
            "The run is finished, but its report could not be drawn (%s); %s.", reason, again
        )


def _publish(config: HubConfig, corpus: Corpus, model: Path) -> None:
    """Show rows of the data on the card where that was asked for, and upload."""
    card, rows = model / CARD_FILE, corpus.splits["validation"]
    texts, answers = texts_of(rows), answers_of(corpus, "validation")
    chosen = one_of_each(texts, answers) if config.examples else []
    if chosen or shows_examples(card):
        write_text(card, with_examples(card.read_text(encoding="utf-8"), chosen))
    if config.repository is not None:
        print(upload.push(model, config).describe(), flush=True)


def _with_strategy(
    config: Config, corpus: Corpus, decide: Callable[[str, Callable[[], str]], str]
) -> Config:
    """The configuration with the strategy that `auto` chooses for this corpus."""
    rows, labels = len(corpus.splits["train"]), len(corpus.labels)
    return replace(config, strategy=resolve(config.strategy, rows, labels, decide))


def _stages(config: Config, pretrained: Pretrained, encoded: Encoded) -> list[Stage]:
    rows = len(encoded.splits["train"].labels)
    return plan_stages(config.strategy, pretrained.anatomy, rows, config.training.batch_size)


def _logits(
    model: PreTrainedModel, encoded: Encoded, config: EvaluationConfig, process: ProcessContext
) -> dict[str, np.ndarray]:
    """Of validation, and of the test split for the first and only time."""
    wanted = ("validation", "test") if config.test else ("validation",)
    return {
        name: predict_logits(
            model, encoded.splits[name].inputs, encoded.collator, config.max_tokens, process
        )
        for name in wanted
        if name in encoded.splits
    }


def _evaluate(
    logits: dict[str, np.ndarray], corpus: Corpus, metrics: Metrics, config: EvaluationConfig
) -> dict[str, SplitEvaluation]:
    """What the answers to each split are worth."""
    return {
        name: evaluate_split(
            found,
            corpus.references(name),
            metrics,
            corpus.labels,
            slices_of(corpus.splits[name], config.slices),
        )
        for name, found in logits.items()
    }


def _claim(
    corpus: Corpus, evaluations: dict[str, SplitEvaluation], rows: int, folder: Path
) -> Claim:
    """What a fresh process is to answer: validation texts, evenly taken, shortest first."""
    texts = texts_of(corpus.splits["validation"])
    asked = np.unique(np.linspace(0, len(texts) - 1, rows or len(texts)).astype(int))
    asked = np.array(sorted(asked, key=lambda row: len(str(texts[row]))))
    logits = evaluations["validation"].logits[asked]
    return Claim(folder, taken(texts, asked), corpus.labels, logits, corpus.problem)


def _say(corpus: Corpus) -> None:
    for note in corpus.notes:
        logger.info(note)
    rows = ", ".join(f"{name} {len(split):,}" for name, split in corpus.splits.items())
    labels = f"{corpus.problem.name}: {', '.join(corpus.labels)}"
    if not corpus.problem.has_labels:
        scores = corpus.references("train")
        labels = f"{corpus.problem.name}: scores from {scores.min():g} to {scores.max():g}"
    logger.info("rows: %s; %s", rows, labels)


def _dry_run(config: Config, corpus: Corpus, process: ProcessContext) -> Result:
    """The plan in words; loads and tokenizes, but writes and trains nothing."""
    path = run_path(config, corpus.fingerprint)
    config = _with_strategy(config, corpus, lambda _, choose: choose())
    pretrained = load_pretrained(config.checkpoint, corpus.labels, config.seed, corpus.problem)
    encoded = encode(corpus, pretrained.tokenizer, pretrained.max_tokens, config.tokenization)
    pretrained = with_pooling(pretrained, config.checkpoint.pooling)
    stages = _stages(config, pretrained, encoded)
    if process.is_first:
        print(plan(pretrained, encoded, stages, config, path))
    return Result(path, path / "model", {}, float("nan"))
