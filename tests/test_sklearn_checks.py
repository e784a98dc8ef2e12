"""scikit-learn's own checks of an estimator.

They feed numbers, and skip an estimator whose tags say that it reads texts. So they are given one
that writes each row of numbers as a text first; everything else is `TextClassifier` itself.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FILLING, NASTY, NICE, THINGS
from sklearn.exceptions import SkipTestWarning
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks
from sklearn.utils.validation import validate_data

from nlp_transfer import TextClassifier, TextRegressor

WORDS = np.array(NICE + NASTY + THINGS + FILLING)
QUICK = {"evaluation.folds": 0, "training.cpu": True, "training.threads": 1}


class OfNumbers:
    """A mixin: rows of numbers become words, one for each column and half unit."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.two_d_array, tags.input_tags.string = True, False
        return tags

    def fit(self, X: Any, y: Any) -> Any:
        self.__dict__.pop("_run", None)
        return super().fit(X, y)  # type: ignore[misc]

    def _read(self, x: Any, y: Any = None) -> Any:
        numbers = validate_data(self, x, reset=not hasattr(self, "_run"), dtype="numeric")
        halves = np.clip(np.floor(np.asarray(numbers, float) * 2) + 10, 0, 19).astype(int)
        places = (halves + 7 * np.arange(numbers.shape[1])) % len(WORDS)
        return super()._read([" ".join(WORDS[row]) for row in places], y)  # type: ignore[misc]


class ClassifierOfNumbers(OfNumbers, TextClassifier):
    pass


class RegressorOfNumbers(OfNumbers, TextRegressor):
    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # words say too little of numbers for R² > 0.5
        return tags


@pytest.fixture(autouse=True)
def tiny(checkpoints: dict[str, Path], in_an_empty_folder: Path) -> None:
    """The checks are listed before there is any checkpoint: it lies in the current folder."""
    (in_an_empty_folder / "tiny").symlink_to(checkpoints["bert"])


ROUNDING = {
    "check_methods_subset_invariance": "float32: which texts share a batch changes the last digits"
}
# The checks that are refuted, with the reason.
EXPECTED_TO_FAIL: dict[str, dict[str, str]] = {
    "ClassifierOfNumbers": ROUNDING,
    "RegressorOfNumbers": ROUNDING,
}


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@parametrize_with_checks(
    [
        ClassifierOfNumbers("tiny", "feature_extraction", overrides=QUICK),
        RegressorOfNumbers("tiny", "feature_extraction", overrides=QUICK),
    ],
    expected_failed_checks=lambda estimator: EXPECTED_TO_FAIL[type(estimator).__name__],
)
def test_the_checks_of_scikit_learn_pass(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.parametrize("estimator", [TextClassifier(), TextRegressor()], ids=str)
def test_as_it_is_scikit_learn_knows_that_it_reads_texts(estimator: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = check_estimator(estimator)
    assert any(issubclass(w.category, SkipTestWarning) for w in caught)
    assert {result["status"] for result in results} == {"passed"}
