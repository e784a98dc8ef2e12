"""Chooses what `strategy=auto` compares, by how many labelled texts there are and of which kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nlp_transfer.config.choices import Adapt, Pooling
from nlp_transfer.config.schema import Config
from nlp_transfer.data.corpus import Corpus
from nlp_transfer.data.labels.descriptions import label_texts
from nlp_transfer.data.splits import FEWEST_HELD_OUT
from nlp_transfer.models.mean_pooling import PARTS
from nlp_transfer.models.strategies.recipes import Recipe, named_strategy

# Rows of train up to which three epochs are too few for whatever is trained from there, and what is
# best with cross-validation is best beside a validation split, too (docs/results: few labels).
FEW_ROWS_UP_TO = 1_000
# Label names help where a label has fewer rows than this (docs/results: few labels).
NAMES_UP_TO = 32  # rows a label, on average
# Up to here a head that starts at random is not trained by the end of three epochs: with 65 rows of
# each of 77 labels `full` ends at 63% where a solved head starts at 91%. With 330 rows they are
# level, with 375 the solved start is behind (docs/results: few labels). Where texts have several
# labels, each is rare: `full` has learned next to nothing from 6,000 rows of 28 labels, so there
# the head is always solved first.
SOLVED_UP_TO = 200  # rows a label, on average
FEW_EACH = "a head that starts at random learns too little from so few rows a label"
SEVERAL = "a head of several labels that starts at random learns too little in three epochs"
# Rows up to which every text is read twice (R-Drop): with 3,000 rows a third of a point better on
# average, for half as much time again or twice as much (docs/results: few labels). With more rows
# there is less to gain, and more to wait for.
READ_TWICE_UP_TO = 10_000
FEW_THOUSAND = "a validation split decides; reading texts twice is worth its time up to 10,000 rows"
MANY_ROWS = "a validation split decides, and no other strategy was better on average there"
FEW_ROWS = "of all strategies it was the best on average with as few rows"
FEW_WITH_VALIDATION = "train has at most 1,000 rows: the same recipe as without a validation split"


def candidates(config: Config, corpus: Corpus, model_type: str) -> list[Recipe]:
    """The recipes to compare, cheapest first; one alone where nothing is to be chosen.

    A strategy that was named is the only candidate. With fewer than about a hundred rows no
    comparison would be reliable (of 102 draws, folds of 80 rows ranked recipes that lie two points
    apart no better than a coin): the recipe that was best where it was measured is taken.

    Args:
        model_type: of the checkpoint; few architectures can hold mean pooling.
    """
    rows, texts = len(corpus.splits["train"]), usable_label_texts(config, corpus)
    with_names = config.strategy.label_names
    few = rows / len(corpus.labels) < NAMES_UP_TO
    names = texts is not None and (few if with_names is None else with_names)
    self_trains = bool(config.strategy.self_training)
    if not config.strategy.is_auto:
        named = bool(with_names) and texts is not None
        return [Recipe(config.strategy, named, self_training=self_trains)]

    def recipe(name: str, expected: bool = False) -> Recipe:
        strategy = named_strategy(config.strategy, name)
        return Recipe(strategy, names, expected, FEW_ROWS, self_trains)

    # Scores and distributions over labels were not measured.
    named_classes = corpus.has_classes or corpus.problem.several
    pairs = "text_pair" in corpus.splits["train"].column_names
    if corpus.folds is None and (rows > FEW_ROWS_UP_TO or not (named_classes or pairs)):
        name, reason = _with_validation(corpus, pairs)
        strategy = named_strategy(config.strategy, name)
        return [Recipe(strategy, reason=reason, self_training=self_trains)]
    solved = recipe("feature_extraction")
    pairs = pairs and model_type in PARTS and config.checkpoint.pooling is not Pooling.first
    if not pairs and not named_classes:
        return [solved] if rows < FEWEST_HELD_OUT else [solved, recipe("probe_then_full")]
    expected = recipe("pair_similarity" if pairs else "contrastive", expected=True)
    if corpus.folds is None:
        return [replace(expected, expected=False, reason=FEW_WITH_VALIDATION)]
    ladder = [expected] if rows < FEWEST_HELD_OUT else [solved, expected]
    if corpus.unlabeled is None or config.strategy.self_training is not None:
        return ladder
    compared = rows >= FEWEST_HELD_OUT and corpus.has_classes
    return [*ladder, replace(expected, expected=False, self_training=True)] if compared else ladder


def _with_validation(corpus: Corpus, pairs: bool) -> tuple[str, str]:
    """The strategy where a validation split judges, and why."""
    if corpus.problem.several and not pairs:
        return "probe_then_full", SEVERAL
    few_each = len(corpus.splits["train"]) / len(corpus.labels) < SOLVED_UP_TO
    if few_each and corpus.has_classes and not pairs:
        return "probe_then_full", FEW_EACH
    if corpus.has_classes and len(corpus.splits["train"]) <= READ_TWICE_UP_TO:
        return "r_drop", FEW_THOUSAND
    return "full", MANY_ROWS


def unread_texts(config: Config, corpus: Corpus, recipes: list[Recipe]) -> Iterator[str]:
    """One line where `dataset.unlabeled` changes nothing in this run, or none."""
    read = config.strategy.adapt is not Adapt.none or any(r.self_training for r in recipes)
    if corpus.unlabeled is not None and not read:
        yield (
            "dataset.unlabeled has no effect: auto compares self-training only where 100 rows or "
            "more with one label each are cross-validated (strategy.self_training=true, "
            "strategy.adapt)."
        )


def usable_label_texts(config: Config, corpus: Corpus) -> list[str] | None:
    """One text a label; None where names say nothing, or a row is no single text with labels."""
    if not corpus.problem.has_labels or "text_pair" in corpus.splits["train"].column_names:
        return None
    return label_texts(corpus.labels, config.dataset.label_descriptions)
