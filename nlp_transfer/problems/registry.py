"""The kinds of labels by name, open to other packages."""

from __future__ import annotations

from functools import cache
from typing import TypeVar

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems.base import Problem
from nlp_transfer.registry import load_all

GROUP = "nlp_transfer.problems"  # of entry points: modules that register kinds when imported
PROBLEMS: dict[str, Problem] = {}
Kind = TypeVar("Kind", bound=type[Problem])


def register(kind: Kind) -> Kind:
    """Make a kind of label known by its name; a class decorator.

    Raises:
        ValueError: where the name is taken.
    """
    if kind.name in PROBLEMS:
        raise ValueError(f"the problem {kind.name!r} is registered twice")
    PROBLEMS[kind.name] = kind()
    return kind


def problem_named(name: str) -> Problem:
    """The kind of label of a name in `dataset.problem`, `run.json` or `config.json`.

    Raises:
        UserError: there is none of this name.
    """
    by_name = problems()
    if name not in by_name:
        raise UserError(
            ExitCode.CONFIG,
            f"{name!r} is not a kind of label; there are {', '.join(by_name)}. A kind of another "
            f"package needs that package installed (entry point {GROUP}).",
        )
    return by_name[name]


def problems() -> dict[str, Problem]:
    """Every kind of label by name, those of other packages included."""
    _load_entry_points()
    return PROBLEMS


@cache
def _load_entry_points() -> None:
    load_all(GROUP)
