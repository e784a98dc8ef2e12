"""Lists the rows whose label is least plausible, by their neighbours among frozen features."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from scipy.special import softmax

from nlp_transfer.config.schema import Config
from nlp_transfer.data.corpus import COLUMNS, Corpus
from nlp_transfer.data.formats.windows import WORKBOOK, kind_of
from nlp_transfer.data.splitters import stratified_parts
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.features.cache import mean_features
from nlp_transfer.features.linear_models import Table, out_of_fold
from nlp_transfer.models.preparation import load_and_encode
from nlp_transfer.runs.names import CONFIG_FILE
from nlp_transfer.runs.reopen import reopen
from nlp_transfer.utils.distributed import join
from nlp_transfer.utils.files import not_a_run, write_table

NEIGHBOURS = (5, 10, 20, 50, 100)  # of which the given labels choose one
AT_ONCE = 1024  # texts whose neighbours are looked for together
FOLDS = 5
GIVE_AGAIN = (
    "Give it again: from nlp_transfer.quality.label_errors import find_suspects, "
    "find_suspects(Path(FOLDER), data={'train': …})."
)


@dataclass(frozen=True)
class Labelled:
    """Texts as features, with the labels they were given."""

    x: np.ndarray  # float32 [rows, width], each of length 1
    labels: np.ndarray  # int64 [rows]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Vote:
    """The vote of the neighbours of each row on its label."""

    support: np.ndarray  # float [rows], the share of those that could have its label and do
    suggested: np.ndarray  # int [rows], the label that most of them have
    share: np.ndarray  # float [rows], of those that have the suggested label

    def agreement(self, labels: np.ndarray) -> float:
        """The share of the rows whose neighbours suggest the label they have."""
        return float((self.suggested == labels).mean())


@dataclass(frozen=True)
class Suspects:
    """Every row, the least plausible label first."""

    table: pa.Table
    neighbours: int
    agreement: float  # share of the rows whose neighbours suggest the label they have


def find_suspects(
    folder: Path,
    every_split: bool = False,
    neighbours: int | None = None,
    threads: int | None = None,
    data: Any = None,
) -> Suspects:
    """The rows of a run's train split, the least plausible labels first.

    The features are those of the checkpoint that the run began with: after it, a model has learned
    the wrong labels too.

    Args:
        every_split: validation and test as well.
        neighbours: how many say what a label should be; None: the number that agrees best with the
            given labels.
        threads: of the CPU; None: as the run was told.
        data: of a run whose data was given from Python, the same again.

    Raises:
        UserError: there is no run, its data has changed, or its texts have no single label.
    """
    config, corpus = _run_with_single_labels(folder, data)
    threads = threads or config.training.threads
    process = join(replace(config.training, threads=threads))
    pretrained, encoded = load_and_encode(config, corpus, process)
    features = mean_features(pretrained, encoded, config.features, process)
    splits = tuple(corpus.splits) if every_split else ("train",)
    rows = _labelled(features, corpus, splits)
    count, vote = vote_of(rows, neighbours, process.device)
    probability = probability_of_given(rows, config.seed)
    order = np.lexsort((probability, vote.support))  # of equally many neighbours, the less probable
    columns = {
        **_origin(corpus, splits),
        "label": np.array(rows.names)[rows.labels],
        "suggested": np.array(rows.names)[vote.suggested],
        "neighbours": vote.support.round(4),
        "neighbours_suggested": vote.share.round(4),
        "probability": probability.round(6),
        **_texts(corpus, splits),
    }
    return Suspects(pa.table(columns).take(order), count, vote.agreement(rows.labels))


def directions(x: np.ndarray) -> np.ndarray:
    """Features around their mean, each of length 1: products of them are cosines."""
    x = x - x.mean(axis=0)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _run_with_single_labels(folder: Path, data: Any) -> tuple[Config, Corpus]:
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(
            ExitCode.CONFIG,
            f"{not_a_run(folder)}, so its labelled texts are unknown. Name the folder of a run.",
        )
    config, corpus = reopen(folder, "or train on it as it is now", GIVE_AGAIN, data)
    if not corpus.problem.integer_references:
        raise UserError(
            ExitCode.CONFIG,
            f"The texts of {folder} have {corpus.problem.rows_have}. Suspect labels are found for "
            "texts with one label each.",
        )
    return config, corpus


def _labelled(features: dict[str, np.ndarray], corpus: Corpus, splits: tuple[str, ...]) -> Labelled:
    return Labelled(
        directions(np.concatenate([features[split] for split in splits])),
        np.concatenate([corpus.references(split) for split in splits]),
        corpus.labels,
    )


def vote_of(rows: Labelled, neighbours: int | None, device: torch.device) -> tuple[int, Vote]:
    """Choose the number of neighbours, and let them vote.

    Raises:
        UserError: if there are not so many.
    """
    most = len(rows.x) - 1
    if neighbours is not None and neighbours > most:
        raise UserError(
            ExitCode.CONFIG,
            f"--neighbours {neighbours} is too many: a row of {most + 1} has {most} others.",
        )
    sizes = [neighbours] if neighbours else [k for k in NEIGHBOURS if k < most] or [most]
    theirs = rows.labels[nearest(rows.x, max(sizes), device)]
    votes = {k: count_votes(theirs[:, :k], rows) for k in sizes}
    best = max(sizes, key=lambda k: (votes[k].agreement(rows.labels), k))
    return best, votes[best]


def nearest(x: np.ndarray, count: int, device: torch.device) -> np.ndarray:
    """The other rows that are most like each, the nearest first: int64 [rows, count]."""
    features = torch.from_numpy(x).to(device)
    indices = []
    for start in range(0, len(x), AT_ONCE):
        similarities = features[start : start + AT_ONCE] @ features.T
        similarities.diagonal(start).fill_(-2.0)  # a row is not its own neighbour
        indices.append(similarities.topk(count, dim=1).indices.cpu().numpy())
    return np.concatenate(indices)


def count_votes(theirs: np.ndarray, rows: Labelled) -> Vote:
    """Of the neighbours' labels, int [rows, neighbours]."""
    every, labels = np.arange(len(theirs)), rows.labels
    votes = np.zeros((len(theirs), len(rows.names)))
    np.add.at(votes, (every[:, None], theirs), 1.0)
    suggested = votes.argmax(axis=1)
    # A label with six rows has five neighbours at most, however many are asked.
    could = np.minimum(theirs.shape[1], np.bincount(labels)[labels] - 1)
    support = votes[every, labels] / np.maximum(could, 1)
    return Vote(support, suggested, votes[every, suggested] / theirs.shape[1])


def probability_of_given(rows: Labelled, seed: int) -> np.ndarray:
    """Of the label each row has, by a logistic regression on the same features without its fold."""
    x = rows.x.astype(np.float64) * np.sqrt(rows.x.shape[1])
    table = Table(x, rows.labels, np.ones(len(x)))
    logits = out_of_fold(len(rows.names), table, stratified_parts(rows.labels, FOLDS, seed))
    return softmax(logits, axis=1)[np.arange(len(x)), rows.labels]


def write_suspects(suspects: Suspects, file: Path) -> None:
    """A table of any kind that `nlp-transfer predict` writes, too; whole or not at all."""
    write_table(suspects.table, file)


def describe(suspects: Suspects, file: Path) -> str:
    """What was found, for the terminal."""
    table = suspects.table
    labels, suggested = table["label"].to_pylist(), table["suggested"].to_pylist()
    differing = sum(a != b for a, b in zip(labels, suggested, strict=True))
    is_workbook = kind_of(file) == WORKBOOK  # which may hold more than cells
    page = "" if is_workbook else f" To correct them on a page: nlp-transfer review {file}"
    return (
        f"The {suspects.neighbours} nearest rows of each of {len(table):,} rows voted for its "
        f"label: for the given one in {len(table) - differing:,} cases "
        f"({suspects.agreement:.1%}), for another in {differing:,}.\n"
        f"Written: {file}, the least plausible label first.{page}"
    )


def _origin(corpus: Corpus, splits: tuple[str, ...]) -> dict[str, Any]:
    """Where each row is from: its file (or the Hub's name), its number there, its split here."""
    rows = [corpus.splits[split] for split in splits]
    return {
        "source": [name for part in rows for name in part["source"][:]],
        "row": [number for part in rows for number in part["row"][:]],
        "split": [
            split for split, part in zip(splits, rows, strict=True) for _ in range(len(part))
        ],
    }


def _texts(corpus: Corpus, splits: tuple[str, ...]) -> dict[str, list[str]]:
    rows = [corpus.splits[split] for split in splits]
    columns = [name for name in COLUMNS if name != "label" and name in rows[0].column_names]
    return {name: [text for part in rows for text in part[name][:]] for name in columns}
