"""Runs what was exported to ONNX, with neither torch nor transformers."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nlp_transfer.config.choices import LongText
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.problems.decoder import Decoder
from nlp_transfer.tokenization.model_inputs import (
    BACKEND_NAMES,
    FEW_TOKENS,
    PAIRS,
    Inputs,
    joined,
    pad_rows,
    plan_inference,
)
from nlp_transfer.tokenization.windows import LongTextPolicy, cut_into_parts, special_tokens
from nlp_transfer.utils.hashing import digest_of

FOLDER = "onnx"  # inside the exported folder, where transformers.js looks for it too
FILES = {"onnx": "model.onnx", "int8": "model_int8.onnx"}
ABOUT = "export.json"
EXTRA = "pip install 'nlp_transfer[onnx]'"


@dataclass(frozen=True)
class Tokenizing:
    """What transformers knows of a tokenizer, for those without it."""

    max_length: int  # tokens of the longest input, special tokens included
    padding: dict[str, int]  # value by input name
    padding_side: str
    truncation_side: str


class OnnxEngine:
    """An ONNX graph and its tokenizer, run by onnxruntime on the CPU.

    int8 runs every text alone: activations are scaled over the whole batch, so its answer would
    depend on its neighbours.
    """

    def __init__(self, model: Path, folder: Path, backend: str, threads: int | None = None) -> None:
        """Open the graph in `folder`, with the tokenizer and the configuration of `model`."""
        about, config = _read(folder / ABOUT), _read(model / "config.json")
        try:
            self.tokenizing = Tokenizing(**about["tokenizing"])
        except (KeyError, TypeError) as error:
            raise _damaged(folder / ABOUT, "it does not say how to tokenize") from error
        self.session = _session(folder / FILES[backend], threads)
        self.inputs = [entry.name for entry in self.session.get_inputs()]
        self.tokenizer = _tokenizer(model / "tokenizer.json")
        # As `take_literally` does: a text that says </s> does not end there.
        self.tokenizer.encode_special_tokens = bool(config.get("is_encoder_decoder"))
        encode = self.tokenizer.encode
        self.around = special_tokens(lambda text, added: encode(text, add_special_tokens=added).ids)
        self.decoder, self.long_text = (
            Decoder.from_model_config(config),
            LongTextPolicy.from_model_config(config),
        )
        self.paired = config.get(PAIRS)
        self.alone = backend == "int8"

    @classmethod
    def load(cls, model: Path, backend: str, threads: int | None = None) -> OnnxEngine:
        """Open what `nlp-transfer export` wrote into an exported folder.

        Raises:
            UserError: if it was not exported for this backend or of these weights, or onnxruntime
                is missing.
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
        with ThreadPoolExecutor(1) as executor:  # both take long, and wait for no Python
            check = executor.submit(refuse_other_weights, model)
            engine = cls(model, folder, backend, threads)
            check.result()
        return engine

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Inputs:
        """Tokens; long texts are read as they were in training."""
        questions = list(texts) if pairs is None else list(zip(texts, pairs, strict=True))
        length, cut = self.tokenizing.max_length, self.long_text.long_text is LongText.truncate
        if cut:
            side = self.tokenizing.truncation_side
            self.tokenizer.enable_truncation(length, direction=side)
        else:
            self.tokenizer.no_truncation()
        columns: dict[str, list[np.ndarray]] = {
            name: [] for name in BACKEND_NAMES if name in self.inputs
        }
        for text in self.tokenizer.encode_batch_fast(questions):
            for name, rows in columns.items():
                rows.append(np.array(getattr(text, BACKEND_NAMES[name]), dtype=np.int32))
        if cut:
            return joined(columns)
        return cut_into_parts(columns, length, self.around, self.long_text)

    def logits(self, inputs: Inputs) -> np.ndarray:
        """float32 [texts, labels], in the order of the texts; those of windows are joined."""
        logits = np.empty((len(inputs), len(self.decoder.labels)), dtype=np.float32)
        for rows in plan_inference(inputs.lengths, 1 if self.alone else FEW_TOKENS):
            logits[rows] = self.run(self.padded(inputs, rows))
        return logits if inputs.windows is None else inputs.windows.join(logits)

    def padded(self, inputs: Inputs, rows: np.ndarray) -> dict[str, np.ndarray]:
        """One batch, int64 [rows, longest] by input name."""
        return pad_rows(inputs, rows, self.tokenizing.padding, self.tokenizing.padding_side)

    def run(self, batch: dict[str, np.ndarray]) -> np.ndarray:
        """Logits of one padded batch."""
        return self.session.run(["logits"], {name: batch[name] for name in self.inputs})[0]


def identity_of_weights(model: Path) -> dict[str, Any]:
    """Of which weights a graph is: their content, and by which size and time it is known."""
    files = _weights(model)
    return {"weights": digest_of(files), "weight_files": _sizes_and_times(files)}


def _weights(model: Path) -> list[Path]:
    return sorted(model.glob("*.safetensors"))


def _sizes_and_times(files: list[Path]) -> list[list[Any]]:
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def refuse_other_weights(model: Path) -> None:
    """A graph that was exported before the weights beside it changed answers otherwise than they.

    Raises:
        UserError: if there is one.
    """
    about = model / FOLDER / ABOUT
    files = _weights(model)
    if not (about.is_file() and files):
        return  # a server needs no weights
    exported = _read(about)
    if exported.get("weight_files") == _sizes_and_times(files):
        return  # to read them takes 0.2 s for 70 MB
    if "weights" in exported and exported["weights"] != digest_of(files):
        raise UserError(
            ExitCode.CHECKPOINT,
            f"The weights in {model} have changed since {about.parent} was exported, so its "
            f"answers differ. Type nlp-transfer export {model} --onnx, or remove {about.parent}.",
        )


def refuse_unusable_graphs(model: Path) -> None:
    """Open what `nlp-transfer export` has written; graphs of other programs are left alone.

    Raises:
        UserError: if a graph is missing, damaged, or of other weights.
    """
    folder = model / FOLDER
    if (folder / ABOUT).is_file():
        for backend, file in FILES.items():
            if backend == "onnx" or (folder / file).exists():
                OnnxEngine.load(model, backend)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(file, str(error)) from error
    if not isinstance(content, dict):
        raise _damaged(file, "it holds no JSON object")
    return content


def _damaged(file: Path, reason: str) -> UserError:
    return UserError(ExitCode.CHECKPOINT, f"{file} is damaged: {reason}. Export the model again.")


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


def _tokenizer(file: Path) -> Any:
    # Threads of the tokenizer pay for large calls only; a fork after them would warn.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001 (its errors have no class of their own)
        raise UserError(ExitCode.CHECKPOINT, f"{file} cannot be read: {error}.") from error
    tokenizer.no_padding()  # some checkpoints carry a fixed one
    return tokenizer
