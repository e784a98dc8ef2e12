"""Fine-tune a pretrained Hugging Face encoder into a classifier that can be trusted and shipped.

from nlp_transfer import compose, run, Classifier
result = run(compose("+task=sentiment", "strategy=feature_extraction"))
Classifier.load(result.model).predict(["What a find!"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nlp_transfer.config.composition import compose
    from nlp_transfer.inference.classifier import Classifier
    from nlp_transfer.pipeline import run

__all__ = ["Classifier", "compose", "run"]
__version__ = "0.1.0"

_HOME = {
    "Classifier": "inference.classifier",
    "compose": "config.composition",
    "run": "pipeline",
}


def __getattr__(name: str) -> Any:
    # Lazy, so that `--help` and a configuration error do not wait for torch.
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
