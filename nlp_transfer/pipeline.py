"""From a configuration to a verified checkpoint: prepare → fit → measure → deliver."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
from transformers import PreTrainedModel, TrainerCallback

from nlp_transfer.config.schema import Config
from nlp_transfer.data.corpus import CROSS_VALIDATION, Corpus, describe, load_run_corpus
from nlp_transfer.data.memory import Tables, tables_by_split, with_tables
from nlp_transfer.evaluation.calibration import Calibration, apply_calibration, fit_calibration
from nlp_transfer.evaluation.error_analysis import mistakes
from nlp_transfer.evaluation.evaluator import SplitEvaluation, evaluate_split
from nlp_transfer.evaluation.metric_set import (
    Metrics,
    load_metrics,
    refuse_undefined_best,
    refuse_unknown_metrics,
)
from nlp_transfer.evaluation.registry import Metric
from nlp_transfer.evaluation.slices import slices_of
from nlp_transfer.evaluation.thresholds import ChosenThresholds, choose, threshold_rule
from nlp_transfer.export.checkpoint import export
from nlp_transfer.export.claims import claim_of
from nlp_transfer.export.verification import PipelineProbe, verify
from nlp_transfer.hub.publication import publish, refuse_upload
from nlp_transfer.models.auto_strategy import candidates
from nlp_transfer.models.checkpoints.folder import follow_sentence_encoder
from nlp_transfer.models.loading import refuse_absent_checkpoint
from nlp_transfer.models.mean_pooling import with_pooling
from nlp_transfer.models.preparation import encode_label_texts, load_and_encode
from nlp_transfer.models.stages import Stage, plan_stages
from nlp_transfer.quality import report as data_report
from nlp_transfer.reporting import console
from nlp_transfer.reporting.card.card import write_card
from nlp_transfer.reporting.drawing import draw_report
from nlp_transfer.reporting.result import Result
from nlp_transfer.reporting.splits import reported_split
from nlp_transfer.runs.folder import MISTAKES_FILE, RunFolder, State, open_run
from nlp_transfer.runs.identity import CodeDigests, run_path
from nlp_transfer.runs.predictions import write_predictions
from nlp_transfer.runs.provenance import provenance
from nlp_transfer.runs.record import RunEntries
from nlp_transfer.tokenization.encoding import input_length, texts_of
from nlp_transfer.tokenization.subsets import select_documents
from nlp_transfer.training.context import TrainingContext
from nlp_transfer.training.extensions import (
    NO_EXTENSIONS,
    Extensions,
    MetricFunction,
    refuse_unhashable,
    unused_extensions,
    with_loss,
)
from nlp_transfer.training.loop import Trained, train
from nlp_transfer.training.losses import Loss
from nlp_transfer.training.plan import describe_stages, keys_without_effect, plan
from nlp_transfer.training.refit import (
    HeldOutModel,
    all_rows,
    learns_from_withheld_rows,
    train_held_out,
)
from nlp_transfer.training.refusals import refuse_absent_trackers, refuse_unfitting
from nlp_transfer.training.selection import Selection, select
from nlp_transfer.training.shared_stages import use_shared_stages
from nlp_transfer.utils.device import decide_precision
from nlp_transfer.utils.distributed import (
    ProcessContext,
    assert_same_on_all_ranks,
    broadcast_from_rank_zero,
    join,
    leave,
)
from nlp_transfer.utils.files import read_json, write_json
from nlp_transfer.utils.logging import libraries_as_before, logger

SOON_OVER = 2_000  # labelled rows: with fewer, a run takes minutes


@dataclass(frozen=True)
class RunSetup:
    """A checked configuration, its data, the metrics of the run, and what Python adds."""

    config: Config
    corpus: Corpus
    metrics: Metrics
    process: ProcessContext
    extensions: Extensions = NO_EXTENSIONS
    code: CodeDigests = field(default_factory=dict)  # of the extensions


@dataclass(frozen=True)
class Prepared:
    """A run's setup with its folder, the pretrained model and the encoded splits."""

    setup: RunSetup
    context: TrainingContext
    start: float  # seconds of the clock

    @property
    def folder(self) -> RunFolder:
        """Where the run keeps everything."""
        return self.context.folder


@dataclass(frozen=True)
class Fitted:
    """A plain model, how it came about, and answers to rows it has not learned from."""

    prepared: Prepared
    config: Config  # with the strategy that was chosen
    selection: Selection
    answers: dict[str, np.ndarray]  # logits by split, of models that have not seen its rows
    trained: Trained
    stages: list[Stage]
    held_out: HeldOutModel | None  # None: the final model itself is measured, or folds are

    @property
    def model(self) -> PreTrainedModel:
        """The final model."""
        return self.trained.model


@dataclass(frozen=True)
class Measured:
    """A calibrated model and what it is worth on each split."""

    fitted: Fitted
    calibration: Calibration
    thresholds: ChosenThresholds
    evaluations: dict[str, SplitEvaluation]
    ms_per_text: float | None  # None: no split was answered by the final model


def run(
    config: Config,
    data: Any = None,
    metrics: Sequence[Metric | MetricFunction] = (),
    callbacks: Sequence[TrainerCallback | type[TrainerCallback]] = (),
    loss: Loss | Callable[..., Any] | str | None = None,
) -> Result:
    """Do all of it; a run that is finished already is reported.

    What is given beside the configuration is part of what the run is: other texts, or other code,
    are another run in another folder.

    Args:
        config: as `compose` gives it.
        data: the tables of `train`, `validation` and `test`, as a mapping (a `DatasetDict` is one),
            or that of train alone; None: the configuration names them. A table is a
            `datasets.Dataset`, a frame of pandas or polars, an Arrow table, a list of dicts or a
            dict of columns. `dataset.text` and `dataset.label` name its columns.
        metrics: measured beside those of the configuration: a function of (references, decisions)
            that returns a number, or a `Metric`. `evaluation.best` may name one.
        callbacks: of the library's `Trainer`. The stages of the final model call these objects;
            each fold of a cross-validation calls copies. Heads that are solved call none.
        loss: of the stages that name none and learn by gradient: a function of (logits, labels)
            that returns one number a row, a `Loss`, or a name as in `training.loss`.

    Raises:
        UserError: for everything that the user can mend; nothing that was computed is lost.

    >>> from nlp_transfer import compose
    >>> config = compose("+task=classify", "strategy=feature_extraction", "run_dir=reviews")
    >>> run(config, data={"train": frame})  # doctest: +SKIP
    Result(reviews, accuracy 0.833 [0.750, 0.907] on cross-validation, 96 rows)
    """
    tables = None if data is None else tables_by_split(data)
    config = config if tables is None else with_tables(config, tables)
    if isinstance(loss, str):
        config, loss = replace(config, training=replace(config.training, loss=loss)), None
    extensions = Extensions.of(metrics, callbacks, loss)
    config = with_loss(config, extensions.loss)
    with libraries_as_before():
        setup = set_up(config, tables, extensions)
        return show_plan(setup) if config.dry_run else complete(setup)


def complete(setup: RunSetup, report: bool = True) -> Result:
    """Train, measure, export and upload, unless that is done already.

    Args:
        report: draw the report, and print the summary.
    """
    config = setup.config
    with open_run(config, setup.corpus.fingerprint, setup.process, setup.code) as folder:
        if folder.state is State.finished:
            logger.info("%s is finished (overwrite=true starts it again)", folder.path)
            measured = read_json(folder.metrics)
            leave(setup.process)
        else:
            with PipelineProbe() as probe:
                if is_over_soon(setup):
                    probe.start()
                measured = deliver(measure(fit(prepare(setup, folder))), probe)
        if setup.process.is_first:
            if report:
                draw_report(folder.path)
                print(console.summary(folder.read(), measured, folder.path), flush=True)
            publish(config.hub, setup.corpus, folder.model)
    name, split = setup.metrics.best, setup.corpus.deciding_split
    best = measured[split]["metrics"][name]
    best = float("nan") if best is None else best
    return Result(folder.path, folder.model, measured, best, folder.state.value, name)


def is_over_soon(setup: RunSetup) -> bool:
    """Whether the process that verifies may start at once: it waits for minutes, not for hours."""
    alone = setup.process.is_first and setup.config.export.fresh_process
    return alone and setup.corpus.labelled_rows < SOON_OVER


def set_up(
    config: Config, tables: Tables | None = None, extensions: Extensions = NO_EXTENSIONS
) -> RunSetup:
    """Read the data, and refuse now what could not be done later.

    Args:
        tables: the data by split, where it is given from Python.
    """
    refuse_unknown_metrics(config.evaluation)
    code = extensions.digests()
    refuse_unhashable(code, config)
    process = join(config.training)
    corpus = load_run_corpus(config, tables)
    assert_same_on_all_ranks("data", lambda: corpus.fingerprint, process)
    assert_same_on_all_ranks("code", lambda: repr(code), process)
    for line in describe(corpus):
        logger.info(line)
    metrics = load_metrics(config.evaluation, corpus.labels, corpus.problem, extensions.metrics)
    threshold_rule(config.evaluation, metrics.decoder)
    references = corpus.references(corpus.deciding_split)
    refuse_undefined_best(metrics, references, len(corpus.labels))
    decide_precision(config.training.precision, process.device)
    refuse_absent_trackers(config.training.report_to)
    refuse_unfitting(config.training, corpus, extensions)
    refuse_absent_checkpoint(config.checkpoint)
    refuse_upload(config.hub, process)
    return RunSetup(config, corpus, metrics, process, extensions, code)


def prepare(setup: RunSetup, folder: RunFolder) -> Prepared:
    """Load the checkpoint, encode every split, and report on the data."""
    start = time.time()
    corpus, checkpoint = setup.corpus, setup.config.checkpoint
    checkpoint = replace(checkpoint, pooling=follow_sentence_encoder(checkpoint))
    config = replace(setup.config, checkpoint=checkpoint)
    setup = replace(setup, config=config)
    pretrained, encoded = load_and_encode(config, corpus, setup.process)
    length = pretrained.max_tokens
    data_report.keep(folder, corpus, pretrained.tokenizer, length, config.tokenization)
    label_rows = encode_label_texts(config, corpus, pretrained)
    context = TrainingContext(
        pretrained, encoded, label_rows, setup.metrics, config, folder, setup.extensions
    )
    return Prepared(setup, context, start)


def fit(prepared: Prepared) -> Fitted:
    """Choose the recipe, by cross-validation where rows are few, and train it.

    The final model learns from every row that is not in a file of its own for validation or test:
    answers of a model that has not seen them are kept first, out of fold or held out.
    """
    setup, context = prepared.setup, prepared.context
    corpus, kind = setup.corpus, context.pretrained.model.config.model_type
    selection = select(context, candidates(setup.config, corpus, kind), corpus.folds)
    answers = {} if selection.logits is None else {CROSS_VALIDATION: selection.logits}
    config, pretrained, stages = context.start(selection.recipe)
    for line in keys_without_effect(config, stages):
        logger.info(line)
    splits, held_out = dict(context.encoded.splits), None
    if corpus.folds is not None:
        splits.pop("validation", None)  # too small to choose an epoch
        use_shared_stages(context, selection.recipe, context.folder)
    elif learns_from_withheld_rows(config, corpus):
        held_out = train_held_out(context, selection.recipe, corpus.withheld)
        answers, stages = held_out.answers, held_out.stages_as_long
        splits = {"train": all_rows(context, corpus.withheld)}
    splits["train"] = context.training_rows(selection.recipe, splits["train"])
    encoded, extensions = replace(context.encoded, splits=splits), context.extensions
    trained = train(
        pretrained, encoded, stages, context.metrics, config, context.folder, extensions
    )
    for line in unused_extensions(extensions, stages, trained.history):
        logger.warning(line)
    return Fitted(prepared, config, selection, answers, trained, stages, held_out)


def measure(fitted: Fitted) -> Measured:
    """Calibrate, choose thresholds, and evaluate on rows the model has not learned from."""
    setup, context = fitted.prepared.setup, fitted.prepared.context
    corpus, options, process = setup.corpus, setup.config.evaluation, setup.process
    decides, references = corpus.deciding_split, corpus.references(corpus.deciding_split)
    logits = fitted.answers.get(decides)
    if logits is None:
        logits = context.predict_splits(fitted.model, [decides])[decides]
    calibration = broadcast_from_rank_zero(
        lambda: fit_calibration(logits, references, corpus.problem, options), process
    )
    inputs, collator = context.train_rows.inputs, context.encoded.collator
    calibration = apply_calibration(fitted.model, calibration, inputs, collator, process)
    measured = ["validation", *(["test"] if options.test else [])]
    start = time.perf_counter()
    answers = context.predict_splits(fitted.model, [s for s in measured if s not in fitted.answers])
    texts = sum(map(len, answers.values()))
    ms_per_text = round(1000 * (time.perf_counter() - start) / texts, 4) if texts else None
    before = {split: calibration.after(logits) for split, logits in fitted.answers.items()}
    answers = {**before, **answers}
    metrics = setup.metrics
    thresholds = broadcast_from_rank_zero(
        lambda: choose(answers[decides], references, metrics, options), process
    )
    metrics = replace(metrics, thresholds=thresholds.thresholds)
    metrics.decoder.write_to(fitted.model.config)
    evaluations = {
        split: evaluate_split(
            logits,
            corpus.references(split),
            metrics,
            corpus.labels,
            slices_of(corpus.rows(split), options.slices),
        )
        for split, logits in answers.items()
    }
    return Measured(fitted, calibration, thresholds, evaluations, ms_per_text)


def deliver(measured: Measured, probe: PipelineProbe | None = None) -> dict[str, dict[str, Any]]:
    """Export and verify the checkpoint, and write down what the run did; `metrics.json`.

    Args:
        probe: the process that verifies; None: one is started.
    """
    setup, folder = measured.fitted.prepared.setup, measured.fitted.prepared.folder
    corpus, evaluations = setup.corpus, measured.evaluations
    notes = {}
    if measured.fitted.held_out is not None:
        notes[reported_split(measured.fitted.answers)] = console.refit_note(corpus.labelled_rows)
    untested = console.untested(corpus.splits, evaluations)
    figures = console.measured(evaluations, untested, notes)
    context = measured.fitted.prepared.context
    rows = setup.config.export.verify_rows

    def predict(split: str, documents: np.ndarray) -> np.ndarray:
        some = select_documents(context.encoded.splits[split], documents)
        return context.predict(measured.fitted.model, some)

    own = {s: e for s, e in evaluations.items() if s not in measured.fitted.answers}
    claim = claim_of(corpus, own, predict, rows, folder.model)
    leave(folder.process)
    if not folder.process.is_first:  # no collective from here on: nobody waits for an export
        return figures
    tokenizer, name = context.pretrained.tokenizer, setup.config.checkpoint.name
    length = input_length(context.pretrained.max_tokens, setup.config.tokenization)
    export(measured.fitted.model, tokenizer, name, length, folder.model)
    fresh_process = setup.config.export.fresh_process
    worst = verify([claim], fresh_process, probe)[0]
    write_json(folder.metrics, figures)
    write_json(folder.path / MISTAKES_FILE, _mistakes(corpus, evaluations))
    verified = {"rows": len(claim.texts), "difference": worst, "split": claim.split}
    verified["fresh_process"] = fresh_process
    entries = asdict(_entries(measured, verified, length))
    write_card(folder.model, measured.fitted.config, entries, figures)
    folder.finish(**entries)
    return figures


def show_plan(setup: RunSetup) -> Result:
    """The plan in words; loads and tokenizes, but writes and trains nothing."""
    config, corpus = setup.config, setup.corpus
    path = run_path(config, corpus.fingerprint, setup.code)
    pretrained, encoded = load_and_encode(config, corpus)
    recipes = candidates(config, corpus, pretrained.model.config.model_type)
    config = replace(config, strategy=recipes[-1].strategy)
    pretrained = with_pooling(pretrained, config.checkpoint.pooling)
    rows = len(encoded.splits["train"].labels)
    stages = plan_stages(config.strategy, pretrained.anatomy, rows, config.training.batch_size)
    if setup.process.is_first:
        print(plan(pretrained, encoded, stages, config, path))
    return Result(path, path / "model", {}, float("nan"))


def _mistakes(corpus: Corpus, evaluations: dict[str, SplitEvaluation]) -> dict[str, Any]:
    """Of test, where there is one, else of the rows that decided."""
    split = "test" if "test" in evaluations else corpus.deciding_split
    texts, origins = texts_of(corpus.rows(split)), corpus.origins(split)
    return mistakes(split, evaluations[split], texts, corpus.labels, origins)


def _entries(measured: Measured, verified: dict[str, Any], length: int) -> RunEntries:
    fitted, evaluations = measured.fitted, measured.evaluations
    setup, prepared = fitted.prepared.setup, fitted.prepared
    corpus, splits = setup.corpus, prepared.context.encoded.splits
    stages, refit = describe_stages(fitted.stages, fitted.trained.history), None
    if fitted.held_out is not None:  # the model that the figures are of
        refit = {"rows": corpus.labelled_rows, "stages": stages}
        stages = describe_stages(fitted.held_out.stages, fitted.held_out.history)
    return RunEntries(
        seed=setup.config.seed,
        problem=corpus.problem.name,
        labels=corpus.labels,
        lower_is_better=[m.name for m in setup.metrics.metrics if not m.greater_is_better],
        rows={name: len(split.labels) for name, split in splits.items()},
        cut={name: split.cut for name, split in splits.items()},
        max_length=length,
        folds=0 if corpus.folds is None else int(corpus.folds.max()) + 1,
        recipe=fitted.selection.recipe.name,
        ladder=fitted.selection.as_entries(),
        stages=stages,
        refit=refit,
        thresholds=asdict(measured.thresholds),
        calibration=console.describe_calibration(measured.calibration, evaluations),
        verified=verified,
        predictions=write_predictions(prepared.folder.path, evaluations, corpus),
        ms_per_text=measured.ms_per_text,
        seconds=round(time.time() - prepared.start, 2),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        **provenance(fitted.config, fitted.model.config, setup.process),
    )
