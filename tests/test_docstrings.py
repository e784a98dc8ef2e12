"""Everything public has a docstring with an example, and the examples run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import nlp_transfer

# What needs a training stands there and is skipped: a run takes from seconds to minutes.
SKIPPED = {"__doc__": 1, "Classifier": 2, "TextClassifier": 2, "TextRegressor": 1, "run": 1}


def examples_of(name: str) -> list[doctest.DocTest]:
    if name == "__doc__":
        return doctest.DocTestFinder(recurse=False).find(nlp_transfer)
    thing = getattr(nlp_transfer, name)
    module = importlib.import_module(thing.__module__)
    return doctest.DocTestFinder().find(thing, name, module)


@pytest.mark.parametrize("name", ["__doc__", *nlp_transfer.__all__])
def test_everything_public_says_what_it_is_and_shows_it(name: str, finished: Path) -> None:
    shutil.copytree(finished, "sentiment")
    docstrings = examples_of(name)
    assert any(test.examples for test in docstrings), f"{name} has no example"
    runner = doctest.DocTestRunner()
    for test in docstrings:
        runner.run(test)
    assert not runner.summarize().failed
    skipped = [e for test in docstrings for e in test.examples if doctest.SKIP in e.options]
    assert len(skipped) == SKIPPED.get(name, 0)


@pytest.mark.parametrize("name", nlp_transfer.__all__)
def test_public_methods_have_docstrings(name: str) -> None:
    thing = getattr(nlp_transfer, name)
    assert inspect.getdoc(thing)
    for member, value in inspect.getmembers(thing):
        ours = (getattr(value, "__module__", None) or "").startswith("nlp_transfer")
        if not member.startswith("_") and inspect.isroutine(value) and ours:
            assert inspect.getdoc(value), f"{name}.{member}"


def test_public_names_are_listed_and_nothing_else_is() -> None:
    assert sorted(nlp_transfer.__all__) == nlp_transfer.__all__
    assert set(nlp_transfer.__all__) <= set(dir(nlp_transfer))
    with pytest.raises(AttributeError, match="has no attribute 'Classifer'"):
        nlp_transfer.Classifer  # noqa: B018
    assert nlp_transfer.__version__.count(".") == 2


def test_importing_the_package_waits_for_nothing() -> None:
    program = (
        "import sys, nlp_transfer as n; dir(n), n.__version__; n.compose, n.UserError\n"
        "print([m for m in ('torch', 'transformers', 'datasets', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
