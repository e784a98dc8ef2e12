"""Exports a classifier to ONNX and int8, and keeps a file only if its answers agree."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.export.onnx_parity import (
    BATCHES,
    Measured,
    Questions,
    int8_refusal,
    measure,
    metric_of,
    refuse_difference,
)
from nlp_transfer.inference.classifier import find_model
from nlp_transfer.inference.onnx_engine import (
    ABOUT,
    EXTRA,
    FILES,
    FOLDER,
    OnnxEngine,
    Tokenizing,
    identity_of_weights,
)
from nlp_transfer.inference.torch_engine import TorchEngine
from nlp_transfer.problems import Problem
from nlp_transfer.utils.locks import Locked, locked
from nlp_transfer.utils.logging import quiet

LOCK = f".{FOLDER}.lock"  # in the folder of the model, while it is exported
PROTOBUF_LIMIT = 1_900_000_000  # bytes; larger weights stand in a file of their own


@dataclass(frozen=True)
class Exported:
    """The exported folder, a line of the table for each backend, and why int8 loses too much."""

    folder: Path
    problem: Problem
    measured: dict[str, Measured]
    refused: str | None

    @property
    def metric(self) -> str:
        """What `worth` is."""
        return metric_of(self.problem)


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
        UserError: if float32 does not answer what torch does, or another process exports the same
            model; nothing is written then.
    """
    model = find_model(folder)
    try:
        with locked(model / LOCK, wait=False):
            try:
                return _export_alone(model, questions, int8, force, threads)
            finally:
                (model / LOCK).unlink(missing_ok=True)
    except Locked as error:
        raise UserError(
            ExitCode.RUN_FOLDER,
            f"Another process is exporting {model}. Wait for it, then type the command again.",
        ) from error


def _export_alone(
    model: Path, questions: Questions, int8: bool, force: bool, threads: int | None
) -> Exported:
    torch_engine = TorchEngine.load(model, threads)
    torch_engine.model.to("cpu")
    tokenizing = _tokenizing(torch_engine, model)
    partial = model / f"{FOLDER}.part"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        _write(torch_engine, partial, int8)
        report: dict[str, Any] = {
            "tokenizing": asdict(tokenizing),
            **identity_of_weights(model),
        }
        (partial / ABOUT).write_text(json.dumps(report), encoding="utf-8")
        exported = _compare(torch_engine, model, partial, questions, int8, threads)
        if exported.refused and not force:
            (partial / FILES["int8"]).unlink()
        report |= {
            "data": {"source": questions.source, "rows": len(questions.texts)},
            "metric": exported.metric,
            "backends": {
                name: asdict(measurement) for name, measurement in exported.measured.items()
            },
            "int8_refused": exported.refused,
        }
        text = json.dumps(report, indent=2, ensure_ascii=False)
        (partial / ABOUT).write_text(text + "\n", encoding="utf-8")
        shutil.rmtree(model / FOLDER, ignore_errors=True)
        partial.rename(model / FOLDER)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return exported


def table(exported: Exported) -> str:
    """What was measured, for the terminal."""
    same = "same labels" if exported.problem.has_labels else "correlation"
    lines = [
        f"{'':<8}{'difference':>12}{same:>13}{exported.metric:>10}{'MB':>8}"
        + "".join(f"{f'ms at {size}':>10}" for size in BATCHES)
    ]
    for name, measurement in exported.measured.items():
        worth = "–" if measurement.worth is None else f"{measurement.worth:.4f}"
        lines.append(
            f"{name:<8}{measurement.difference:>12.2g}{measurement.agreement:>13.2%}{worth:>10}"
            f"{measurement.megabytes:>8.1f}"
            + "".join(f"{measurement.milliseconds[size]:>10.2f}" for size in BATCHES)
        )
    return "\n".join(lines)


def summary(exported: Exported, questions: Questions, force: bool) -> str:
    """What was written and measured, to print.

    Raises:
        UserError: after printing the table, if int8 was not written.
    """
    lines = [
        table(exported),
        "",
        f"Compared on {len(questions.texts):,} texts of {questions.source}.",
        f"Written: {exported.folder}/{FOLDER}",
    ]
    if exported.refused and force:
        lines.append(f"int8 was written because of --force: {exported.refused}.")
    elif exported.refused:
        print("\n".join(lines))
        raise UserError(
            ExitCode.EXPORT,
            f"int8 was not written: {exported.refused}. "
            "Use float32, or add --force if that is good enough.",
        )
    return "\n".join(lines)


def _tokenizing(engine: TorchEngine, model: Path) -> Tokenizing:
    if not (model / "tokenizer.json").is_file():
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{model} has no tokenizer.json: its tokenizer runs in Python only, so that ONNX "
            "without transformers could not read texts.",
        )
    tokenizer = engine.tokenizer
    return Tokenizing(
        max_length=engine.max_length,
        padding=engine.collator.padding,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
    )


def _write(engine: TorchEngine, partial: Path, int8: bool) -> None:
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
        onnx_ir.save(graph, str(partial / file), external_data=beside)


def _compare(  # noqa: PLR0913
    torch_engine: TorchEngine,
    model: Path,
    partial: Path,
    questions: Questions,
    int8: bool,
    threads: int | None,
) -> Exported:
    """From raw text through the very classes that will serve it."""
    size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    expected = torch_engine.logits(torch_engine.encode(questions.texts, questions.pairs))
    measured = {"torch": measure(torch_engine, expected, expected, questions, size)}
    refused = None
    for backend in ("onnx", "int8") if int8 else ("onnx",):
        engine = OnnxEngine(model, partial, backend, threads)
        size = sum(file.stat().st_size for file in partial.glob(f"{FILES[backend]}*"))
        result = engine.logits(engine.encode(questions.texts, questions.pairs))
        measured[backend] = measure(engine, result, expected, questions, size)
        if backend == "onnx":
            refuse_difference(torch_engine, engine, measured[backend], expected)
        else:
            refused = int8_refusal(measured, torch_engine.decoder.problem)
    return Exported(model, torch_engine.decoder.problem, measured, refused)


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
