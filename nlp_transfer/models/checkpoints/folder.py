"""Inspects a checkpoint folder: which part is missing, damaged or of another kind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from nlp_transfer.config.choices import Pooling
from nlp_transfer.config.sections.checkpoint import CheckpointConfig
from nlp_transfer.utils.logging import logger

ADAPTER = "adapter_config.json"
MODULES = "modules.json"  # of sentence-transformers
POINTER = b"version https://git-lfs"
OTHER_WEIGHTS = {
    ".h5": "TensorFlow",
    ".msgpack": "Flax",
    ".gguf": "llama.cpp",
    ".ot": "Rust",
    ".onnx": "ONNX",
}
# Files of JSON that hold one object; others, as modules.json, may hold a list.
OBJECTS = ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors.index.json")
SHOWN = 5  # files in a message


def encoder_folder(folder: Path) -> Path:
    """Where the encoder is: old folders of sentence-transformers keep it in a folder of its own."""
    if (folder / MODULES).is_file() and not (folder / "config.json").is_file():
        inner = folder / next(iter(_modules(folder)), {}).get("path", "")
        if (inner / "config.json").is_file():
            return inner
    return folder


def follow_sentence_encoder(config: CheckpointConfig) -> Pooling:
    """The pooling of a run: what was asked for; for `auto`, `first` where the encoder was
    trained to summarise a text in its first token.

    Other poolings than the mean and the first token cannot be computed; that is said in the log.
    """
    pooling = _pooling_of(config)
    if pooling is None or config.pooling is not Pooling.auto:
        return config.pooling
    if pooling == "cls":
        logger.info("checkpoint.pooling=first, as its sentence-transformers folder says (cls)")
        return Pooling.first
    if pooling != "mean":
        logger.info(
            "the sentence-transformers folder of the checkpoint says pooling %s, which is not "
            "available here: checkpoint.pooling=auto chooses between the first token and the mean",
            pooling,
        )
    return config.pooling


def _pooling_of(config: CheckpointConfig) -> str | None:
    """What a folder of sentence-transformers says: `mean`, `cls`, `max` …; None: it is none."""
    modules = _read(config, MODULES)
    for module in modules if isinstance(modules, list) else ():
        if str(module.get("type", "")).endswith(".Pooling"):
            about = _read(config, f"{module['path']}/config.json")
            return _mode(about) if isinstance(about, dict) else None
    return None


def _mode(about: dict[str, Any]) -> str | None:
    """Newer folders have the name, older ones a true or false for each."""
    if "pooling_mode" in about:
        mode = about["pooling_mode"]
        return "+".join(mode) if isinstance(mode, list) else str(mode)
    names = [name for name, on in about.items() if name.startswith("pooling_mode_") and on is True]
    modes = [n.removeprefix("pooling_mode_").removesuffix("_tokens") for n in names]
    return "+".join(mode.removesuffix("_token") for mode in modes) or None


def _read(config: CheckpointConfig, file: str) -> Any:
    """A JSON file of a checkpoint, local or of the Hub; None where it has no such file."""
    from transformers.utils import cached_file

    try:
        path = Path(config.name) / file
        if not Path(config.name).is_dir():
            options: dict[str, Any] = {"revision": config.revision} if config.revision else {}
            cached = cached_file(
                config.name, file, _raise_exceptions_for_missing_entries=False, **options
            )
            path = Path(cached) if cached else path
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError):
        return None


def _modules(folder: Path) -> list[dict[str, str]]:
    try:
        modules = json.loads((folder / MODULES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [module for module in modules if isinstance(module, dict)]


def explain(folder: Path, needs_tokenizer: bool = True) -> str | None:
    """What is wrong with a folder that cannot be loaded, as one sentence; None: nothing is seen."""
    if folder.is_file():
        return f"{folder} is a file; expected the folder that it is in."
    if not folder.is_dir():
        return None
    return next(_faults(folder, needs_tokenizer), None)


def _faults(folder: Path, needs_tokenizer: bool) -> Iterator[str]:
    files = sorted(path for path in folder.iterdir() if not path.is_dir())
    for file in files:
        if not file.exists():
            yield f"{file.name} is a link to {file.readlink()}, which is not there."
        elif file.stat().st_size < 1000 and file.read_bytes().startswith(POINTER):
            yield f"{file.name} is a pointer of Git LFS, not the file: type git lfs pull there."
        elif not file.stat().st_size and file.suffix in (".json", ".safetensors", ".txt"):
            yield f"{file.name} is empty: the folder was not copied whole."
        elif file.suffix == ".json" and (error := _json_error(file)):
            yield f"{file.name} is damaged ({error}): copy it again."
    if not (folder / "config.json").is_file():
        yield _without_config(folder, files)
    yield from _weight_faults(folder, files)
    if needs_tokenizer and not has_tokenizer(folder):
        yield no_tokenizer(str(folder))


def _json_error(file: Path) -> str | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        return str(error)
    is_object = isinstance(content, dict)
    return None if is_object or file.name not in OBJECTS else "it holds no JSON object"


def _without_config(folder: Path, files: list[Path]) -> str:
    inner = sorted(path.parent for path in folder.glob("*/config.json"))
    if inner:
        newest = max(inner, key=lambda path: path.stat().st_mtime)
        return f"it has no config.json, but its folder {newest.name} has: name {newest}."
    names = ", ".join(file.name for file in files[:SHOWN])
    return f"it has no config.json, only {names}." if names else "it is an empty folder."


def _weight_faults(folder: Path, files: list[Path]) -> Iterator[str]:
    for file in files:
        if file.suffix == ".safetensors" and file.exists():
            try:
                with safe_open(file, "np"):
                    pass
            except (SafetensorError, OSError) as error:
                yield f"{file.name} is damaged or cut off ({error}): copy it again."
    for index in folder.glob("*.index.json"):
        parts = set(json.loads(index.read_text(encoding="utf-8")).get("weight_map", {}).values())
        missing = sorted(part for part in parts if not (folder / part).is_file())
        if missing:
            yield (
                f"{len(missing)} of the {len(parts)} files of its weights are missing "
                f"({', '.join(missing[:SHOWN])}): copy them, too."
            )
    if any(file.suffix in (".safetensors", ".bin") for file in files):
        return
    others = [file for file in files if file.suffix in OTHER_WEIGHTS]
    if others:
        yield (
            f"it has weights of {OTHER_WEIGHTS[others[0].suffix]} alone ({others[0].name}); "
            "expected model.safetensors, which save_pretrained of the PyTorch model writes."
        )
    else:
        yield "it has no weights: expected model.safetensors."


# Files that hold the vocabulary of a tokenizer; the others only describe one.
VOCABULARIES = ("tokenizer.json", "vocab.*", "*.model", "*.tiktoken", "tekken.json", "merges.txt")


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds the vocabulary of a tokenizer."""
    return any(next(folder.glob(pattern), None) for pattern in VOCABULARIES)


def no_tokenizer(name: str) -> str:
    """The sentence about a checkpoint without a tokenizer."""
    return (
        f"{name} has no tokenizer: expected its vocabulary (tokenizer.json, vocab.txt …) beside "
        "the weights. Save it there: AutoTokenizer.from_pretrained(the checkpoint that the "
        f"training began with).save_pretrained({name!r})."
    )
