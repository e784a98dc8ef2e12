"""Replays labelling on a labelled file: what suggested rows are worth against random ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nlp_transfer.analysis.suggest.choice import errors_of, typical_rows, uncertain_rows
from nlp_transfer.analysis.suggest.simulation_result import Simulation, point_of
from nlp_transfer.analysis.suggest.suggestions import By, is_weak
from nlp_transfer.config.choices import OnUnusable
from nlp_transfer.config.loading import read_config
from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.corpus import Corpus, load_corpus
from nlp_transfer.data.formats.registry import ReadOptions
from nlp_transfer.data.sources import IN_MEMORY
from nlp_transfer.data.splitters import stratified_parts
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.features.cache import mean_features
from nlp_transfer.features.linear_models import Table, out_of_fold, solve
from nlp_transfer.models.preparation import load_and_encode
from nlp_transfer.problems.base import softmax
from nlp_transfer.problems.single_label import SINGLE_LABEL
from nlp_transfer.runs.names import CONFIG_FILE
from nlp_transfer.utils.distributed import join
from nlp_transfer.utils.files import not_a_run
from nlp_transfer.utils.logging import logger, warnings_only

FIRST = 16  # labels to begin with, drawn at random
HELD_OUT = 0.3  # of a file without a split to judge on
FOLDS = 5


@dataclass(frozen=True)
class Labelled:
    """Texts as features with their labels: those to choose from, and those to judge by."""

    x: np.ndarray  # float32 [rows, width], each of length 1
    labels: np.ndarray  # int64 [rows]
    judged_x: np.ndarray
    judged_labels: np.ndarray
    classes: int


def simulate(  # noqa: PLR0913
    folder: Path,
    file: Path | None = None,
    most: int = 256,
    seeds: int = 5,
    by: By = By.auto,
    options: ReadOptions | None = None,
    text: str | None = None,
    threads: int | None = None,
) -> Simulation:
    """Choose rows whose labels are known, step by step, and solve a head after each step.

    The features are those of the checkpoint that the run began with: after it, a model has learned
    the labels that are to be chosen.

    Args:
        file: labelled rows; None: those of the run.
        most: labels at the end; they double from `FIRST`.

    Raises:
        UserError: if there is no run, or its texts have no single label.
    """
    config, corpus = _corpus(folder, file, options, text)
    process = join(replace(config.training, threads=threads or config.training.threads))
    with warnings_only():
        pretrained, encoded = load_and_encode(config, corpus, process)
    features = mean_features(pretrained, encoded, config.features, process)
    judged = [split for split in corpus.splits if split != "train"]
    mean = features["train"].mean(axis=0)
    rows = Labelled(
        _directions(features["train"], mean),
        corpus.references("train"),
        np.concatenate([_directions(features[split], mean) for split in judged]),
        np.concatenate([corpus.references(split) for split in judged]),
        len(corpus.labels),
    )
    return replay(rows, sizes_up_to(min(most, len(rows.labels))), seeds, by)


def sizes_up_to(most: int) -> list[int]:
    """How many labels there are at each point: they double.

    Raises:
        UserError: if there is only one point.
    """
    sizes = [FIRST]
    while sizes[-1] * 2 <= most:
        sizes.append(sizes[-1] * 2)
    if len(sizes) < 2:
        raise UserError(
            ExitCode.CONFIG,
            f"A simulation begins with {FIRST} labels and doubles them: expected at least "
            f"{2 * FIRST} labels (--labels) and rows to choose from, found {most}.",
        )
    return sizes


def replay(rows: Labelled, sizes: Sequence[int], seeds: int, by: By) -> Simulation:
    """Both ways from the same first labels, once a seed."""
    scores = np.empty((seeds, 2, len(sizes)))
    for seed in range(seeds):
        order = _first_rows_differ(np.random.default_rng(seed).permutation(len(rows.labels)), rows)
        chosen = order[: sizes[0]]
        for i, size in enumerate(sizes):
            if i:
                more = _suggest(rows, chosen, size - len(chosen), seed, by)
                chosen = np.concatenate([chosen, more])
            scores[seed, 0, i] = _accuracy(rows, order[:size], seed)
            scores[seed, 1, i] = _accuracy(rows, chosen, seed) if i else scores[seed, 0, 0]
        logger.info("seed %d of %d is done", seed + 1, seeds)
    areas = (scores[:, :, 1:] + scores[:, :, :-1]).mean(axis=2) / 2
    points = [point_of(size, scores[:, :, i]) for i, size in enumerate(sizes)]
    area = point_of(sizes[-1], areas)
    return Simulation(seeds, len(rows.labels), len(rows.judged_labels), by.value, points, area)


def _corpus(
    folder: Path, file: Path | None, options: ReadOptions | None, text: str | None
) -> tuple[Config, Corpus]:
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(
            ExitCode.CONFIG,
            f"{not_a_run(folder)}: expected {CONFIG_FILE} in it. Name the folder of a run.",
        )
    config = read_config(folder / CONFIG_FILE)
    dataset = replace(config.dataset, folds=None, limit=None, on_unlabeled=OnUnusable.drop)
    if file is not None:
        options = options or ReadOptions()
        dataset = replace(
            dataset,
            name=None,
            train=str(file),
            validation=None,
            test=None,
            id=None,
            group=None,
            encoding=options.encoding,
            separator=options.separator,
            text=text or dataset.text,
        )
    elif dataset.name == IN_MEMORY:
        raise UserError(
            ExitCode.DATA,
            f"The data of {folder} was given from Python, so no command can read it again. Give a "
            "labelled file: --file FILE.",
        )
    dataset = _with_rows_to_judge_by(dataset)
    corpus = load_corpus(dataset, dataset.seed)
    if not corpus.problem.integer_references:
        raise UserError(
            ExitCode.CONFIG,
            f"The texts of {file or folder} have {corpus.problem.rows_have}. A simulation is for "
            "texts with one label each.",
        )
    return replace(config, dataset=dataset), corpus


def _with_rows_to_judge_by(dataset: DatasetConfig) -> DatasetConfig:
    """Where neither validation nor test is named, `HELD_OUT` of the rows are set aside."""
    if dataset.validation is None and dataset.test is None:
        return replace(dataset, test_fraction=HELD_OUT - 0.05, validation_fraction=0.05)
    return dataset


def _first_rows_differ(order: np.ndarray, rows: Labelled) -> np.ndarray:
    """The order with two labels among its first rows: one alone teaches nothing."""
    labels = rows.labels[order]
    other = int((labels != labels[0]).argmax())
    if other >= FIRST:
        order = order.copy()
        order[[FIRST - 1, other]] = order[[other, FIRST - 1]]
    return order


def _suggest(rows: Labelled, chosen: np.ndarray, count: int, seed: int, by: By) -> np.ndarray:
    """What would be suggested to somebody with these labels."""
    left = np.setdiff1d(np.arange(len(rows.labels)), chosen)
    if by is By.typical or (by is By.auto and _evidence_is_weak(rows, chosen, seed)):
        return left[typical_rows(rows.x[left], rows.x[chosen], count, seed).rows]
    probabilities = softmax(_logits(rows, chosen, rows.x[left], seed))
    errors = errors_of(probabilities, probabilities.argmax(axis=1))
    return left[uncertain_rows(errors, rows.x[left], count, seed).rows]


def _evidence_is_weak(rows: Labelled, chosen: np.ndarray, seed: int) -> bool:
    """As `suggest` decides it by the figures of a run: here by answers out of fold."""
    labels = rows.labels[chosen]
    if len(labels) < 2 * FOLDS or np.sort(np.bincount(labels))[-2] < 2:
        return True
    folds = stratified_parts(labels, FOLDS, seed)
    table = Table(_scaled(rows.x[chosen]), labels, np.ones(len(labels)))
    if any(len(np.unique(labels[folds != fold])) < 2 for fold in range(FOLDS)):
        return True
    right = out_of_fold(rows.classes, table, folds).argmax(axis=1) == labels
    return is_weak(right, labels == np.bincount(labels).argmax())


def _accuracy(rows: Labelled, chosen: np.ndarray, seed: int) -> float:
    answers = _logits(rows, chosen, rows.judged_x, seed).argmax(axis=1)
    return float((answers == rows.judged_labels).mean())


def _logits(rows: Labelled, chosen: np.ndarray, x: np.ndarray, seed: int) -> np.ndarray:
    """Of a head that is solved on some rows."""
    table = Table(_scaled(rows.x[chosen]), rows.labels[chosen], np.ones(len(chosen)))
    return solve(SINGLE_LABEL, rows.classes, table, None, seed)[1].logits(_scaled(x))


def _scaled(x: np.ndarray) -> np.ndarray:
    """Each number about 1, as a LayerNorm leaves it: regularisation is meant for these."""
    return x * np.sqrt(x.shape[1])


def _directions(x: np.ndarray, mean: np.ndarray) -> np.ndarray:
    x = x - mean
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
