"""The engines that compute answers, by name; another package can add one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np

from nlp_transfer.problems.decoder import Decoder
from nlp_transfer.registry import Registry
from nlp_transfer.tokenization.model_inputs import Inputs


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


@dataclass(frozen=True)
class EngineSpec:
    """How to open an exported folder with an engine, and which files the engine needs there."""

    load: Callable[[Path, int | None], Engine]
    """Takes the exported folder and the number of CPU threads."""
    files: tuple[str, ...] = ()
    """Glob patterns in the exported folder; the Hub gets these too."""
    check: Callable[[Path], None] | None = None
    """Takes the exported folder; raises `UserError` if the files are outdated."""


ENGINES: Registry[EngineSpec] = Registry("backend", "an engine", "nlp_transfer.engines")
CHECKPOINT_FILES = ("*.safetensors",)
ONNX_FILES = ("onnx/export.json", "onnx/*.onnx", "onnx/*.onnx.data")


Load = Callable[[Path, int | None], Engine]
Check = Callable[[Path], None]


def register_engine(name: str, *files: str, check: Check | None = None) -> Callable[[Load], Load]:
    """Make an engine known by its name (`--backend`); a decorator of the function that opens it.

    Args:
        files: see `EngineSpec`.
        check: see `EngineSpec`.

    Raises:
        ValueError: where the name is taken.
    """

    def register(load: Load) -> Load:
        ENGINES.add(name, EngineSpec(load, files, check), load)
        return load

    return register


def engine_names() -> list[str]:
    """Every engine that can be asked for, torch first."""
    return ENGINES.names()


def exported_files() -> list[str]:
    """Glob patterns of what engines need beside the checkpoint, each once."""
    specs = [ENGINES.find(name) for name in engine_names()]
    patterns = dict.fromkeys(pattern for spec in specs for pattern in spec.files)
    return [pattern for pattern in patterns if pattern not in CHECKPOINT_FILES]


def check_exported(model: Path) -> None:
    """Check that what was exported beside a checkpoint belongs to its weights.

    Raises:
        UserError: if it does not.
    """
    for check in dict.fromkeys(ENGINES.find(name).check for name in engine_names()):
        if check is not None:
            check(model)


# The imports are inside: an engine is imported when it is chosen.
@register_engine("torch", *CHECKPOINT_FILES)
def load_torch(model: Path, threads: int | None) -> Engine:
    """The checkpoint itself."""
    from nlp_transfer.inference.torch_engine import TorchEngine

    return TorchEngine.load(model, threads)


def _check_onnx(model: Path) -> None:
    from nlp_transfer.inference.onnx_engine import refuse_other_weights, refuse_unusable_graphs

    # A machine without onnxruntime can upload, too.
    check = refuse_other_weights if find_spec("onnxruntime") is None else refuse_unusable_graphs
    check(model)


@register_engine("onnx", *ONNX_FILES, check=_check_onnx)
def load_onnx(model: Path, threads: int | None) -> Engine:
    """The exported graph in float32."""
    from nlp_transfer.inference.onnx_engine import OnnxEngine

    return OnnxEngine.load(model, "onnx", threads)


@register_engine("int8", *ONNX_FILES, check=_check_onnx)
def load_int8(model: Path, threads: int | None) -> Engine:
    """The exported graph with weights of one byte."""
    from nlp_transfer.inference.onnx_engine import OnnxEngine

    return OnnxEngine.load(model, "int8", threads)
