"""What identifies a run: configuration, data, local weights and code; the name of its folder."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from nlp_transfer.config.constants import RUNS
from nlp_transfer.config.schema import NOT_PART_OF_THE_RESULT, Config, as_dict, plain
from nlp_transfer.config.sections.strategy import StageConfig
from nlp_transfer.utils.hashing import digest_of

CodeDigests = Mapping[str, str | None]  # by what each is called; None: it has no content to hash
NO_CODE: CodeDigests = {}
REGISTERED = "registered "  # before the name of code that a registry holds, and a person can type
DIGEST = 12  # characters of the hash in a run's name


def run_path(config: Config, fingerprint: str, code: CodeDigests = NO_CODE) -> Path:
    """`runs/<task>-<checkpoint>-<hash>`: a function of what is asked, the same on every process."""
    if config.run_dir is not None:
        return Path(config.run_dir)
    parts = [
        changed_settings(config),
        fingerprint,
        local_weights(config),
        *([dict(code)] if code else []),
    ]
    identity = json.dumps(parts, sort_keys=True)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:DIGEST]
    short = re.split(r"[/:]", config.checkpoint.name.rstrip("/"))[-1]
    short = re.sub(r"[^A-Za-z0-9._]+", "-", short)
    return Path(RUNS) / f"{config.task}-{short}-{digest}"


def local_weights(config: Config) -> str:
    """Of a checkpoint that is a folder, whose content may change under its name; else nothing."""
    folder = Path(config.checkpoint.name)
    return digest_of(sorted((*folder.glob("*.safetensors"), *folder.glob("*.bin"))))


def settings(tree: dict[str, Any]) -> dict[str, Any]:
    """What of a configuration changes the result, by its full name, as `training.batch_size`."""
    return _flat(_without_ephemeral(tree))


def changed_settings(config: Config) -> dict[str, Any]:
    """What differs from the defaults, so that an option of a later version renames no run."""
    defaults, stage = default_settings(), _default_stage()
    return {
        key: value
        for key, value in settings(as_dict(config)).items()
        if value != (stage.get(key.split(".", 3)[3]) if _is_of_stage(key) else defaults.get(key))
    }


@functools.cache
def default_settings() -> dict[str, Any]:
    """The default of every setting; 30 ms to make."""
    return settings(as_dict(Config()))


@functools.cache
def _default_stage() -> dict[str, Any]:
    return plain(OmegaConf.structured(StageConfig))


def given_code(code: CodeDigests) -> CodeDigests:
    """Those of what was given from Python, which no configuration can name."""
    return {name: digest for name, digest in code.items() if not name.startswith(REGISTERED)}


def different_code(there: CodeDigests, here: CodeDigests) -> list[str]:
    """What of the code outside this package is not the same, in words.

    What is registered is named in the configuration: where one side lacks its digest, the
    configurations differ, or the run was written before there were digests.
    """
    different = []
    for name in sorted({*there, *here}):
        if name.startswith(REGISTERED) and not (name in there and name in here):
            continue
        if name not in here:
            different.append(f"the {name} (there alone)")
        elif name not in there:
            different.append(f"the {name} (here alone)")
        elif there[name] != here[name]:
            different.append(f"the {name} (its code or content has changed)")
    return different


def _is_of_stage(key: str) -> bool:
    return key.startswith("strategy.stages.")


def _without_ephemeral(tree: dict[Any, Any]) -> dict[str, Any]:
    """The keys that change the result."""
    lasting = {}
    for key, value in tree.items():
        if key in NOT_PART_OF_THE_RESULT:
            continue
        prefix = f"{key}."
        dropped = {k.removeprefix(prefix) for k in NOT_PART_OF_THE_RESULT if k.startswith(prefix)}
        if isinstance(value, dict):
            value = {k: v for k, v in value.items() if k not in dropped}
        lasting[str(key)] = value
    return lasting


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
