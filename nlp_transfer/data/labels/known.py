"""Reads labelled rows for a model that there is already, whose labels and problem are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from datasets import Dataset

from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.faults import Faults
from nlp_transfer.data.labels.column import LabelColumn
from nlp_transfer.data.labels.naming import with_label_ids
from nlp_transfer.data.labels.reading import parse, read_label_forms
from nlp_transfer.data.sources import Source
from nlp_transfer.data.usable_rows import read_table, without_undecided
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems import problem_named

SPLIT = "--data"  # what the rows are called in messages


def load_labelled(
    sources: list[Source],
    config: DatasetConfig,
    names: Callable[[set[str], Sequence[str]], dict[str, str]],
    notes: list[str],
    known: Sequence[str] = (),
) -> Dataset:
    """One split for a model that there is already; `config.problem` is the model's.

    Args:
        known: the model's labels, in whose spelling `dataset.clean_labels` writes all others.
        names: from the labels as the data writes them, and the order a `ClassLabel` gives them
            (empty without one), to theirs in the model's order.

    Raises:
        UserError: with the file, the rows and what to do.
    """
    problem = problem_named(config.problem)
    with Faults(drops=False) as faults:
        tables = [read_table(source, SPLIT, config, (), faults, notes) for source in sources]
        tables = [without_undecided(table, notes) for table in tables]
        if not any(len(table.labels) for table in tables):
            why = "" if faults.faults else " (all are -1)"
            raise UserError(ExitCode.DATA, f"No row of the data has a label{why}.")
        column = LabelColumn.of(config)
        parts = read_label_forms({SPLIT: tables}, config, column, faults, notes, known)
        tables = parts[SPLIT]
        has_lists = any(isinstance(label, list) for table in tables for label in table.labels)
        if has_lists and not (problem.several or problem.reads_columns):
            raise UserError(
                ExitCode.DATA,
                f"The label column {config.label!r} holds lists of labels, and the model answers "
                f"with one ({problem.name}).",
            )
        tables = [parse(table, problem, config, faults) for table in tables]
        labels = {str(label) for table in tables for label in problem.labels_in(table.labels)}
        order = () if any(table.order is None for table in tables) else tables[0].order or ()
        return with_label_ids(tables, names(labels, order), problem, faults)
