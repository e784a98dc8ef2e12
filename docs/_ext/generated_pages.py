"""Writes the generated part of the reference into `docs/_generated/` before Sphinx reads it.

A page includes its part, so that it can introduce it in words of its own. The parts are Markdown
and come from the code alone: dataclasses, parsers, registries and the import contract.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import choices_page
import commands_page
import metrics_page
import options_page
import package_graph
import python_page
import registries_page
from sphinx.application import Sphinx

PARTS: dict[str, Callable[[], str]] = {
    "options": options_page.markdown,
    "commands": commands_page.markdown,
    "choices": choices_page.markdown,
    "metrics": metrics_page.markdown,
    "exit_codes": registries_page.exit_codes,
    "registries": registries_page.markdown,
    "packages": package_graph.markdown,
    "python": python_page.markdown,
}


def write_parts(folder: Path) -> None:
    """Write every part; a file that would not change keeps its time, so Sphinx can skip it."""
    folder.mkdir(exist_ok=True)
    for name, markdown in PARTS.items():
        file, text = folder / f"{name}.md", markdown()
        if not file.is_file() or file.read_text("utf-8") != text:
            file.write_text(text, "utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the parts when a build starts."""
    app.connect("builder-inited", lambda app: write_parts(Path(app.srcdir) / "_generated"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
