"""The `Classifier` that answers with an exported folder: by torch, or by ONNX without torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nlp_transfer.data.cells import about_half, is_blank, kind_of_cell
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inference.download import local_folder
from nlp_transfer.inference.engines import ENGINES, Engine
from nlp_transfer.problems.decoder import Prediction
from nlp_transfer.utils.files import read_run_file, runs_nearby

if TYPE_CHECKING:
    from nlp_transfer.inference.explanation import Explanation

# Tokenized at a time: of so many, in long documents, tokens and tokenizer take 160 MB.
CHARACTERS = 4_000_000
SHOWN = 5  # labels of a repr
MISSING = ("NAType", "NaTType")  # how pandas writes a missing value
Texts = Iterable[Any]  # a list, a generator, an array or a column; None where there is no text


class Classifier:
    """An exported folder, ready to answer.

    `labels` are the names of the labels, in the order of the probabilities.

    >>> classifier = Classifier.load("sentiment")  # the folder of a run, its model, or user/name
    >>> classifier
    Classifier(single_label, 2 labels: negative, positive; TorchEngine)
    >>> [answer and answer.label for answer in classifier.predict(["a lovely film", None])]
    ['positive', None]
    >>> classifier.probabilities(["a lovely film", "a boring book"]).shape
    (2, 2)
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
            folder: on this disk, or `user/name` on the Hub, which is downloaded once.
            backend: `torch`, or what `nlp-transfer export` made of it: `onnx`, `int8`. These two
                import neither torch nor transformers. Another package can add an engine.
            threads: of the CPU; None: the library's own choice.

        Raises:
            UserError: if it is not one, or was not exported for this backend.
        """
        model = find_model(local_folder(folder, backend))
        return cls(ENGINES.find(backend).load(model, threads))

    def __repr__(self) -> str:
        labels = ", ".join(self.labels[:SHOWN]) + (" …" if len(self.labels) > SHOWN else "")
        name, engine = self.decoder.problem.name, type(self.engine).__name__
        return f"Classifier({name}, {len(self.labels)} labels: {labels}; {engine})"

    def probabilities(self, texts: Texts, text_pairs: Texts | None = None) -> np.ndarray:
        """float64 [texts, labels], in the order of the texts; of scores, [texts, 1].

        The row of a text that is None or NaN is NaN.
        """
        return self.decoder.probabilities(self.logits(texts, text_pairs))

    def logits(self, texts: Texts, text_pairs: Texts | None = None) -> np.ndarray:
        """float32 [texts, labels], in the order of the texts.

        The row of a text that is None or NaN is NaN.
        """
        first = texts_of_column(texts)
        second = None if text_pairs is None else texts_of_column(text_pairs)
        self.refuse(first, second)
        filled = [row for row, text in enumerate(first) if text is not None]
        logits = np.full((len(first), len(self.labels)), np.nan, dtype=np.float32)
        columns = [[column[row] or "" for row in filled] for column in (first, second) if column]
        for part in _portions(columns) if filled else ():
            rest = columns[1][part] if second is not None else None
            logits[filled[part]] = self.engine.logits(self.engine.encode(columns[0][part], rest))
        return logits

    def refuse(self, texts: Sequence[Any], text_pairs: Sequence[Any] | None) -> None:
        """Check that the model and the texts fit.

        Raises:
            UserError: if it was trained on pairs and gets none, or the other way round.
        """
        trained_on_pairs = self.engine.paired
        if trained_on_pairs is not None and trained_on_pairs != (text_pairs is not None):
            raise UserError(
                ExitCode.DATA,
                "This model answers for pairs of texts and needs both texts of each: of a table, "
                "--text COLUMN --text-pair COLUMN; from Python, predict(texts, second_texts)."
                if trained_on_pairs
                else "This model answers for single texts: leave the second texts out.",
            )
        if text_pairs is not None and len(texts) != len(text_pairs):
            raise UserError(
                ExitCode.DATA,
                f"There are {len(texts)} texts and {len(text_pairs)} second texts; expected one "
                "for each.",
            )

    def predict(self, texts: Texts, text_pairs: Texts | None = None) -> list[Prediction | None]:
        """One prediction per text, in order; long texts are read as they were in training.

        Args:
            texts: a list, a generator, a NumPy array, or a column of pandas, polars or datasets.
            text_pairs: the second text of each, for a model of text pairs.

        Returns:
            The predictions; None for a text that is None, NaN or empty.

        Raises:
            UserError: if the model was trained on pairs and gets none, or the other way round.
        """
        column = texts_of_column(texts)
        probabilities = self.probabilities(column, text_pairs)
        return [
            None if is_blank(text) else self.decoder.prediction(row)
            for row, text in zip(probabilities, column, strict=True)
        ]

    def explain(
        self,
        texts: Texts,
        text_pairs: Texts | None = None,
        labels: Sequence[str] | None = None,
        method: str = "occlusion",
    ) -> list[Explanation | None]:
        """Which words each answer rests on.

        Args:
            texts: as for `predict`.
            text_pairs: the second text of each, for a model of text pairs.
            labels: that are explained, one at a time; None: those that are given to each text.
            method: `occlusion` leaves out each word, with every backend; `gradients` integrates
                them over the embeddings, with torch and captum (`nlp_transfer[explain]`).

        Returns:
            The explanations; None for a text that is None, NaN or empty.

        Raises:
            UserError: if the method or a label does not exist, or the model has no gradients.

        >>> [explanation] = classifier.explain(["What a find!"])  # doctest: +SKIP
        >>> explanation.of("positive")  # doctest: +SKIP
        [('What', 0.31), ('a', 0.02), ('find', 2.4), ('!', 0.15)]
        """
        from nlp_transfer.inference.explanation import explain

        second = None if text_pairs is None else texts_of_column(text_pairs)
        return explain(self, texts_of_column(texts), second, labels, method)


def texts_of_column(column: Texts) -> list[str | None]:
    """The texts of a column of any library; None where it has none (None, NaN, NA).

    Raises:
        TypeError: if it is a single text or a table.
        UserError: if an element is no text.
    """
    if isinstance(column, str | bytes):
        raise TypeError("a list of texts is expected; for one text give [text]")
    if isinstance(column, Set):
        raise TypeError("a list of texts is expected, found a set, whose order is unknown")
    if isinstance(column, Mapping) or hasattr(column, "columns"):
        raise TypeError('a column of texts is expected, found a table: give table["text"]')
    if not isinstance(column, Iterable):
        raise TypeError(f"a list of texts is expected, found {kind_of_cell(column)}")
    if hasattr(column, "to_pylist"):  # of Arrow, whose own elements are no texts
        column = column.to_pylist()
    return [_text(value, row) for row, value in enumerate(column)]


def _text(value: Any, row: int) -> str | None:
    missing = value is None or type(value).__name__ in MISSING
    if missing or (isinstance(value, float) and value != value):
        return None
    if not isinstance(value, str):
        raise UserError(
            ExitCode.DATA,
            f"A text is expected, found {kind_of_cell(value)} in row {row} (from 0): "
            f"{str(value)[:60]}.",
        )
    if (wrong := about_half(value)) is not None:
        raise UserError(ExitCode.DATA, f"The text in row {row} (from 0): {wrong}")
    return str(value)  # also of numpy's own texts


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
        if read_run_file(folder / "run.json")["state"] != "finished":
            raise UserError(
                ExitCode.RUN_FOLDER,
                f"The run {folder} is not finished: it has no model yet. "
                "The command that started it continues it.",
            )
        folder = folder / "model"
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{folder} is an adapter of PEFT, not a whole model. Merge it first: "
            "model.merge_and_unload().save_pretrained(FOLDER), with the tokenizer beside it.",
        )
    if not (folder / "config.json").is_file():
        is_there = "found neither" if folder.is_dir() else "and there is no such folder"
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{folder} cannot be opened as a classifier: expected a finished run (run.json) or an "
            f"exported folder (config.json), {is_there} (seen from {Path.cwd()})."
            f"{runs_nearby(folder)}",
        )
    return folder
