"""The package graph, from the import contract in `pyproject.toml` and the imports themselves."""

from __future__ import annotations

import importlib
import tomllib
from html import escape
from pathlib import Path

import grimp
from markdown_tables import code, prose, table

ROOT = Path(__file__).parents[2]
PACKAGE = "nlp_transfer"
STEP, BOX, LEFT, WIDTH = 30, 22, 10, 130


def layers() -> list[str]:
    """The packages of the contract, top first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    return next(c["layers"] for c in contracts if c["type"] == "layers")


def imports() -> dict[str, set[str]]:
    """Which packages each package imports directly."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    names = layers()
    imports_of: dict[str, set[str]] = {name: set() for name in names}
    for module in graph.modules:
        importer = _package(module)
        if importer in imports_of:
            of_module = map(_package, graph.find_modules_directly_imported_by(module))
            imports_of[importer] |= {name for name in of_module if name in imports_of} - {importer}
    return imports_of


def direct(imports_of: dict[str, set[str]]) -> dict[str, set[str]]:
    """Without the imports that already follow from others: the graph's transitive reduction."""
    reach: dict[str, set[str]] = {}
    for name in reversed(list(imports_of)):
        reach[name] = set().union(*(reach[below] | {below} for below in imports_of[name]), set())
    return {
        name: below - set().union(*(reach[b] for b in below), set())
        for name, below in imports_of.items()
    }


def markdown() -> str:
    """The picture and the table."""
    imports_of = imports()
    order = {name: place for place, name in enumerate(imports_of)}
    rows = [
        (
            code(name),
            prose(purpose(name)),
            ", ".join(map(code, sorted(imports_of[name], key=order.__getitem__))) or "–",
        )
        for name in imports_of
    ]
    head = ("package", "what is in it", "imports")
    return f"{svg(direct(imports_of))}\n\n{table(head, rows)}"


def purpose(name: str) -> str:
    """The first line of the docstring."""
    text = importlib.import_module(f"{PACKAGE}.{name}").__doc__ or ""
    return text.strip().splitlines()[0]


def svg(imports_of: dict[str, set[str]]) -> str:
    """Boxes in the order of the contract; an arc for every import, right of the boxes."""
    place = {name: 12 + STEP * row for row, name in enumerate(imports_of)}
    longest = max(place[b] - place[a] for a, below in imports_of.items() for b in below)
    width, height = LEFT + WIDTH + 20 + longest // 2, 20 + STEP * len(imports_of)
    parts = [
        f'<svg class="package-graph" role="img" width="{width}" viewBox="0 0 {width} {height}" '
        'xmlns="http://www.w3.org/2000/svg">',
        "<title>Packages, top first; an arc is an import</title>",
    ]
    edge = LEFT + WIDTH
    for name, below in imports_of.items():
        for other in sorted(below, key=place.__getitem__):
            start, end = place[name] + BOX / 2, place[other] + BOX / 2
            reach = edge + 6 + (end - start) / 1.6
            parts.append(
                f'<path d="M {edge} {start} C {reach:.0f} {start} {reach:.0f} {end} {edge} {end}">'
                f"<title>{escape(name)} imports {escape(other)}</title></path>"
            )
    for name, top in place.items():
        parts.append(f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{BOX}" rx="4"/>')
        parts.append(f'<text x="{LEFT + 8}" y="{top + 16}">{escape(name)}</text>')
    return "".join([*parts, "</svg>"])


def _package(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""
