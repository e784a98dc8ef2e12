"""The Jinja environment of the reports."""

from __future__ import annotations

import functools

from jinja2 import Environment, PackageLoader, StrictUndefined

from nlp_transfer.reporting.html.glossary import TERMS
from nlp_transfer.reporting.splits import split_title
from nlp_transfer.utils.text import number, percent, seconds


@functools.cache
def environment(autoescape: bool) -> Environment:
    """Templates of this package, without the line breaks of their statements.

    Args:
        autoescape: whether texts are escaped, as in HTML.
    """
    templates = Environment(  # noqa: S701 (Markdown is not HTML)
        loader=PackageLoader("nlp_transfer", "reporting"),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(
        number=number, percent=percent, seconds=seconds, split_title=split_title
    )
    templates.globals.update(terms=TERMS)
    return templates
