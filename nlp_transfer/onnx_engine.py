"""Runs what was exported to ONNX, with neither torch nor transformers."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nlp_transfer.config import Problem
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inputs import FEW_TOKENS, Inputs, joined, pad_rows, plan_inference

FOLDER = "onnx"  # inside the exported folder, where transformers.js looks for it too
FILES = {"onnx": "model.onnx", "int8": "model_int8.onnx"}
ABOUT = "export.json"
EXTRA = "pip install 'nlp_transfer[onnx]'"


@dataclass(frozen=True)
class Reading:
    """How texts become inputs: what transformers knows of a tokenizer, for those without it."""

    labels: tuple[str, ...]
    max_length: int  # tokens of the longest input, special tokens included
    padding: dict[str, int]  # value by input name
    padding_side: str
    truncation_side: str
    paired: bool | None = None  # trained on pairs of texts; None: not known


class OnnxEngine:
    """An ONNX graph and its tokenizer, run by onnxruntime on the CPU.

    int8 runs every text alone: activations are scaled over the whole batch, so its answer would
    depend on its neighbours.
    """

    problem = Problem.single_label

    def __init__(self, session: Any, tokenizer: Any, reading: Reading, alone: bool) -> None:
        self.session = session
        self.tokenizer = tokenizer
        self.reading = reading
        self.labels, self.paired = reading.labels, reading.paired
        self.alone = alone
        self.inputs = [given.name for given in session.get_inputs()]

    @classmethod
    def load(cls, model: Path, backend: str, threads: int | None = None) -> OnnxEngine:
        """Open what `nlp-transfer export` wrote into an exported folder.

        Raises:
            UserError: if it was not exported for this backend, or onnxruntime is missing.
        """
        folder = model / FOLDER
        file = folder / FILES[backend]
        if not (file.is_file() and (folder / ABOUT).is_file()):
            flags = "--onnx --int8" if backend == "int8" else "--onnx"
            raise UserError(
                ExitCode.CHECKPOINT,
                f"{model} was not exported for the backend {backend}: there is no {file}. "
                f"Type nlp-transfer export {model} {flags}",
            )
        return cls.open(folder, model / "tokenizer.json", backend, threads)

    @classmethod
    def open(
        cls, folder: Path, tokenizer: Path, backend: str, threads: int | None = None
    ) -> OnnxEngine:
        """Open the graph in `folder` with a `tokenizer.json`."""
        written = json.loads((folder / ABOUT).read_text(encoding="utf-8"))["reading"]
        reading = Reading(**{**written, "labels": tuple(written["labels"])})
        session = _session(folder / FILES[backend], threads)
        return cls(session, _tokenizer(tokenizer, reading), reading, alone=backend == "int8")

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Inputs:
        """Tokens; texts longer than the model reads are cut."""
        asked = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        found = self.tokenizer.encode_batch_fast(asked)
        columns = {"input_ids": [np.array(text.ids, dtype=np.int32) for text in found]}
        if "token_type_ids" in self.inputs:
            columns["token_type_ids"] = [np.array(text.type_ids, dtype=np.int32) for text in found]
        return joined(columns)

    def logits(self, inputs: Inputs) -> np.ndarray:
        """float32 [rows, labels], in the order of the rows."""
        logits = np.empty((len(inputs), len(self.labels)), dtype=np.float32)
        for rows in plan_inference(inputs.lengths, 1 if self.alone else FEW_TOKENS):
            batch = pad_rows(inputs, rows, self.reading.padding, self.reading.padding_side)
            logits[rows] = self.run(batch)
        return logits

    def run(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        """Logits of one padded batch, int64 [rows, longest] by input name."""
        return self.session.run(["logits"], {name: batch[name] for name in self.inputs})[0]


def _session(file: Path, threads: int | None) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(
            ExitCode.MACHINE, f"ONNX models are run by onnxruntime, which is missing. Type {EXTRA}"
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads or 0
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 (its errors have no class of their own)
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{file} cannot be opened: {str(error).splitlines()[0]} Export it again.",
        ) from error


def _tokenizer(file: Path, reading: Reading) -> Any:
    # Threads of the tokenizer pay for large calls only; a fork after them would warn.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_padding()  # some checkpoints carry a fixed one
    tokenizer.enable_truncation(reading.max_length, direction=reading.truncation_side)
    return tokenizer
