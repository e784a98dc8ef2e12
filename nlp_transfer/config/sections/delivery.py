"""How the finished model is verified and uploaded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ExportConfig:
    """How the exported folder is verified."""

    verify_rows: int = 256
    """How many validation texts a fresh process answers with the exported model; 0: all of them."""
    fresh_process: bool = True
    """False: the process of the run answers the texts of export.verify_rows, some seconds sooner.
    That proves less."""


@dataclass
class HubConfig:
    """Where the finished model is uploaded; the token is HF_TOKEN's or that of `hf auth login`."""

    repository: str | None = None
    """USER/NAME to upload the finished model to; null: no upload."""
    private: bool = False
    """Create a private repository, and refuse to upload to a public one."""
    revision: str | None = None
    """A branch, created if it is missing; null: main."""
    tag: str | None = None
    """A tag for the uploaded commit."""
    pull_request: bool = False
    """Propose the model to an existing repository as a pull request."""
    examples: bool = False
    """Show a few validation texts on the model card, and upload them with it."""
