"""Merges a PEFT adapter into its base: a checkpoint folder may hold an adapter alone."""

from __future__ import annotations

import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.checkpoints.folder import ADAPTER
from nlp_transfer.utils.logging import logger, quiet

WEIGHTS = "adapter_model.safetensors"
HEADS = ("classifier", "score", "out_proj")  # layers of a classification head, by name
SHOWN = 3


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and not the model that it belongs to."""
    return (folder / ADAPTER).is_file() and not _whole_weights(folder)


def refuse_two_models(folder: Path) -> None:
    """Stop at a folder of an adapter and a whole model: transformers would take both.

    Raises:
        UserError: with what to remove.
    """
    if (folder / ADAPTER).is_file() and _whole_weights(folder):
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{folder} holds a whole model ({_whole_weights(folder)[0].name}) and an adapter of "
            f"PEFT ({ADAPTER}). If the adapter is merged into the model, remove adapter_*; else "
            "remove the model.",
        )


def _whole_weights(folder: Path) -> list[Path]:
    return [*folder.glob("model*.safetensors"), *folder.glob("pytorch_model*.bin")]


def base_of(folder: Path) -> str:
    """The checkpoint that an adapter changes.

    Raises:
        UserError: without PEFT, and where the folder does not say it.
    """
    try:
        about = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _error(folder, f"{ADAPTER} cannot be read ({error})") from error
    base = about.get("base_model_name_or_path")
    if not base:
        raise _error(folder, f"{ADAPTER} does not name its base (base_model_name_or_path)")
    if find_spec("peft") is None:
        raise _error(folder, f"merging it into {base} needs pip install 'nlp_transfer[lora]'")
    beside = folder / base
    if not Path(base).is_dir() and beside.is_dir():
        return str(beside)
    if _is_path(base) and not Path(base).is_dir():
        raise _error(folder, f"its base {base} is not there. Put it there, or change {ADAPTER}")
    return str(base)


def outputs_of(folder: Path) -> int | None:
    """The outputs of the head that an adapter brings along; None: it has none."""
    try:
        with safe_open(folder / WEIGHTS, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118
                parts = name.split(".")
                if parts[-1] == "weight" and any(head in parts for head in HEADS):
                    shape = weights.get_slice(name).get_shape()
                    if "lora_A" not in parts and "lora_B" not in parts:
                        return int(shape[0])
    except (OSError, SafetensorError) as error:
        raise _error(folder, f"{WEIGHTS} is missing or damaged ({error})") from error
    return None


def merge_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The base with the adapter merged into its layers.

    Raises:
        UserError: if the adapter was made for another model.
    """
    from peft import PeftConfig, get_peft_model, load_peft_weights, set_peft_model_state_dict

    # PEFT asks transformers by a name that is deprecated.
    with quiet(), warnings.catch_warnings(action="ignore", category=FutureWarning):
        config = PeftConfig.from_pretrained(str(folder))
        weights = load_peft_weights(str(folder), device="cpu")
        encoder_alone = config.task_type == "FEATURE_EXTRACTION"
        target: Any = model.base_model if encoder_alone else model
        try:
            adapted = get_peft_model(target, config)
            loaded = set_peft_model_state_dict(adapted, weights)
        except (ValueError, RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise _error(folder, f"it does not fit its base ({reason})") from error
        if loaded.unexpected_keys:
            names = ", ".join(sorted(loaded.unexpected_keys)[:SHOWN])
            raise _error(folder, f"its base lacks the layers that it changes ({names} …)")
        merged = adapted.merge_and_unload()
    if encoder_alone:
        setattr(model, model.base_model_prefix, merged)
        merged = model
    for parameter in merged.parameters():
        parameter.requires_grad_(True)
    logger.info("the adapter %s is merged into its base", folder)
    assert isinstance(merged, PreTrainedModel)
    return merged


def _is_path(base: str) -> bool:
    return base.startswith(("/", ".", "~")) or base.count("/") != 1 or "\\" in base


def _error(folder: Path, reason: str) -> UserError:
    return UserError(
        ExitCode.CHECKPOINT,
        f"{folder} is an adapter of PEFT, not a whole model, and {reason}. Or merge it yourself: "
        "model.merge_and_unload().save_pretrained(FOLDER).",
    )
