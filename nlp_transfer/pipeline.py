"""From a configuration to a verified checkpoint: prepare → fit → measure → deliver.

`run_setup` comes before the four steps; `run_state` has what each of them hands to the next.
What is found by name lies elsewhere: a strategy is a file of `conf/strategy`; a metric is
registered by `evaluation.metrics`, a loss by `training.losses`, a kind of labels by `problems`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from transformers import TrainerCallback

from nlp_transfer.config.schema import Config, require_config
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.data.memory import tables_by_split, with_tables
from nlp_transfer.evaluation.calibration import Calibration, apply_calibration, fit_calibration
from nlp_transfer.evaluation.error_analysis import mistakes_of
from nlp_transfer.evaluation.evaluator import evaluate_splits
from nlp_transfer.evaluation.registry import Metric
from nlp_transfer.evaluation.thresholds import choose, unseen_note, unseen_values
from nlp_transfer.export.checkpoint import export
from nlp_transfer.export.claims import claim_of, verification_entries
from nlp_transfer.export.verification import PipelineProbe, verify
from nlp_transfer.hub.publication import publish
from nlp_transfer.models.checkpoints.folder import follow_sentence_encoder
from nlp_transfer.models.preparation import encode_label_texts, load_and_encode
from nlp_transfer.models.strategies.auto_strategy import candidates, unread_texts
from nlp_transfer.quality import report as data_report
from nlp_transfer.reporting import console
from nlp_transfer.reporting.card.card import write_card
from nlp_transfer.reporting.drawing import draw_report
from nlp_transfer.reporting.result import Result, value_of
from nlp_transfer.reporting.run_files import entries_of, metrics_of
from nlp_transfer.run_setup import set_up
from nlp_transfer.run_state import Fitted, Measured, Prepared, RunSetup
from nlp_transfer.runs.folder import RunFolder, State, open_run
from nlp_transfer.runs.identity import run_path
from nlp_transfer.runs.predictions import write_predictions
from nlp_transfer.tokenization.encoding import input_length
from nlp_transfer.training.context import TrainingContext
from nlp_transfer.training.extensions import (
    Extensions,
    MetricFunction,
    unused_extensions,
    with_loss,
)
from nlp_transfer.training.forecast.clock import processor_seconds
from nlp_transfer.training.forecast.timed_recipes import (
    affordable_recipes,
    begin_budget,
    is_affordable,
)
from nlp_transfer.training.loop import train
from nlp_transfer.training.losses import Loss
from nlp_transfer.training.plan import keys_without_effect, plan
from nlp_transfer.training.refit import all_rows, learns_from_held_out_rows, train_held_out
from nlp_transfer.training.selection import select
from nlp_transfer.training.self_training import rows_to_learn
from nlp_transfer.training.shared_stages import use_shared_stages
from nlp_transfer.utils.distributed import broadcast_from_rank_zero, leave
from nlp_transfer.utils.files import read_json, write_json
from nlp_transfer.utils.logging import libraries_as_before, logger


def run(
    config: Config,
    data: Any = None,
    metrics: Sequence[Metric | MetricFunction] = (),
    callbacks: Sequence[TrainerCallback | type[TrainerCallback]] = (),
    loss: Loss | Callable[..., Any] | str | None = None,
) -> Result:
    """Do all of it; a run that is finished already is only read.

    Printed, the result is the summary that the command prints. What is given beside the
    configuration is part of what the run is: other texts, or other code, are another run in another
    folder.

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
    return _run(config, data, metrics, callbacks, loss)


def run_and_print(config: Config, *given: Any, corpus: Corpus | None = None) -> Result:
    """As `run`, for commands: prints the summary before anything is uploaded.

    Args:
        given: what `run` takes beside the configuration, in its order.
        corpus: the data of the configuration; None: they are read.
    """
    return _run(config, *given, summary=True, corpus=corpus)


def _run(
    config: Config,
    data: Any = None,
    metrics: Any = (),
    callbacks: Any = (),
    loss: Any = None,
    *,
    summary: bool = False,
    corpus: Corpus | None = None,
) -> Result:
    require_config(config)
    tables = None if data is None else tables_by_split(data)
    config = config if tables is None else with_tables(config, tables)
    extensions = Extensions.of(metrics, callbacks, None if isinstance(loss, str) else loss)
    config = with_loss(config, loss if isinstance(loss, str) else extensions.loss)
    with libraries_as_before():
        setup = set_up(config, tables, extensions, corpus)
        return show_plan(setup) if config.dry_run else complete(setup, summary=summary)


def show_plan(setup: RunSetup) -> Result:
    """Print what the run would do; loads and tokenizes, but writes and trains nothing."""
    path = run_path(setup.config, setup.corpus.fingerprint, setup.code)
    text = plan(setup.config, setup.corpus, path)
    if setup.process.is_first:
        print(text)
    return Result(path, path / "model", {}, float("nan"))


def complete(setup: RunSetup, report: bool = True, summary: bool = False) -> Result:
    """Train, measure, export and upload, unless that is done already.

    Args:
        report: draw the report.
        summary: print it.
    """
    config = setup.config
    with open_run(config, setup.corpus.fingerprint, setup.process, setup.code) as folder:
        if folder.state is State.finished:
            logger.info("%s is finished (overwrite=true starts it again)", folder.path)
            figures = read_json(folder.metrics)
            leave(setup.process)
        else:
            with PipelineProbe() as probe:
                if setup.verifies_soon:
                    probe.start()
                figures = deliver(measure(fit(prepare(setup, folder))), probe)
        if setup.process.is_first:
            if report:
                draw_report(folder.path)
            if summary:
                print(console.summary(folder.read(), figures, folder.path), flush=True)
            publish(config.hub, setup.corpus, folder.model)
    name, split = setup.metrics.best, setup.corpus.deciding_split
    best = value_of(figures, split, name)
    return Result(folder.path, folder.model, figures, best, folder.state.value, name)


def prepare(setup: RunSetup, folder: RunFolder) -> Prepared:
    """Load the checkpoint, encode every split, and report on the data."""
    start, began, busy = time.time(), time.monotonic(), processor_seconds(setup.process.device)
    corpus, checkpoint = setup.corpus, setup.config.checkpoint
    checkpoint = replace(checkpoint, pooling=follow_sentence_encoder(checkpoint))
    config = replace(setup.config, checkpoint=checkpoint)
    setup = replace(setup, config=config)
    pretrained, encoded = load_and_encode(config, corpus, setup.process)
    length = pretrained.max_tokens
    data_report.keep(folder, corpus, pretrained.tokenizer, length, config.tokenization)
    label_rows = encode_label_texts(config, corpus, pretrained)
    context = TrainingContext(
        pretrained,
        encoded,
        label_rows,
        setup.metrics,
        config,
        folder,
        setup.extensions,
        folds=corpus.folds,
    )
    return Prepared(setup, begin_budget(context, began), start, busy)


def fit(prepared: Prepared) -> Fitted:
    """Choose the recipe, by cross-validation where rows are few, and train it.

    The final model learns from every row that is not in a file of its own for validation or test:
    answers of a model that has not seen them are kept first, out of fold or held out.
    """
    setup, context = prepared.setup, prepared.context
    corpus, kind = setup.corpus, context.pretrained.model.config.model_type
    timed = affordable_recipes(context, candidates(setup.config, corpus, kind), corpus)
    selection = select(context, timed.recipes, corpus.folds, partial(is_affordable, context, timed))
    answers = {} if selection.logits is None else {corpus.deciding_split: selection.logits}
    config, pretrained, stages = context.start(selection.recipe)
    unread = unread_texts(config, corpus, timed.recipes)
    for line in (*keys_without_effect(config, stages), *unread):
        logger.info(line)
    splits, held_out = dict(context.encoded.splits), None
    if corpus.folds is not None:
        splits.pop("validation", None)  # too small to choose an epoch
        use_shared_stages(context, selection.recipe, context.folder)
    elif learns_from_held_out_rows(config, corpus):
        held_out = train_held_out(context, selection.recipe, corpus.held_out)
        answers, stages = held_out.answers, held_out.stages_as_long
        splits = {"train": all_rows(context, corpus.held_out)}
    encoded = replace(context.encoded, splits=splits)
    rows = rows_to_learn(context, selection.recipe, encoded, context.folder)
    encoded, extensions = replace(encoded, splits={**splits, "train": rows}), context.for_final()
    trained = train(
        pretrained, encoded, stages, context.metrics, config, context.folder, extensions
    )
    for line in unused_extensions(extensions, stages, trained.history):
        logger.warning(line)
    return Fitted(prepared, config, selection, answers, trained, stages, held_out)


def measure(fitted: Fitted) -> Measured:
    """Calibrate, choose thresholds, and evaluate on rows the model has not learned from.

    The temperature goes into the last layer of the model, the thresholds into its configuration.
    """
    setup, context = fitted.prepared.setup, fitted.prepared.context
    corpus, options = setup.corpus, setup.config.evaluation
    calibration = _calibrate(fitted)
    splits = ["validation", *(["test"] if options.test else [])]
    start = time.perf_counter()
    answers = context.predict_splits(fitted.model, [s for s in splits if s not in fitted.answers])
    texts = sum(map(len, answers.values()))
    ms_per_text = round(1000 * (time.perf_counter() - start) / texts, 4) if texts else None
    unseen = {split: calibration.after(logits) for split, logits in fitted.answers.items()}
    answers, metrics, split = {**unseen, **answers}, setup.metrics, corpus.deciding_split
    thresholds = broadcast_from_rank_zero(
        lambda: choose(answers[split], corpus.references(split), metrics, options), setup.process
    )
    metrics = replace(metrics, thresholds=thresholds.thresholds)
    metrics.decoder.write_to(fitted.model.config)
    evaluations = evaluate_splits(answers, corpus, metrics, options.slices)
    if metrics.thresholds:
        values = unseen_values(answers[split], corpus.references(split), metrics, options)
        note = unseen_note(evaluations[split].metrics, values)
        evaluations[split] = evaluations[split].with_note(note)
    return Measured(fitted, calibration, thresholds, evaluations, ms_per_text)


def _calibrate(fitted: Fitted) -> Calibration:
    """Fit a temperature on the rows that decide, and divide the model's logits by it."""
    setup, context = fitted.prepared.setup, fitted.prepared.context
    corpus, process, split = setup.corpus, setup.process, setup.corpus.deciding_split
    logits = fitted.answers.get(split)
    if logits is None:
        logits = context.predict_splits(fitted.model, [split])[split]
    options, references = setup.config.evaluation, corpus.references(split)
    calibration = broadcast_from_rank_zero(
        lambda: fit_calibration(logits, references, corpus.problem, options), process
    )
    inputs, collator = context.train_rows.inputs, context.encoded.collator
    return apply_calibration(fitted.model, calibration, inputs, collator, process)


def deliver(measured: Measured, probe: PipelineProbe | None = None) -> dict[str, dict[str, Any]]:
    """Export and verify the checkpoint, and write down what the run did; `metrics.json`.

    Args:
        probe: the process that verifies; None: one is started.
    """
    fitted, evaluations = measured.fitted, measured.evaluations
    setup, context = fitted.prepared.setup, fitted.prepared.context
    config, corpus, folder = setup.config, setup.corpus, context.folder
    figures = metrics_of(measured)
    claim = claim_of(measured)
    leave(folder.process)
    if not folder.process.is_first:  # no collective from here on: the others do not wait
        return figures
    length = input_length(context.pretrained.max_tokens, config.tokenization)
    export(fitted.model, context.pretrained.tokenizer, config.checkpoint.name, length, folder.model)
    worst = verify([claim], config.export.fresh_process, probe)[0]
    write_json(folder.metrics, figures)
    write_json(folder.mistakes, mistakes_of(corpus, evaluations))
    predictions = write_predictions(folder.path, evaluations, corpus)
    verified = verification_entries(claim, worst, config.export.fresh_process)
    entries = asdict(entries_of(measured, verified, predictions, length))
    write_card(folder.model, fitted.config, {**folder.read(), **entries}, figures)
    folder.finish(**entries)
    return figures
