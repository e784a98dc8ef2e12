"""Checks what a configuration says of the data: places, labels, splits, and how texts are read."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches

from nlp_transfer.config.choices import Adapt, Cut, LongText, WindowPooling
from nlp_transfer.config.constants import AUTO
from nlp_transfer.config.schema import Config
from nlp_transfer.config.sections.dataset import FILE_SUFFIXES, DatasetConfig
from nlp_transfer.problems import problems


def impossible_long_texts(config: Config) -> Iterator[str]:
    tokenization = config.tokenization
    how = tokenization.long_text
    if how is not LongText.truncate and config.dataset.text_pair is not None:
        yield (
            f"tokenization.long_text={how.name} is for single texts; of the pairs of "
            "dataset.text_pair the longer text is cut. Leave it out."
        )
    if tokenization.stride < 0:
        yield f"tokenization.stride={tokenization.stride} must be a number that is not negative."
    if how is not LongText.windows:
        for key, default in (("stride", 0), ("window_pooling", WindowPooling.mean)):
            value = getattr(tokenization, key)
            if value != default:
                value = getattr(value, "name", value)
                yield f"tokenization.{key}={value} needs tokenization.long_text=windows."


def impossible_texts(config: Config) -> Iterator[str]:
    """Of texts without labels: none uses them, or nothing can be learned from them."""
    dataset, strategy = config.dataset, config.strategy
    places = dataset.places("unlabeled")
    if dataset.unlabeled is not None and not (places and all(places)):
        yield f"dataset.unlabeled={dataset.unlabeled!r} names no file: expected a file or a list."
    compares = strategy.is_auto and strategy.self_training is None
    if places and strategy.adapt is Adapt.none and not (strategy.self_training or compares):
        yield (
            f"dataset.unlabeled={dataset.unlabeled!r} has no effect: nothing reads these texts. "
            "Add strategy.self_training=true or strategy.adapt=contrastive (or mlm), or leave it "
            "out."
        )
    if strategy.adapt is Adapt.contrastive and dataset.text_pair is not None:
        yield (
            "strategy.adapt=contrastive is for single texts, and dataset.text_pair makes pairs of "
            "them. Take strategy=pair_similarity, or strategy.adapt=mlm."
        )


def impossible_places(dataset: DatasetConfig) -> Iterator[str]:
    """Files with the name of a dataset, and lists of anything but files."""
    for split in ("train", "validation", "test"):
        places, value = dataset.places(split), getattr(dataset, split)
        if value is not None and not (places and all(places)):
            yield f"dataset.{split}={value!r} names no file: expected a file, a glob, or a list."
        elif dataset.name is None:
            continue
        elif any(place.lower().endswith(FILE_SUFFIXES) for place in places):
            yield (
                f"dataset.{split}={value!r} is a file, but the dataset is {dataset.name!r}. "
                f"Add dataset=files to train on your own files."
            )
        elif len(places) > 1:
            yield (
                f"dataset.{split}={value!r} is a list, and {dataset.name!r} has splits: name one "
                "of them. Lists are for files (dataset=files)."
            )


def columns_named_twice(dataset: DatasetConfig) -> Iterator[str]:
    """A column that is to be two things: a model that reads its label learns nothing."""
    uses = [("text", dataset.text), ("text_pair", dataset.text_pair)]
    uses += [("label", name) for name in dataset.label_columns]
    key_of: dict[str, str] = {}
    for key, name in uses:
        if name in key_of:
            yield (
                f"dataset.{key_of[name]} and dataset.{key} name the same column {name!r}: give "
                "each a column of its own."
                if key_of[name] != key
                else f"dataset.{key} names the column {name!r} twice: name it once."
            )
        elif name is not None:
            key_of[name] = key
    if dataset.group is not None and key_of.get(dataset.group) == "label":
        yield (
            f"dataset.group and dataset.label name the same column {dataset.group!r}: all rows of "
            "a label would be in one split. Leave out dataset.group."
        )


def impossible_labels(dataset: DatasetConfig) -> Iterator[str]:
    names = dataset.label_columns
    if not names or not all(isinstance(name, str) and name for name in names):
        null = " Type \"dataset.label='null'\" for a column named null."
        yield (
            f"dataset.label={dataset.label!r} must be a column, or a list of columns."
            f"{null if dataset.label is None else ''}"
        )
    yield from columns_named_twice(dataset)
    yield from impossible_problem(dataset)
    if isinstance(dataset.label, list) and dataset.delimiter is not None:
        yield "dataset.delimiter is for labels in one cell; dataset.label has several columns."
    if dataset.delimiter == "":
        yield "dataset.delimiter is empty: name what stands between the labels of a cell."


def impossible_problem(dataset: DatasetConfig) -> Iterator[str]:
    name, kinds = dataset.problem, problems()
    if name != AUTO and name not in kinds:
        nearest = get_close_matches(name, kinds, n=1)
        guess = f" Did you mean {nearest[0]}?" if nearest else ""
        yield f"dataset.problem={name!r} is not one of {', '.join([AUTO, *kinds])}.{guess}"
    ordered = [kind.name for kind in kinds.values() if kind.has_order]
    if dataset.order is not None and name not in ordered:
        yield f"dataset.order is for dataset.problem={' or '.join(ordered)}; it is {name}."
    if name not in kinds:
        return
    problem, columns = kinds[name], isinstance(dataset.label, list)
    if (columns and not problem.reads_columns) or (dataset.delimiter and not problem.several):
        yield (
            f"dataset.problem={name} does not go with several labels a text "
            "(dataset.delimiter, or a list of columns in dataset.label)."
        )
    if problem.needs_columns and not columns:
        yield (
            f"dataset.problem={name} needs a column of numbers for each label, as in "
            f"dataset.label=[p_negative,p_positive]; dataset.label is {dataset.label!r}."
        )
    if dataset.label_names is not None and not problem.has_label_names:
        yield (
            "dataset.label_names has nothing to name: "
            f"dataset.problem={name} has {problem.rows_have}."
        )


def impossible_cuts(dataset: DatasetConfig) -> Iterator[str]:
    folds = dataset.folds
    if folds is None:
        if dataset.fold != 0:
            yield f"dataset.fold={dataset.fold} needs dataset.folds, the number of folds."
        if dataset.cut is Cut.hash and dataset.validation is not None:
            yield (
                "dataset.cut=hash has nothing to cut, because dataset.validation="
                f"{dataset.validation!r} is given. Leave out one of the two."
            )
        return
    if folds < 2:
        yield f"dataset.folds={folds} must be at least 2."
    elif not 0 <= dataset.fold < folds:
        yield f"dataset.fold={dataset.fold} must be 0 to {folds - 1}: dataset.folds={folds}."
    if dataset.test is not None:
        yield (
            f"dataset.folds={folds} makes one fold of train the test split; leave out "
            f"dataset.test={dataset.test!r} (dataset.test=null)."
        )
