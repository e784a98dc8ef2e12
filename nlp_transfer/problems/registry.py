"""The kinds of labels by name, open to other packages."""

from __future__ import annotations

from typing import TypeVar

from nlp_transfer.problems.base import Problem
from nlp_transfer.registry import Registry

PROBLEMS: Registry[Problem] = Registry(
    "dataset.problem", "a kind of label", "nlp_transfer.problems"
)
Kind = TypeVar("Kind", bound=type[Problem])


def register_problem(kind: Kind) -> Kind:
    """Make a kind of label known by its `name`; a class decorator.

    Raises:
        ValueError: where the name is taken.
    """
    PROBLEMS.add(kind.name, kind(), kind)
    return kind


def problem_named(name: str) -> Problem:
    """The kind of label of a name in `dataset.problem`, `run.json` or `config.json`.

    Raises:
        UserError: there is none of this name.
    """
    return PROBLEMS.find(name)


def problems() -> dict[str, Problem]:
    """Every kind of label by name, those of other packages included."""
    return PROBLEMS.complete()
