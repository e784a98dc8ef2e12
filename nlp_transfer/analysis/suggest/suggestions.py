"""Chooses the rows of a pool that a run would learn most from, and writes them to be labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nlp_transfer.analysis.suggest.choice import By, Choice, errors_of, typical_rows, uncertain_rows
from nlp_transfer.analysis.suggest.columns import new_columns, with_columns_to_fill
from nlp_transfer.analysis.suggest.pool import PoolFile, Scan, read_pool, scan_pool
from nlp_transfer.analysis.suggest.pool_features import (
    PoolFeatures,
    answers_and_features,
    pool_features,
)
from nlp_transfer.config.choices import Quoting
from nlp_transfer.config.loading import read_config
from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.corpus import Corpus, load_run_corpus
from nlp_transfer.data.formats.registry import ReadOptions, Window
from nlp_transfer.data.formats.windows import DELIMITERS, STREAMED, WORKBOOK, kind_of
from nlp_transfer.data.memory import tables_by_split
from nlp_transfer.data.near_duplicates import keys_of
from nlp_transfer.data.sources import IN_MEMORY
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inference.classifier import find_model
from nlp_transfer.inference.torch_engine import TorchEngine
from nlp_transfer.problems.decoder import Decoder
from nlp_transfer.reporting.splits import reported_split
from nlp_transfer.runs.names import CONFIG_FILE, RUN_FILE
from nlp_transfer.runs.predictions import read_predictions
from nlp_transfer.tokenization.encoding import texts_of
from nlp_transfer.tokenization.model_inputs import Pairs
from nlp_transfer.utils.distributed import join
from nlp_transfer.utils.files import not_a_run, read_json, write_table
from nlp_transfer.utils.logging import logger

CERTAIN = 1.96  # standard errors: 95%
AT_ONCE = 1024  # labelled rows


@dataclass(frozen=True)
class SuggestRequest:
    """Which pool, and what is to be chosen from it."""

    file: Path
    out: Path
    rows: int = 50
    text: str | None = None
    """A column; None: as in the run."""
    text_pair: str | None = None
    by: By = By.auto
    seed: int = 0
    threads: int | None = None
    options: ReadOptions = field(default_factory=lambda: ReadOptions(keys="--"))


@dataclass(frozen=True)
class Suggestions:
    """Rows to label, the most useful first."""

    window: Window
    scan: Scan
    by: By
    label_columns: tuple[str, ...]
    note: str
    """Why rows are chosen in this way."""

    def describe(self, run: Path, request: SuggestRequest, train: Sequence[str]) -> str:
        """What was done, and what to do now, for the terminal."""
        scan, rows = self.scan, len(self.window)
        left = [
            f"{count:,} {what}"
            for count, what in (
                (scan.blank, "without a text"),
                (scan.labelled, "with a label"),
                (scan.alike, "like a labelled row or one before"),
            )
            if count
        ]
        without = f" ({', '.join(left)} left out)" if left else ""
        columns = ", ".join(self.label_columns)
        files = ",".join([*train, str(request.out)])
        # A workbook is no table of the page: it may hold more than cells.
        page = f", on a page (nlp-transfer review {request.out} --run {run}) or "
        page = " " if kind_of(request.out) == WORKBOOK else page
        fewer = f" There are no more than {rows:,}." if rows < request.rows else ""
        return (
            f"{rows:,} of the {scan.rows:,} rows of {request.file}{without} are written to "
            f"{request.out}.{fewer} {self.note}\n"
            f"Fill in the column {columns}{page}in a spreadsheet. Then train with "
            f"'dataset.train=[{files}]' (rows that you leave empty: dataset.on_unlabeled=drop)."
        )


def suggest(folder: Path, request: SuggestRequest, data: Any = None) -> Suggestions:
    """The rows of a pool that are worth a label, for a run.

    Rows that are (nearly) the same as a labelled row, or as another of the pool, are left out.

    Args:
        data: of a run whose data was given from Python, the same again.

    Raises:
        UserError: if there is no run, or the pool cannot be read or has no row to choose.
    """
    config, corpus = _labelled_rows(folder, request.out, data)
    pool = _pool(config, request)
    process = join(replace(config.training, threads=request.threads or config.training.threads))
    labelled = [key for rows in corpus.splits.values() for key in keys_of(rows)]
    scan = scan_pool(pool, labelled)
    if not len(scan.kept):
        raise UserError(
            ExitCode.DATA,
            f"{request.file} has no row to suggest: of {scan.rows:,} rows {scan.blank:,} have no "
            f"text, {scan.labelled:,} have a label, and {scan.alike:,} are like a labelled row. "
            "Give a pool of other texts.",
        )
    logger.info("%s texts of %s can be chosen", f"{len(scan.kept):,}", request.file)
    model = find_model(folder)
    engine = TorchEngine.load(model, request.threads or config.training.threads)
    engine.model.to(process.device)
    features = pool_features(engine, model, pool, scan, config.features, process)
    by, note = (request.by, "") if request.by is not By.auto else _decide(folder, engine.decoder)
    choice = _choose(by, engine, features, corpus, request)
    label_columns = tuple(config.dataset.label_columns)
    window = _chosen_rows(pool, scan.kept[choice.rows], kind_of(request.out) != "jsonl")
    logits = features.logits[choice.rows]
    new = new_columns(engine.decoder, logits, choice, by, label_columns)
    window = with_columns_to_fill(window, new, label_columns, request.file)
    return Suggestions(window, scan, by, label_columns, note)


def write_suggestions(suggestions: Suggestions, file: Path) -> None:
    """Write the rows; the file is there when it is whole."""
    write_table(suggestions.window, file)


def is_weak(right: np.ndarray, commonest_right: np.ndarray) -> bool:
    """Whether answers cannot be told from always giving the commonest label.

    Args:
        right: bool [rows], whether each answer is.
        commonest_right: bool [rows], whether the commonest label is.
    """
    gain = right.astype(float) - commonest_right
    if len(gain) < 2:
        return True
    return bool(gain.mean() <= CERTAIN * gain.std(ddof=1) / np.sqrt(len(gain)))


def _labelled_rows(folder: Path, out: Path, data: Any) -> tuple[Config, Corpus]:
    """What a run was asked, and the labelled rows that its configuration names, as they are now.

    Args:
        out: the file that is to be labelled, and read beside them.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(
            ExitCode.CONFIG,
            f"{not_a_run(folder)}, so its labelled rows are unknown: expected {CONFIG_FILE} in "
            "it. Name the folder of a run.",
        )
    config = read_config(folder / CONFIG_FILE)
    _refuse_misread(config.dataset, out)
    if config.dataset.name == IN_MEMORY and data is None:
        raise UserError(
            ExitCode.DATA,
            f"The data of {folder} was given from Python, so no command can read it again. In "
            "Python: suggest(folder, request, data={'train': …}).",
        )
    return config, load_run_corpus(config, None if data is None else tables_by_split(data))


def _refuse_misread(dataset: DatasetConfig, out: Path) -> None:
    """Raise an error where the run's options for text files would misread the file to fill in."""
    kind = kind_of(out)
    encoding = (dataset.encoding or "utf-8").lower().replace("_", "-")
    separator = dataset.separator or DELIMITERS.get(kind)
    options = []
    if kind in STREAMED and encoding not in ("utf-8", "utf8", "utf-8-sig"):
        options.append(f"dataset.encoding={dataset.encoding}")
    if kind in DELIMITERS and separator != DELIMITERS[kind]:
        options.append(f"dataset.separator={dataset.separator!r}")
    if kind in DELIMITERS and dataset.quoting is not Quoting.double:
        options.append(f"dataset.quoting={dataset.quoting.value}")
    if options:
        raise UserError(
            ExitCode.CONFIG,
            f"The run reads text files with {' '.join(options)}, which would misread {out} beside "
            "them: it is written in UTF-8 with the signs of its kind. Name --out next.parquet.",
        )


def _pool(config: Config, request: SuggestRequest) -> PoolFile:
    dataset = config.dataset
    return PoolFile(
        request.file,
        request.text or dataset.text,
        request.text_pair or dataset.text_pair,
        tuple(dataset.label_columns),
        request.options,
    )


def _decide(folder: Path, decoder: Decoder) -> tuple[By, str]:
    """How rows are chosen, and why, by the figures of the run."""
    if not decoder.problem.has_labels:
        return By.typical, "Scores have no uncertainty: the rows are typical of the pool."
    splits = read_json(folder / RUN_FILE).get("predictions", {})
    if splits and decoder.problem.integer_references:
        logits, references = read_predictions(folder, reported_split(splits))
        right = decoder.decide(decoder.probabilities(logits)) == references
        commonest = np.bincount(references).argmax()
        if is_weak(right, references == commonest):
            return By.typical, (
                f"The run's figures ({len(references):,} rows) cannot be told from always giving "
                f"{decoder.labels[commonest]!r}, so its uncertainty says little: the rows are "
                "typical of the pool instead (--by uncertain)."
            )
    return (
        By.uncertain,
        "They are the rows that the model is least sure of, each unlike the others.",
    )


def _choose(
    by: By, engine: TorchEngine, features: PoolFeatures, corpus: Corpus, request: SuggestRequest
) -> Choice:
    if by is By.typical:
        labelled = features.directions(_labelled_features(engine, corpus))
        return typical_rows(features.x, labelled, request.rows, request.seed)
    decoder = engine.decoder
    probabilities = decoder.probabilities(features.logits)
    decisions = decoder.decide(probabilities) if decoder.problem.has_labels else None
    errors = errors_of(probabilities, decisions)
    return uncertain_rows(errors, features.x, request.rows, request.seed)


def _labelled_features(engine: TorchEngine, corpus: Corpus) -> np.ndarray:
    """Of the rows of train, float32 [rows, width]."""
    texts = texts_of(corpus.splits["train"])
    firsts, seconds = (texts.first, texts.second) if isinstance(texts, Pairs) else (texts, None)
    parts = [
        answers_and_features(
            engine,
            firsts[start : start + AT_ONCE],
            None if seconds is None else seconds[start : start + AT_ONCE],
        )[1]
        for start in range(0, len(firsts), AT_ONCE)
    ]
    return np.concatenate(parts)


def _chosen_rows(pool: PoolFile, numbers: np.ndarray, one_shape: bool) -> Window:
    """Rows of a pool with all their columns, in the order of their numbers."""
    order = {number: rank for rank, number in enumerate(numbers.tolist())}
    tables: list[pa.Table] = []
    rows: list[Any] = []
    ranks: list[int] = []
    for part in read_pool(pool, one_shape):
        here = [i for i in range(len(part.texts)) if part.first + i in order]
        if not here:
            continue
        ranks += [order[part.first + i] for i in here]
        if isinstance(part.window, pa.Table):
            tables.append(part.window.take(here))
        else:
            rows += [part.window[i] for i in here]
    places = np.argsort(ranks)
    if tables:
        return pa.concat_tables(tables).take(places)
    return [rows[i] for i in places]
