"""Reads and writes small files, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_json(path: Path) -> dict[str, Any]:
    """One of the files of a run."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """One of the files of a run, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, content: str) -> None:
    """Whole or not at all: written aside, then renamed."""
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(content, encoding="utf-8")
    partial.replace(path)
