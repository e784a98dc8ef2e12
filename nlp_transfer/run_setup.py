"""What comes before the steps: reads the data, and stops where a later step would fail."""

from __future__ import annotations

from nlp_transfer.config.choices import Adapt
from nlp_transfer.config.schema import Config
from nlp_transfer.data.corpus import Corpus, describe, load_run_corpus
from nlp_transfer.data.memory import Tables
from nlp_transfer.evaluation.metric_set import (
    load_metrics,
    refuse_unknown_metrics,
    with_defined_best,
)
from nlp_transfer.evaluation.thresholds import threshold_rule
from nlp_transfer.hub.publication import refuse_upload
from nlp_transfer.models.checkpoints.masked_lm import load_masked_lm
from nlp_transfer.models.loading import refuse_absent_checkpoint
from nlp_transfer.run_state import RunSetup
from nlp_transfer.training.extensions import (
    NO_EXTENSIONS,
    Extensions,
    refuse_unhashable,
    registered_code,
)
from nlp_transfer.training.refusals import (
    refuse_absent_trackers,
    refuse_augmenting_nothing,
    refuse_no_answers,
    refuse_unfitting,
)
from nlp_transfer.utils.device import decide_precision
from nlp_transfer.utils.distributed import as_launched, assert_same_on_all_ranks, join
from nlp_transfer.utils.logging import logger


def set_up(
    config: Config,
    tables: Tables | None = None,
    extensions: Extensions = NO_EXTENSIONS,
    corpus: Corpus | None = None,
) -> RunSetup:
    """Read the data, and refuse now what could not be done later.

    Args:
        tables: the data by split, where it is given from Python.
        corpus: the data, where they have been read.
    """
    refuse_unknown_metrics(config.evaluation)
    code = extensions.digests()
    refuse_unhashable(code, config)
    config = as_launched(config)
    process = join(config.training)
    corpus = corpus or load_run_corpus(config, tables)
    assert_same_on_all_ranks("data", lambda: corpus.fingerprint, process)
    for line in describe(corpus):
        logger.info(line)
    metrics = load_metrics(config.evaluation, corpus.labels, corpus.problem, extensions.metrics)
    code |= registered_code(config, metrics, extensions)
    refuse_unhashable(code, config)
    assert_same_on_all_ranks("code", lambda: repr(code), process)
    threshold_rule(config.evaluation, metrics.decoder)
    references = corpus.references(corpus.deciding_split)
    named = config.evaluation.best is not None
    metrics = with_defined_best(metrics, references, len(corpus.labels), named)
    decide_precision(config.training.precision, process.device)
    refuse_absent_trackers(config.training.report_to)
    refuse_unfitting(config.training, corpus, extensions)
    refuse_augmenting_nothing(config, corpus, extensions)
    refuse_no_answers(config.strategy, corpus)
    refuse_absent_checkpoint(config.checkpoint)
    if config.strategy.adapt is Adapt.mlm:
        load_masked_lm(config.checkpoint)
    refuse_upload(config.hub, process)
    return RunSetup(config, corpus, metrics, process, extensions, code)
