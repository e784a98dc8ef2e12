"""Writes a plain checkpoint folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from nlp_transfer.utils.files import disk_errors
from nlp_transfer.utils.logging import quiet


def export(
    model: PreTrainedModel, tokenizer: Any, name: str, max_length: int, folder: Path
) -> Path:
    """Write a plain checkpoint (safetensors, tokenizer, labels by name), whole or not at all.

    Args:
        name: of the checkpoint that was fine-tuned.
        max_length: tokens of the longest input, so that a `pipeline` cuts where training did.
    """
    partial = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    # The path of the weights on this machine stays out of the files.
    model.config._name_or_path = tokenizer.name_or_path = name
    tokenizer.init_kwargs.pop("name_or_path", None)
    tokenizer.model_max_length = max_length
    if hasattr(tokenizer, "backend_tokenizer"):
        # Some checkpoints carry a fixed padding, which a server would pay for with every text.
        tokenizer.backend_tokenizer.no_padding()
        tokenizer.backend_tokenizer.no_truncation()
    with quiet(), disk_errors(partial):
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    mask = os.umask(0)
    os.umask(mask)
    for file in partial.iterdir():
        file.chmod(0o666 & ~mask)  # safetensors gives its files a mode that only the owner can read
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return folder
