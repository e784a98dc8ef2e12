"""Figures as SVG that takes its colours from the page it stands in."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Colours that stand for the page's: it has a light and a dark set of them.
INK, SOFT, LINE, FIRST, SECOND = "#010203", "#010204", "#010205", "#010206", "#010207"

COLOURS = {INK: "ink", SOFT: "soft", LINE: "line", FIRST: "first", SECOND: "second"}

# Inches at 72 units each. On a phone this is about one to one, so that letters stay letters.
WIDTH, HEIGHT = 4.6, 3.0

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # letters stay letters: the page's font, found by searching
    "svg.hashsalt": "nlp_transfer",
    "text.parse_math": False,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "legend.fontsize": 10,
    "lines.solid_capstyle": "round",
}

Arguments = ParamSpec("Arguments")


def as_svg(draw: Callable[Arguments, tuple[Figure, str]]) -> Callable[Arguments, Markup]:
    """Turn a function that returns a figure and its description into one that returns SVG."""

    @wraps(draw)
    def wrapper(*positional: Arguments.args, **keywords: Arguments.kwargs) -> Markup:
        with matplotlib.rc_context(STYLE):
            figure, words = draw(*positional, **keywords)
            return _svg(figure, words)

    return wrapper


def _svg(figure: Figure, words: str) -> Markup:
    content = io.StringIO()
    with warnings.catch_warnings():
        # The browser has the letters that the font used for measuring has not.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    svg = content.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[A-Za-z0-9]+_\d+"', "", svg)  # the same in every figure of the page
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"\n\s*", "\n", svg)
    for stands, name in COLOURS.items():
        svg = svg.replace(stands, f"var(--{name})")
    size = re.search(r'viewBox="([^"]*)"', svg)
    assert size is not None
    head = f'<svg viewBox="{size[1]}" role="img" aria-label="{escape(words)}"'
    head += ' xmlns:xlink="http://www.w3.org/1999/xlink">'
    return Markup(re.sub(r"^<svg[^>]*>", lambda _: head, svg, count=1))


def new_axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.add_subplot()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def add_legend(axes: Axes) -> None:
    if len(axes.get_legend_handles_labels()[1]) > 1:
        axes.legend(loc="best")
