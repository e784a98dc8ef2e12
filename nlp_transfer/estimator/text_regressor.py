"""`TextRegressor`: scikit-learn's interface to a run that learns scores."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from datasets import Value
from sklearn.base import RegressorMixin

from nlp_transfer.estimator.base import TextEstimator
from nlp_transfer.estimator.targets import read_scores
from nlp_transfer.problems.regression import REGRESSION


class TextRegressor(RegressorMixin, TextEstimator):
    """A pretrained encoder as a scikit-learn regressor: a number for each text, or pair of texts.

    Args:
        checkpoint, strategy, seed, overrides, run_dir, metrics, callbacks, loss, verbose: as those
            of `TextClassifier`.

    >>> pairs = [("A man plays.", "Someone makes music."), ("It rains.", "A dog sleeps.")] * 8
    >>> model = TextRegressor(strategy="feature_extraction")
    >>> model.fit(pairs, [3.5, 0.0] * 8).predict(pairs[:2])  # doctest: +SKIP
    array([3.48, 0.02])
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Train on texts and their scores; what was fitted before is forgotten.

        Args:
            X: texts or pairs of texts, as `TextClassifier.fit` takes them.
            y: finite numbers [texts].

        Raises:
            UserError: what cannot be used; `InputError`, a `ValueError`, for `X` and `y`.
        """
        columns, scores = self._read(X, y), read_scores(y)
        self._fit(self._config(REGRESSION.name), columns, scores.tolist(), Value("float64"))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The score of each text, float64 [texts]; NaN where a text is missing or empty."""
        return self._probabilities(X)[0][:, 0]

    def _fitted_state(self) -> dict[str, Any]:
        return {}

    def _restore(self, fitted: dict[str, Any]) -> None:
        del fitted
