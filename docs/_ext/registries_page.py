"""Kinds of labels, losses, file formats, engines and export formats, from their registries."""

from __future__ import annotations

from inspect import getdoc
from typing import Any

from markdown_tables import code, prose, table

from nlp_transfer import errors
from nlp_transfer.config.options import attribute_docstrings
from nlp_transfer.data.formats.registry import readers
from nlp_transfer.errors import ExitCode
from nlp_transfer.export.exporters import EXPORTERS
from nlp_transfer.inference.engines import ENGINES
from nlp_transfer.problems import problems
from nlp_transfer.training.losses import LOSSES

# What the interpreter and the shell use beside `ExitCode`.
OTHERS = {
    0: "Finished.",
    1: "A fault of this package: please report the traceback. After --multirun, also a job that "
    "failed.",
    130: "Interrupted at once, by a second Ctrl-C.",
    141: "The reader of the output had seen enough, as with `| head`; nothing is said.",
}


def exit_codes() -> str:
    """Every exit code."""
    texts = attribute_docstrings(errors)["ExitCode"]
    meanings = OTHERS | {int(c): texts[c.name] for c in ExitCode}
    rows = [(str(c), prose(meanings[c])) for c in sorted(meanings)]
    return table(("code", "meaning"), rows)


def markdown() -> str:
    """A table a registry."""
    return "\n".join((_problems(), _losses(), _readers(), _engines()))


def _problems() -> str:
    rows = [
        (
            code(name),
            first_line(type(problem)),
            ", ".join(code(metric) for metric in problem.default_metrics),
            code(problem.loss),
        )
        for name, problem in problems().items()
    ]
    head = ("`dataset.problem`", "what a row has", "default metrics", "default loss")
    return f"## Kinds of labels\n\n{table(head, rows)}"


def _losses() -> str:
    rows = [
        (code(name), first_line(loss.function), prose(", ".join(loss.problems or ("any",))))
        for name, loss in LOSSES.complete().items()
    ]
    return f"## Losses\n\n{table(('`training.loss`', 'what it is', 'kinds of labels'), rows)}"


def _readers() -> str:
    rows = [
        (code(name), ", ".join(map(code, reader.suffixes))) for name, reader in readers().items()
    ]
    return f"## File formats that are read\n\n{table(('format', 'suffixes'), rows)}"


def _engines() -> str:
    formats = ", ".join(code(name) for name in EXPORTERS.names())
    rows = [
        (code(name), ", ".join(map(code, ENGINES.find(name).files))) for name in ENGINES.names()
    ]
    engines = table(("`--backend`", "files that it needs in the exported folder"), rows)
    return f"## Engines and export formats\n\n{engines}\nExport formats: {formats}.\n"


def first_line(thing: Any) -> str:
    """The first paragraph of a docstring."""
    line = (getdoc(thing) or "").strip().split("\n\n")[0]
    return prose(" ".join(line.split()))
