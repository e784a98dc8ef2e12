"""The `Classifier` that answers with an exported folder: by torch, or by ONNX without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nlp_transfer.config import LongText, Problem
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inputs import Inputs

BACKENDS = ("torch", "onnx", "int8")
LONG_TEXT = "long_text"  # in the configuration of a classifier: how it reads long texts


@dataclass(frozen=True)
class Prediction:
    """One answer."""

    label: str  # the likeliest
    score: float  # probability of `label`; of a regression, the score
    probabilities: dict[str, float]  # of every label, in the model's order
    labels: tuple[str, ...] = ()  # where a text may have several: those above one half


class Engine(Protocol):
    """A loaded model with its tokenizer."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label, in the model's order."""

    @property
    def problem(self) -> Problem:
        """What is asked of a text."""

    @property
    def paired(self) -> bool | None:
        """Whether it was trained on pairs of texts; None: not known."""

    @property
    def alone(self) -> bool:
        """Whether texts run one by one, because neighbours would change the answer."""

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Inputs:
        """Tokens; of texts longer than the model reads, what it was trained to read."""

    def logits(self, inputs: Inputs) -> np.ndarray:
        """float32 [texts, labels], in the order of the texts."""


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

                refuse_other_answers(model, f"the backend {backend}")
                refuse_other_reading(model, f"the backend {backend}")
                return cls(OnnxEngine.load(model, backend, threads))
        raise UserError(
            ExitCode.CONFIG, f"backend={backend!r} is not one of {', '.join(BACKENDS)}."
        )

    def probabilities(
        self, texts: Sequence[str], text_pairs: Sequence[str] | None = None
    ) -> np.ndarray:
        """float64 [texts, labels], in the order of the texts; of a regression, the scores."""
        self.refuse(texts, text_pairs)
        if not texts:
            return np.zeros((0, len(self.labels)))
        logits = self.engine.logits(self.engine.encode(texts, text_pairs))
        return probabilities_of(logits, self.engine.problem)

    def refuse(self, texts: Sequence[str], text_pairs: Sequence[str] | None) -> None:
        """Stop at what is no question for this model.

        Raises:
            UserError: if it was trained on pairs and gets none, or the other way round.
        """
        if isinstance(texts, str) or isinstance(text_pairs, str):
            raise TypeError("a list of texts is expected; for one text give [text]")
        paired = self.engine.paired
        if paired is not None and paired != (text_pairs is not None):
            raise UserError(
                ExitCode.DATA,
                "This model answers for pairs of texts and needs both texts of each."
                if paired
                else "This model answers for single texts: leave the second texts out.",
            )
        if text_pairs is not None and len(texts) != len(text_pairs):
            raise UserError(
                ExitCode.DATA,
                f"There are {len(texts)} texts and {len(text_pairs)} second texts; expected one "
                "for each.",
            )

    def predict(
        self, texts: Sequence[str], text_pairs: Sequence[str] | None = None
    ) -> list[Prediction]:
        """One prediction per text, in order; long texts are read as they were in training.

        Args:
            text_pairs: the second text of each, for a model of text pairs.

        Raises:
            UserError: if the model was trained on pairs and gets none, or the other way round.
        """
        return [self.prediction(row) for row in self.probabilities(texts, text_pairs)]

    def prediction(self, row: np.ndarray) -> Prediction:
        """One row of `probabilities` in words."""
        labels: tuple[str, ...] = ()
        if self.engine.problem is Problem.multi_label:
            labels = tuple(self.labels[i] for i in np.flatnonzero(row > 0.5))
        return Prediction(
            label=self.labels[int(row.argmax())],
            score=float(row.max()),
            probabilities=dict(zip(self.labels, map(float, row), strict=True)),
            labels=labels,
        )


def probabilities_of(logits: np.ndarray, problem: Problem) -> np.ndarray:
    """What logits say, float64 [rows, labels]: probabilities, or of a regression the scores."""
    match problem:
        case Problem.multi_label:
            return np.exp(-np.logaddexp(0, -logits.astype(np.float64)))
        case Problem.regression:
            return logits.astype(np.float64)
        case _:
            return softmax(logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities [rows, labels] in float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def find_model(folder: Path) -> Path:
    """The exported folder that a person means: of a finished run its `model/`, or the folder.

    Raises:
        UserError: if it is neither.
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
    return folder


def refuse_other_answers(model: Path, door: str) -> None:
    """For a door that gives one label a text.

    Raises:
        UserError: if the model answers with several, or with a score.
    """
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    problem, outputs = problem_in(config.get("problem_type")), len(label_names(config))
    if problem is not Problem.single_label or outputs == 1:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{model} answers with something else than one label a text (problem_type="
            f"{problem.value}, {outputs} outputs), which {door} does not do. "
            "Classifier.load(folder).predict(texts) does.",
        )


def refuse_other_reading(model: Path, door: str) -> None:
    """For a door that cuts long texts.

    Raises:
        UserError: if the model was trained to read them in another way.
    """
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    how = (config.get(LONG_TEXT) or {}).get("how", LongText.truncate.value)
    if how != LongText.truncate.value:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{model} reads long texts by tokenization.long_text={how}, which {door} does not do. "
            "Use the backend torch.",
        )


def problem_in(problem_type: str | None) -> Problem:
    """The problem of a model's configuration; folders of other origin may not name it."""
    return Problem(problem_type or Problem.single_label.value)


def label_names(config: dict[str, Any]) -> tuple[str, ...]:
    """The labels of a `config.json`, in the model's order; transformers writes none for two."""
    names = config.get("id2label") or {"0": "LABEL_0", "1": "LABEL_1"}
    return tuple(names[str(i)] for i in range(len(names)))
