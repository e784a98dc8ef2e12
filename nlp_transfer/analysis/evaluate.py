"""Measures a finished run, or any exported folder, on any labelled texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from nlp_transfer.analysis.train_overlap import overlap_note
from nlp_transfer.config.choices import Quoting
from nlp_transfer.config.loading import read_config
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.config.sections.evaluation import EvaluationConfig
from nlp_transfer.data.cells import label_key
from nlp_transfer.data.columns import require_columns
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.data.formats.registry import ReadOptions, is_table_name
from nlp_transfer.data.labels.known import load_labelled
from nlp_transfer.data.labels.naming import named
from nlp_transfer.data.sources import SPLITS, Source, read_files, read_splits
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.evaluator import evaluate_split
from nlp_transfer.evaluation.metric_set import load_metrics
from nlp_transfer.evaluation.slices import slices_of
from nlp_transfer.inference.classifier import Classifier, find_model
from nlp_transfer.inference.download import local_folder
from nlp_transfer.problems import Problem
from nlp_transfer.problems.base import integer
from nlp_transfer.problems.detection import problem_to_measure
from nlp_transfer.reporting import console
from nlp_transfer.reporting.figures import split_figures
from nlp_transfer.runs.names import CODE, CONFIG_FILE, RUN_FILE
from nlp_transfer.utils.files import read_json
from nlp_transfer.utils.text import shortened

DATASETS = "nlp_transfer.conf.dataset"
FILES = "files"  # one of them, for what has no name


@dataclass(frozen=True)
class LabelledTexts:
    """Which texts are asked, and where their answers stand (None: as the run or dataset says)."""

    data: str  # a file, a glob, a dataset of ours or of the Hub
    split: str = "test"
    text: str | None = None  # a column
    text_pair: str | None = None
    label: str | None = None  # several columns of 0 and 1: with commas
    delimiter: str | None = None
    encoding: str | None = None  # of a file; None: UTF-8, or UTF-16 by its mark
    separator: str | None = None  # between the cells of a file; None: as its header shows
    quoting: Quoting = Quoting.double  # of the cells of a file


@dataclass(frozen=True)
class ModelEvaluation:
    """What a folder is worth on these texts."""

    measured: dict[str, dict[str, Any]]  # as in metrics.json
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([*self.notes, *(["", console.metric_table(self.measured)])]).lstrip("\n")


def evaluate_model(
    folder: Path, texts: LabelledTexts, backend: str = "torch", threads: int | None = None
) -> ModelEvaluation:
    """The numbers of `metrics.json`, for a folder and texts of any origin.

    Args:
        folder: a run, whose columns and metrics are then the usual ones, or an exported folder.

    Raises:
        UserError: if the texts cannot be read or their labels are not the model's.
    """
    folder = local_folder(folder, backend)
    find_model(folder)
    dataset, evaluation = _usual(folder)
    dataset, sources = _read(texts, dataset)
    # After the data: it imports torch.
    classifier = Classifier.load(folder, backend, threads)
    labels, problem = _what_it_answers(classifier, folder)
    corpus = _corpus(labels, problem, sources, texts.split, dataset)
    evaluation, notes = _with_known_metrics(evaluation, folder)
    metrics = load_metrics(evaluation, corpus.labels, corpus.problem)
    metrics = replace(metrics, thresholds=classifier.decoder.thresholds)
    rows = corpus.splits[texts.split]
    pairs = rows["text_pair"][:] if "text_pair" in rows.column_names else None
    logits = classifier.logits(rows["text"][:], pairs)
    evaluated = (
        logits,
        corpus.references(texts.split),
        metrics,
        corpus.labels,
        slices_of(rows, []),
    )
    measured = split_figures({texts.split: evaluate_split(*evaluated)})
    overlap = overlap_note(folder, rows, texts.split)
    return ModelEvaluation(measured, (*corpus.notes, *notes, *([overlap] if overlap else [])))


def align(data_labels: Sequence[str], labels: tuple[str, ...], names: dict[str, str]) -> Aligned:
    """Which of the model's labels each label of the data is, and by what.

    By name; by the names that the run gave to what its data holds; by name whatever the case and
    the spaces, where that is clear; by number, where the model's labels are LABEL_0, LABEL_1 ….

    Args:
        names: the run's `dataset.label_names`.

    Raises:
        UserError: if not every label of the data is one of the model's.
    """
    distinct = set(data_labels)
    if distinct <= set(labels):
        return Aligned({label: label for label in data_labels}, None)
    if distinct <= set(names) and {names[label] for label in data_labels} <= set(labels):
        return Aligned({label: names[label] for label in data_labels}, "by the run's label names")
    keys = {label_key(label): label for label in labels}
    clear = len(keys) == len(labels) and len({label_key(w) for w in distinct}) == len(distinct)
    if clear and {label_key(label) for label in distinct} <= set(keys):
        names_by_label = {label: keys[label_key(label)] for label in data_labels}
        return Aligned(names_by_label, "by name, whatever the case and spaces")
    numbered = {str(i): f"LABEL_{i}" for i in range(len(labels))}
    if labels == tuple(numbered.values()) and distinct <= set(numbered):
        return Aligned({label: numbered[label] for label in data_labels}, "by number")
    unknown = [label for label in data_labels if label not in labels]
    raise UserError(
        ExitCode.DATA,
        f"The labels of the data do not all belong to the model: {_some(unknown)} "
        f"{'is' if len(unknown) == 1 else 'are'} not among its {len(labels)} labels "
        f"({_some(labels)}). Rename them in the data, or leave these rows out.",
    )


@dataclass(frozen=True)
class Aligned:
    """The model's label for each label of the data, and what to say about it."""

    names: dict[str, str]
    how: str | None  # None: they are the same


def _with_known_metrics(
    evaluation: EvaluationConfig, folder: Path
) -> tuple[EvaluationConfig, list[str]]:
    """Without the metrics that a run was given from Python, whose code is not here; and a note."""
    about = read_json(folder / RUN_FILE) if (folder / RUN_FILE).is_file() else {}
    metrics = [name for name in about.get(CODE, {}) if name.startswith("metric ")]
    names = [name.removeprefix("metric ") for name in metrics]
    if not names:
        return evaluation, []
    best = None if evaluation.best in names else evaluation.best
    note = f"Not measured here: {', '.join(names)}, which the run was given from Python."
    return replace(evaluation, best=best), [note]


def _usual(folder: Path) -> tuple[DatasetConfig, EvaluationConfig]:
    """Where a run had its texts, and how it measured; of another folder, the defaults."""
    if not (folder / RUN_FILE).is_file():
        return DatasetConfig(), EvaluationConfig()
    config = read_config(folder / CONFIG_FILE)
    return config.dataset, config.evaluation


def _read(texts: LabelledTexts, usual: DatasetConfig) -> tuple[DatasetConfig, list[Source]]:
    """The tables, and how their columns are called."""
    is_file = is_table_name(texts.data.partition("#")[0].partition("?")[0])
    config = _dataset(None if is_file else texts.data, usual)
    columns = {
        name: getattr(texts, name)
        for name in ("text", "text_pair", "label", "delimiter")
        if getattr(texts, name) is not None
    }
    if "," in columns.get("label", ""):
        columns["label"] = columns["label"].split(",")
    config = replace(config, **columns, group=None, id=None)  # nothing is cut here
    if is_file:
        # How the files of training were written does not apply to this one.
        names = (config.text, config.text_pair, *config.label_columns)
        options = ReadOptions(
            texts.encoding,
            texts.separator,
            quoting=texts.quoting,
            columns=tuple(name for name in names if name),
            keys="--",
        )
        sources = read_files(texts.data, "--data", options)
    else:
        split = getattr(config, texts.split) if texts.split in SPLITS else texts.split
        only = replace(config, train=split or texts.split, validation=None, test=None)
        sources = read_splits(only)["train"]
    _refuse_columns(config, sources)
    return config, sources


def _dataset(name: str | None, usual: DatasetConfig) -> DatasetConfig:
    """A dataset by its name of ours or of the Hub; files and others have the usual columns."""
    ours = resources.files(DATASETS).joinpath(f"{name}.yaml")
    if name not in (None, FILES) and ours.is_file():
        tree = OmegaConf.create(ours.read_text("utf-8"))
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(DatasetConfig), tree))
        assert isinstance(config, DatasetConfig)
        return config
    if name is not None and name == usual.name:
        return usual
    plain_splits: dict[str, Any] = {split: split for split in SPLITS}
    return replace(usual, name=name, subset=None, revision=None, **plain_splits)


def _refuse_columns(config: DatasetConfig, sources: list[Source]) -> None:
    columns = [("--text", config.text), ("--text-pair", config.text_pair)]
    columns += [("--label", column) for column in config.label_columns]
    for source in sources:
        require_columns(source.table.column_names, columns, source.name, source.cells)


def _what_it_answers(classifier: Classifier, folder: Path) -> tuple[tuple[str, ...], Problem]:
    """The labels and the problem; one label of a folder of other origin may be a score."""
    labels, problem = classifier.labels, classifier.decoder.problem
    about = read_json(find_model(folder) / "config.json")
    problem = problem_to_measure(problem, labels, about)
    return (labels if problem.has_labels else tuple(problem.order_labels(set(), None))), problem


def _corpus(
    labels: tuple[str, ...],
    problem: Problem,
    sources: list[Source],
    split: str,
    config: DatasetConfig,
) -> Corpus:
    """The labelled texts in the model's labels."""
    notes: list[str] = []

    def names(data_labels: set[str], order: Sequence[str]) -> dict[str, str]:
        if not problem.has_labels:
            return {label: label for label in labels}
        names_of_run = config.label_names or {}
        run_names = {
            **names_of_run,
            **{old: new for old, new in named(names_of_run, order).items() if new},
        }
        by_number = sorted(data_labels, key=lambda label: (integer(label) or 0, label))
        alignment = align(by_number, labels, run_names)
        if alignment.how is not None:
            pairs = ", ".join(f"{label} is {name}" for label, name in alignment.names.items())
            notes.append(f"Labels are matched {alignment.how}: {pairs}.")
        of = {name: label for label, name in alignment.names.items()}
        # In the model's order, those too that the data does not have.
        return {of.get(label, f"\0{label}"): label for label in labels}

    rows = load_labelled(sources, replace(config, problem=problem.name), names, notes, labels)
    return Corpus({split: rows}, labels, "", tuple(notes), problem)


def _some(labels: Sequence[str]) -> str:
    first = ", ".join(map(shortened, labels[:5]))
    return first if len(labels) <= 5 else f"{first} …"
