"""Exports a classifier to ONNX and int8, and proves on validation texts what they answer."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import shutil
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nlp_transfer.classifier import (
    Engine,
    find_model,
    refuse_other_answers,
    refuse_other_reading,
)
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inference import TorchEngine
from nlp_transfer.inputs import pad_rows
from nlp_transfer.machine import quiet
from nlp_transfer.model import evaluating
from nlp_transfer.onnx_engine import ABOUT, EXTRA, FILES, FOLDER, OnnxEngine, Reading

DOOR = "the export to ONNX"
TOLERANCE = 1e-4  # of a float32 logit
KEPT_LABELS = 0.98  # by int8
TIMED_ROWS = 64  # at most, at each batch size
TRIES = 3
BATCHES = (1, 32)
PROTOBUF_LIMIT = 1_900_000_000  # bytes; larger weights stand in a file of their own


@dataclass(frozen=True)
class Questions:
    """Texts to compare on, with their labels (an index, -1 where there is none)."""

    texts: list[str]
    references: np.ndarray | None  # int64 [texts]
    source: str
    pairs: list[str] | None = None  # the second text of each


@dataclass(frozen=True)
class Measured:
    """What one backend is worth beside torch."""

    difference: float  # the largest of a logit
    agreement: float  # share of the labels that are torch's
    accuracy: float | None  # None: the texts have no labels
    megabytes: float
    milliseconds: dict[int, float]  # per text, by batch size


@dataclass(frozen=True)
class Exported:
    """The exported folder, a line of the table for each backend, and why int8 loses too much."""

    folder: Path
    measured: dict[str, Measured]
    refused: str | None


def export_onnx(
    folder: Path,
    questions: Questions,
    int8: bool = False,
    force: bool = False,
    threads: int | None = None,
) -> Exported:
    """Write `onnx/` into an exported folder, whole or not at all.

    Args:
        int8: beside float32, weights of one byte, scaled per channel.
        force: write int8 also where it loses more than it may.

    Raises:
        UserError: if float32 does not answer what torch does; nothing is written then.
    """
    model = find_model(folder)
    refuse_other_answers(model, DOOR)
    refuse_other_reading(model, DOOR)
    torch_engine = TorchEngine.load(model, threads)
    torch_engine.model.to("cpu")
    reading = _reading(torch_engine, model)
    aside = model / f"{FOLDER}.part"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        _write(torch_engine, aside, int8)
        report: dict[str, Any] = {"reading": asdict(reading)}
        (aside / ABOUT).write_text(json.dumps(report), encoding="utf-8")
        exported = _prove(torch_engine, model, aside, questions, int8, threads)
        if exported.refused and not force:
            (aside / FILES["int8"]).unlink()
        report |= {
            "data": {"source": questions.source, "rows": len(questions.texts)},
            "backends": {name: asdict(found) for name, found in exported.measured.items()},
            "int8_refused": exported.refused,
        }
        text = json.dumps(report, indent=2, ensure_ascii=False)
        (aside / ABOUT).write_text(text + "\n", encoding="utf-8")
        shutil.rmtree(model / FOLDER, ignore_errors=True)
        aside.rename(model / FOLDER)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return exported


def table(exported: Exported) -> str:
    """What was measured, for the screen."""
    lines = [
        f"{'':<8}{'difference':>12}{'same labels':>13}{'accuracy':>10}{'MB':>8}"
        + "".join(f"{f'ms at {size}':>10}" for size in BATCHES)
    ]
    for name, found in exported.measured.items():
        accuracy = "–" if found.accuracy is None else f"{found.accuracy:.4f}"
        lines.append(
            f"{name:<8}{found.difference:>12.2g}{found.agreement:>13.2%}{accuracy:>10}"
            f"{found.megabytes:>8.1f}"
            + "".join(f"{found.milliseconds[size]:>10.2f}" for size in BATCHES)
        )
    return "\n".join(lines)


def _reading(engine: TorchEngine, model: Path) -> Reading:
    if not (model / "tokenizer.json").is_file():
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{model} has no tokenizer.json: its tokenizer runs in Python only, so that ONNX "
            "without transformers could not read texts.",
        )
    tokenizer = engine.tokenizer
    return Reading(
        labels=engine.labels,
        max_length=engine.max_length,
        padding=engine.collator.padding,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        paired=engine.paired,
    )


def _write(engine: TorchEngine, aside: Path, int8: bool) -> None:
    """The graphs; batch and length stay free."""
    try:
        import onnx_ir
        import onnxruntime  # noqa: F401
        from transformers.exporters import (
            OnnxConfig,
            OnnxExporter,
            OnnxRuntimeDynamicConfig,
            OnnxRuntimeQuantizer,
        )
        from transformers.exporters.configs import ExportFormat
    except ImportError as error:
        raise UserError(ExitCode.MACHINE, f"The export needs {error.name}. Type {EXTRA}") from error
    # Two rows of different length: a dimension of one would be frozen without a word.
    sample = engine.collator.pad(engine.encode(["a short text", "a text " * 4], None), [0, 1])
    with _silent():
        exporter = OnnxExporter()
        program = exporter.export(engine.model, sample, config=OnnxConfig(dynamic=True)).program
    programs = {"onnx": program}
    if int8:
        with _silent():
            quantizer = OnnxRuntimeQuantizer(OnnxRuntimeDynamicConfig(per_channel=True))
            programs["int8"] = quantizer.quantize(program, sample, ExportFormat.ONNX)
    size = sum(p.numel() * p.element_size() for p in engine.model.parameters())
    for backend, graph in programs.items():
        file = FILES[backend]
        beside = f"{file}.data" if size > PROTOBUF_LIMIT else None
        onnx_ir.save(graph, str(aside / file), external_data=beside)


def _prove(  # noqa: PLR0913
    torch_engine: TorchEngine,
    model: Path,
    aside: Path,
    questions: Questions,
    int8: bool,
    threads: int | None,
) -> Exported:
    """From raw text through the very classes that will serve it."""
    size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    asked = torch_engine.encode(questions.texts, questions.pairs)
    expected = torch_engine.logits(asked)
    timed = _milliseconds(torch_engine, questions)
    measured = {"torch": _measure(expected, expected, questions, size, timed)}
    refused = None
    for backend in ("onnx", "int8") if int8 else ("onnx",):
        engine = OnnxEngine.open(aside, model / "tokenizer.json", backend, threads)
        found = engine.logits(engine.encode(questions.texts, questions.pairs))
        size = sum(file.stat().st_size for file in aside.glob(f"{FILES[backend]}*"))
        timed = _milliseconds(engine, questions)
        measured[backend] = _measure(found, expected, questions, size, timed)
        if backend == "onnx":
            _refuse_difference(measured[backend].difference, "the validation texts")
            _refuse_difference(_other_shapes(torch_engine, engine), "other shapes")
        else:
            refused = _lost(measured, len(questions.texts))
    return Exported(model, measured, refused)


def _measure(  # noqa: PLR0913
    found: np.ndarray,
    expected: np.ndarray,
    questions: Questions,
    size: int,
    milliseconds: dict[int, float],
) -> Measured:
    labels = found.argmax(axis=1)
    accuracy = None
    if questions.references is not None:
        accuracy = float((labels == questions.references).mean())
    return Measured(
        difference=float(np.abs(found - expected).max()),
        agreement=float((labels == expected.argmax(axis=1)).mean()),
        accuracy=accuracy,
        megabytes=size / 1e6,
        milliseconds=milliseconds,
    )


def _milliseconds(engine: Engine, questions: Questions) -> dict[int, float]:
    """Of a text from its characters to its logits, where so many are given at a time.

    The median text's best try: what else the machine does can only add.
    """
    last = len(questions.texts) - 1
    taken = np.unique(np.linspace(0, last, TIMED_ROWS).astype(int)).tolist()
    some = [questions.texts[row] for row in taken]
    second = None if questions.pairs is None else [questions.pairs[row] for row in taken]
    found = {}
    for size in BATCHES:
        took = []
        for start in range(0, len(some), size):
            now = some[start : start + size]
            other = None if second is None else second[start : start + size]
            took.append(min(_seconds(engine, now, other) for _ in range(TRIES)) * 1000 / len(now))
        found[size] = float(np.median(took))
    return found


def _seconds(engine: Engine, texts: Sequence[str], pairs: Sequence[str] | None) -> float:
    began = time.perf_counter()
    engine.logits(engine.encode(texts, pairs))
    return time.perf_counter() - began


def _other_shapes(torch_engine: TorchEngine, engine: OnnxEngine) -> float:
    """The largest difference of a logit: one short text, one as long as can be read, many."""
    worst = 0.0
    for texts in (["a"], ["a " * engine.reading.max_length], ["a", "a text"] * 16 + ["a b c"]):
        inputs = engine.encode(texts, None)
        padding = engine.reading.padding, engine.reading.padding_side
        batch = pad_rows(inputs, list(range(len(texts))), *padding)
        with evaluating(torch_engine.model):
            tensors = {name: torch.from_numpy(batch[name]) for name in engine.inputs}
            expected = torch_engine.model(**tensors).logits.numpy()
        worst = max(worst, float(np.abs(engine.run(batch) - expected).max()))
    return worst


def _refuse_difference(difference: float, where: str) -> None:
    if not difference <= TOLERANCE:  # so that NaN is refused too
        raise UserError(
            ExitCode.EXPORT,
            f"The ONNX export does not answer what torch does: on {where} logits differ by "
            f"{difference:.2g} (at most {TOLERANCE:g}). Nothing was written.",
        )


def _lost(measured: dict[str, Measured], rows: int) -> str | None:
    """Why int8 loses too much, else None."""
    int8, float32 = measured["int8"], measured["onnx"]
    if int8.agreement < KEPT_LABELS:
        return f"it keeps {int8.agreement:.1%} of the labels (at least {KEPT_LABELS:.0%})"
    if int8.accuracy is not None and float32.accuracy is not None:
        low, high = interval(float32.accuracy, rows)
        if not low <= int8.accuracy <= high:
            return (
                f"its accuracy {int8.accuracy:.4f} is outside the 95% interval of float32's, "
                f"{low:.4f} to {high:.4f}"
            )
    return None


def interval(share: float, rows: int) -> tuple[float, float]:
    """95% interval of a share (Wilson 1927)."""
    z = 1.959964
    centre = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows**2)) / (1 + z * z / rows)
    return centre - half, centre + half


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The exporters report every pass and every version they were not tried with."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with quiet(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
