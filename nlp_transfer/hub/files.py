"""The files of a folder that make up a model, with the hashes that the Hub knows them by."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePath

from huggingface_hub.hf_api import RepoFile

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inference.engines import exported_files
from nlp_transfer.models.checkpoints.folder import explain

logger = logging.getLogger("nlp_transfer")

# What a checkpoint is made of; engines add their files. All else (texts, answers) stays here.
UPLOADED = (
    "README.md",
    "LICENSE*",
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "*.model",
    "*.jinja",
)


@dataclass(frozen=True)
class ModelFile:
    """A file of the folder, and its names by content: as a large object and as git's."""

    path: Path
    sha256: str
    git: str

    def is_there(self, there: RepoFile | None) -> bool:
        """Whether the Hub's file has the same content."""
        if there is None:
            return False
        return there.lfs.sha256 == self.sha256 if there.lfs else there.blob_id == self.git


def model_files(folder: Path) -> dict[str, ModelFile]:
    """What is uploaded, by its path in the folder.

    Raises:
        UserError: if it holds no model, or one of which a part is missing or damaged.
    """
    paths = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}
    uploaded = {name: path for name, path in paths.items() if _is_part_of_a_model(name)}
    if "config.json" not in uploaded or not any(n.endswith(".safetensors") for n in uploaded):
        raise UserError(
            ExitCode.HUB,
            f"{folder} holds no exported model (config.json and safetensors). "
            "Name a finished run, or the folder of a model.",
        )
    if fault := explain(folder):
        raise UserError(ExitCode.HUB, f"{folder} is no whole model: {fault}")
    skipped = sorted({*paths} - {*uploaded})
    if skipped:
        logger.info("not part of the model, and not uploaded: %s", ", ".join(skipped))
    return {name: _hashed(path) for name, path in uploaded.items()}


def _is_part_of_a_model(name: str) -> bool:
    return _matches(name, [*UPLOADED, *exported_files()])


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a file is in the folder of one of the patterns, and its name matches."""
    path = PurePath(name)
    parsed = map(PurePath, patterns)
    return any(path.parent == p.parent and fnmatch(path.name, p.name) for p in parsed)


def _hashed(path: Path) -> ModelFile:
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha256.update(chunk)
            git.update(chunk)
    return ModelFile(path, sha256.hexdigest(), git.hexdigest())
