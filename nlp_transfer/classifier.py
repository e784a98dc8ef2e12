"""The `Classifier` that answers with an exported folder: by torch, or by ONNX without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inputs import Inputs

BACKENDS = ("torch", "onnx", "int8")


@dataclass(frozen=True)
class Prediction:
    """One answer."""

    label: str
    score: float  # probability of `label`
    probabilities: dict[str, float]  # of every label, in the model's order


class Engine(Protocol):
    """A loaded model with its tokenizer."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label, in the model's order."""

    @property
    def alone(self) -> bool:
        """Whether texts run one by one, because neighbours would change the answer."""

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Inputs:
        """Tokens; texts longer than the model reads are cut."""

    def logits(self, inputs: Inputs) -> np.ndarray:
        """float32 [rows, labels], in the order of the rows."""


class Classifier:
    """An exported folder, ready to answer.

    >>> Classifier.load("runs/…/model").predict(["What a find!"])[0].label
    'positive'
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.labels = engine.labels

    @classmethod
    def load(
        cls, folder: str | Path, backend: str = "torch", threads: int | None = None
    ) -> Classifier:
        """Open a run, or a folder that `Trainer`, `save_pretrained` or this package wrote.

        Args:
            backend: `torch`, or what `nlp-transfer export` made of it: `onnx`, `int8`. These two
                import neither torch nor transformers.
            threads: of the CPU; None: the library's own choice.

        Raises:
            UserError: if it is not one, or was not exported for this backend.
        """
        model = find_model(Path(folder))
        match backend:
            case "torch":
                from nlp_transfer.inference import TorchEngine

                return cls(TorchEngine.load(model, threads))
            case "onnx" | "int8":
                from nlp_transfer.onnx_engine import OnnxEngine

                return cls(OnnxEngine.load(model, backend, threads))
        raise UserError(
            ExitCode.CONFIG, f"backend={backend!r} is not one of {', '.join(BACKENDS)}."
        )

    def probabilities(
        self, texts: Sequence[str], text_pairs: Sequence[str] | None = None
    ) -> np.ndarray:
        """float64 [texts, labels], in the order of the texts."""
        for given in (texts, text_pairs):
            if isinstance(given, str):
                raise TypeError("a list of texts is expected; for one text give [text]")
        if not texts:
            return np.zeros((0, len(self.labels)))
        return softmax(self.engine.logits(self.engine.encode(texts, text_pairs)))

    def predict(
        self, texts: Sequence[str], text_pairs: Sequence[str] | None = None
    ) -> list[Prediction]:
        """One prediction per text, in order; texts longer than the model reads are cut.

        Args:
            text_pairs: the second text of each, for a model of text pairs.
        """
        return [self.prediction(row) for row in self.probabilities(texts, text_pairs)]

    def prediction(self, row: np.ndarray) -> Prediction:
        """One row of `probabilities` in words."""
        return Prediction(
            label=self.labels[int(row.argmax())],
            score=float(row.max()),
            probabilities=dict(zip(self.labels, map(float, row), strict=True)),
        )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities [rows, labels] in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def find_model(folder: Path) -> Path:
    """The exported folder that a person means: of a finished run its `model/`, or the folder.

    Raises:
        UserError: if it is neither, or its model gives something else than one label a text.
    """
    if (folder / "run.json").is_file():
        state = json.loads((folder / "run.json").read_text(encoding="utf-8")).get("state")
        if state != "finished":
            raise UserError(
                ExitCode.RUN_FOLDER,
                f"The run {folder} is not finished: it has no model yet. "
                "The command that started it goes on with it.",
            )
        folder = folder / "model"
    if not (folder / "config.json").is_file():
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{folder} cannot be opened as a classifier: expected a finished run (run.json) or an "
            "exported folder (config.json), found neither.",
        )
    return _one_label(folder)


def _one_label(model: Path) -> Path:
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    problem = config.get("problem_type")
    if problem in ("multi_label_classification", "regression") or len(label_names(config)) == 1:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{model} answers with something else than one label a text "
            f"(problem_type={problem}, {len(label_names(config))} outputs): not supported here.",
        )
    return model


def label_names(config: dict[str, Any]) -> tuple[str, ...]:
    """The labels of a `config.json`, in the model's order; transformers writes none for two."""
    names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    return tuple(names[str(i)] for i in range(len(names)))
