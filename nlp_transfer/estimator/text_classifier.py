"""`TextClassifier`: scikit-learn's interface to a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from datasets import ClassLabel, List
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from transformers import TrainerCallback

from nlp_transfer.config.constants import AUTO
from nlp_transfer.errors import InputError
from nlp_transfer.estimator.base import Overrides, TextEstimator
from nlp_transfer.estimator.spelling import as_spelt, merged
from nlp_transfer.estimator.targets import Form, encode, in_order, read_targets
from nlp_transfer.estimator.texts import other_length
from nlp_transfer.evaluation.registry import Metric
from nlp_transfer.problems.multi_label import MULTI_LABEL
from nlp_transfer.problems.ordinal import ORDINAL
from nlp_transfer.problems.single_label import SINGLE_LABEL
from nlp_transfer.training.extensions import MetricFunction
from nlp_transfer.training.losses import Loss

PROBLEMS = (AUTO, SINGLE_LABEL.name, MULTI_LABEL.name, ORDINAL.name)


class TextClassifier(ClassifierMixin, TextEstimator):
    """A pretrained encoder as a scikit-learn classifier of texts.

    It works in `Pipeline`, `cross_val_score` and `GridSearchCV`, and can be cloned and pickled: a
    pickle holds the model and its figures, and no row of the data. Nothing is written outside of a
    temporary folder, unless `run_dir` names one.

    With fewer than 1,000 rows nothing is set aside: cross-validation over all of them calibrates
    and gives `cross_validation_`. With more, a tenth decides (`evaluation.refit` learns from it,
    too). Your own cross-validation around it is faster with `overrides=["evaluation.folds=0"]`.

    Args:
        checkpoint: a short name (`minilm`, `distilbert` …), a name of the Hub, or a folder.
        strategy: how it is trained; `auto` decides by the rows. `feature_extraction` is fastest.
        problem: `auto` (by `y`), `single_label`, `multi_label` or `ordinal`.
        seed: of everything that is drawn in training; the same seed gives the same model.
        overrides: more of the configuration, as `["training.batch_size=32"]` or a mapping. They
            come last: they win over the other parameters.
        run_dir: a folder for the run, which the same fit finds finished; None: a temporary one,
            removed with the estimator. `cross_val_score` and `GridSearchCV` need None.
        metrics, callbacks, loss: as in `run`.
        verbose: show the log, the summary and draw the report; else only a progress bar.

    Attributes:
        classes_: the labels, in the order of the probabilities; [labels]. See also `report_`,
            `cross_validation_` and `classifier_`.

    >>> texts = ["What a find!", "Never again.", "Lovely.", "Cold and slow."] * 3
    >>> labels = ["good", "bad", "good", "bad"] * 3
    >>> model = TextClassifier(strategy="feature_extraction", seed=1)
    >>> model.fit(texts, labels)  # doctest: +SKIP
    TextClassifier(seed=1, strategy='feature_extraction')
    >>> model.predict(["A lovely find.", None])  # doctest: +SKIP
    array(['good', None], dtype=object)
    """

    SAVED: ClassVar[tuple[str, ...]] = (*TextEstimator.SAVED, "problem")

    def __init__(  # noqa: PLR0913
        self,
        checkpoint: str = "minilm",
        strategy: str = AUTO,
        *,
        problem: str = AUTO,
        seed: int = 42,
        overrides: Overrides | None = None,
        run_dir: str | Path | None = None,
        metrics: Sequence[Metric | MetricFunction] = (),
        callbacks: Sequence[TrainerCallback] = (),
        loss: Loss | Callable[..., Any] | None = None,
        verbose: bool = False,
    ) -> None:
        super().__init__(
            checkpoint,
            strategy,
            seed=seed,
            overrides=overrides,
            run_dir=run_dir,
            metrics=metrics,
            callbacks=callbacks,
            loss=loss,
            verbose=verbose,
        )
        self.problem = problem

    def fit(self, X: Any, y: Any) -> Self:
        """Train on texts and their labels; what was fitted before is forgotten.

        Args:
            X: texts: a list, a generator, an array, or a column of pandas, polars, Arrow or
                datasets; pairs of texts as a frame or an array with two columns, or as tuples.
            y: one label a text (texts, numbers, booleans); lists of labels; or a matrix or frame
                of 0 and 1 with a column for each label.

        Raises:
            UserError: what cannot be used; `InputError`, a `ValueError`, for `X` and `y`.
        """
        if self.problem not in PROBLEMS:
            raise InputError(
                f"problem={self.problem!r}; expected one of {', '.join(PROBLEMS)}. TextRegressor "
                "is for scores."
            )
        columns, targets = self._read(X, y), read_targets(y, self.problem)
        config = self._config(self.problem)
        if config.dataset.clean_labels:
            targets = merged(targets)
        if self.problem == ORDINAL.name:
            targets = in_order(targets, config.dataset.order)
        several = targets.form is not Form.labels
        if self.problem == AUTO:
            problem = MULTI_LABEL.name if several else SINGLE_LABEL.name
            config = replace(config, dataset=replace(config.dataset, problem=problem))
        label = ClassLabel(names=targets.names)
        self._fit(config, columns, targets.ids, List(label) if several else label)
        self.classes_ = targets.classes
        self._form = targets.form
        self._cleans_labels = config.dataset.clean_labels
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The label of each text, as `y` had it.

        Returns:
            Labels [texts]; lists of labels [texts], or a matrix of 0 and 1 [texts, labels], where
            `y` had these. Where a text is missing or empty the answer is None, and the array one
            of objects.
        """
        probabilities, answerable = self._probabilities(X)
        chosen = self.classifier_.decoder.decide(np.nan_to_num(probabilities))
        if self._form is Form.labels:
            answers = self.classes_[chosen]
        elif self._form is Form.indicator:
            answers = chosen.astype(np.int64)
        else:
            answers = np.empty(len(chosen), dtype=object)
            for row, labels in enumerate(chosen):
                answers[row] = self.classes_[labels].tolist()
        if not answerable.all():
            answers = answers.astype(object)
            answers[~answerable] = None
        return answers

    def predict_proba(self, X: Any) -> np.ndarray:
        """The calibrated probability of each label, in the order of `classes_`.

        Returns:
            float64 [texts, labels]; of several labels a text, each for itself. Rows without a text
            are NaN.
        """
        return self._probabilities(X)[0]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of texts whose answer is right: all of its labels, where there are several.

        A missing or empty text counts as wrong. With `dataset.clean_labels=true`, `y` is cleaned as
        in `fit`.
        """
        if self._cleans_labels and self._form is not Form.indicator:
            y = as_spelt(y, self.classes_)
        predicted = encode(self.predict(X), self.classes_, self._form)
        truth = encode(y, self.classes_, self._form)
        if len(truth) != len(predicted):
            raise other_length(len(predicted), len(truth))
        right = (predicted == truth).reshape(len(truth), -1).all(axis=1)
        right &= (predicted >= 0).reshape(len(truth), -1).all(axis=1)
        return float(accuracy_score(np.ones(len(right)), right, sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = self.problem in (AUTO, MULTI_LABEL.name)
        return tags

    def _fitted_state(self) -> dict[str, Any]:
        kind = self.classes_.dtype.str if self.classes_.dtype != object else "object"
        return {
            "classes": self.classes_.tolist(),
            "dtype": kind,
            "form": self._form.value,
            "cleans_labels": self._cleans_labels,
        }

    def _restore(self, fitted: dict[str, Any]) -> None:
        self.classes_ = np.array(fitted["classes"], dtype=np.dtype(fitted["dtype"]))
        self._form = Form(fitted["form"])
        self._cleans_labels = fitted.get("cleans_labels", False)
