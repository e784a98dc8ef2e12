"""The export formats, by name; another package can add one.

`nlp-transfer export RUN --format mine` calls it. What it writes is opened by an engine
(`nlp_transfer.inference.engines`), whose `files` the Hub gets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nlp_transfer.export.onnx_parity import Questions
from nlp_transfer.registry import Registry


@dataclass(frozen=True)
class ExportRequest:
    """What a person asks of an export."""

    questions: Questions  # the texts to compare the export with torch on
    int8: bool = False  # weights of one byte as well
    force: bool = False  # write also what loses too much
    threads: int | None = None  # CPU threads


class Exporter(Protocol):
    """Writes another format into the folder of a model, whole or not at all."""

    def __call__(self, folder: Path, request: ExportRequest) -> str:
        """The summary to print.

        Raises:
            UserError: if nothing was written, or not everything that was asked for.
        """


EXPORTERS: Registry[Exporter] = Registry("format", "an export format", "nlp_transfer.exporters")


def register_exporter(name: str) -> Callable[[Exporter], Exporter]:
    """Make an export format known by its name (`--format`); a decorator.

    Raises:
        ValueError: where the name is taken.
    """
    return EXPORTERS.register(name)


@register_exporter("onnx")
def export_to_onnx(folder: Path, request: ExportRequest) -> str:
    """Write `onnx/`; see `nlp_transfer.export.onnx`."""
    from nlp_transfer.export import onnx

    exported = onnx.export_onnx(
        folder, request.questions, request.int8, request.force, request.threads
    )
    return onnx.summary(exported, request.questions, request.force)
