"""A page with a figure or two, which needs nothing from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Sequence

STYLE = (
    ":root{--ink:#1b2330;--soft:#5a6575;--line:#dcdfe4;--first:#2b5fae;--second:#c2611a}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e5e8ed;--soft:#9ca7b6;--line:#333a44;"
    "--first:#7fabf0;--second:#f0a468;color-scheme:dark}body{background:#14171b}}"
    "body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);max-width:44rem;margin:2rem auto;"
    "padding:0 1rem}svg{width:100%;height:auto;font-family:inherit}"
    "pre{overflow-x:auto;font-size:.85rem}"
)


def small_page(title: str, parts: Sequence[str]) -> str:
    """A heading and parts of HTML."""
    name = html.escape(title)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{name}</title><style>{STYLE}</style><h1>{name}</h1>{''.join(parts)}</html>\n"
    )


def as_written(text: str) -> str:
    """Text whose columns and lines stay as they are."""
    return f"<pre>{html.escape(text)}</pre>"
