"""The `Classifier` that answers with an exported folder: by torch, or by ONNX without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems.decoder import Decoder, Prediction
from nlp_transfer.tokenization.model_inputs import Inputs

BACKENDS = ("torch", "onnx", "int8")
# Tokenized at a time: of so many, in long documents, tokens and tokenizer take 160 MB.
CHARACTERS = 4_000_000


class Engine(Protocol):
    """A loaded model with its tokenizer."""

    @property
    def decoder(self) -> Decoder:
        """What its logits mean."""

    @property
    def paired(self) -> bool | None:
        """Whether it was trained on pairs of texts; None: not known."""

    @property
    def alone(self) -> bool:
        """Whether texts run one by one, because neighbours would change the answer."""

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Inputs:
        """Tokens; of texts longer than the model reads, what it was trained to read."""

    def logits(self, inputs: Inputs) -> np.ndarray:
        """float32 [texts, labels], in the order of the texts; those of windows are joined."""


class Classifier:
    """An exported folder, ready to answer.

    >>> Classifier.load("runs/…/model").predict(["What a find!"])[0].label
    'positive'
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.decoder = engine.decoder
        self.labels = engine.decoder.labels

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
                from nlp_transfer.inference.torch_engine import TorchEngine

                return cls(TorchEngine.load(model, threads))
            case "onnx" | "int8":
                from nlp_transfer.inference.onnx_engine import OnnxEngine

                return cls(OnnxEngine.load(model, backend, threads))
        raise UserError(
            ExitCode.CONFIG, f"backend={backend!r} is not one of {', '.join(BACKENDS)}."
        )

    def probabilities(
        self, texts: Sequence[str], text_pairs: Sequence[str] | None = None
    ) -> np.ndarray:
        """float64 [texts, labels], in the order of the texts; of a regression, the scores."""
        return self.decoder.probabilities(self.logits(texts, text_pairs))

    def logits(self, texts: Sequence[str], text_pairs: Sequence[str] | None = None) -> np.ndarray:
        """float32 [texts, labels], in the order of the texts."""
        self.refuse(texts, text_pairs)
        logits = [np.zeros((0, len(self.labels)), dtype=np.float32)]
        for part in _portions([texts] if text_pairs is None else [texts, text_pairs]):
            second = None if text_pairs is None else text_pairs[part]
            logits.append(self.engine.logits(self.engine.encode(texts[part], second)))
        return np.concatenate(logits)

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
        return [self.decoder.prediction(row) for row in self.probabilities(texts, text_pairs)]


def _portions(columns: Sequence[Sequence[str]]) -> Iterator[slice]:
    """The rows in parts of about `CHARACTERS`, so that memory does not grow with the documents."""
    start, size, rows = 0, 0, len(columns[0])
    for row in range(rows):
        size += sum(len(texts[row]) for texts in columns)
        if size >= CHARACTERS or row == rows - 1:
            yield slice(start, row + 1)
            start, size = row + 1, 0


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
