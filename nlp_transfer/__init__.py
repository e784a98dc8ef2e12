"""Fine-tune a pretrained Hugging Face encoder into a classifier that can be trusted and shipped.

Three ways in: `TextClassifier` has scikit-learn's interface, `compose` and `run` have every option
of the command line and take data, metrics, callbacks and a loss from memory, and `Classifier`
answers with a finished model.

>>> from nlp_transfer import TextClassifier
>>> model = TextClassifier(strategy="feature_extraction")
>>> model.fit(texts, labels).predict(["What a find!"])  # doctest: +SKIP
array(['positive'], dtype=object)
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlp_transfer.config.composition import compose
    from nlp_transfer.config.schema import Config
    from nlp_transfer.errors import InputError, UserError
    from nlp_transfer.estimator.text_classifier import TextClassifier
    from nlp_transfer.estimator.text_regressor import TextRegressor
    from nlp_transfer.evaluation.registry import Metric
    from nlp_transfer.inference.classifier import Classifier
    from nlp_transfer.pipeline import run
    from nlp_transfer.problems.decoder import Prediction
    from nlp_transfer.reporting.result import Result
    from nlp_transfer.training.losses import Loss

__all__ = [
    "Classifier",
    "Config",
    "InputError",
    "Loss",
    "Metric",
    "Prediction",
    "Result",
    "TextClassifier",
    "TextRegressor",
    "UserError",
    "compose",
    "run",
]
__version__ = "0.1.0"

_HOME = {
    "Classifier": "inference.classifier",
    "Config": "config.schema",
    "InputError": "errors",
    "Loss": "training.losses",
    "Metric": "evaluation.registry",
    "Prediction": "problems.decoder",
    "Result": "reporting.result",
    "TextClassifier": "estimator.text_classifier",
    "TextRegressor": "estimator.text_regressor",
    "UserError": "errors",
    "compose": "config.composition",
    "run": "pipeline",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that `--help` and a configuration error do not wait for torch.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if "ipykernel" in sys.modules:  # tqdm says in red that its widgets are not installed
        warnings.filterwarnings("ignore", message="IProgress not found")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
