"""The groups of YAML files that a configuration is composed of, and the names in them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import ChoiceSweep, Override

from nlp_transfer.config.sections.dataset import FILE_SUFFIXES

CONFIG_MODULE = "nlp_transfer.conf"
GROUPS = ("task", "checkpoint", "dataset", "strategy", "search")
ADDED_GROUPS = ("task", "search")  # they are not in the defaults list
_CHOICE = re.compile(rf"\+?({'|'.join(GROUPS)})=(.*)", re.S)


def group_options(group: str, config_dir: str | Path | None = None) -> list[tuple[str, str]]:
    """The options of a group with their first comments, those of a folder of your own too."""
    folders: list[Any] = [resources.files(CONFIG_MODULE).joinpath(group)]
    if config_dir is not None and Path(config_dir, group).is_dir():
        folders.append(Path(config_dir, group))
    options = {}
    for folder in folders:
        for file in folder.iterdir():
            if file.name.endswith(".yaml"):
                options[file.name.removesuffix(".yaml")] = _first_comment(file)
    return sorted(options.items())


def _first_comment(file: Any) -> str:
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# ") and not line.startswith("# @package"):
            return line[2:]
    return ""


def with_plus(arguments: Sequence[str]) -> list[str]:
    """Let `task=sentiment` and `+strategy=full` be what can only be meant by them.

    Hydra wants a plus before the groups that have no default, and none before the others.
    """
    words = []
    for argument in arguments:
        match = _CHOICE.fullmatch(argument)
        if match:
            group, name = match.groups()
            argument = f"{'+' if group in ADDED_GROUPS else ''}{group}={name}"
        words.append(argument)
    return words


def wrong_choices(
    override: Override, config_dir: str | Path | None = None, known: bool = True
) -> list[str]:
    """One message for every value of GROUP=… that is no name in the group.

    Args:
        known: False: there are more names, in folders that only Hydra looks into.
    """
    group = override.key_or_group
    names = [name for name, _ in group_options(group, config_dir)]
    # A mapping sets keys of the section that has the group's name; `to_config` checks them.
    kinds = str if group in ADDED_GROUPS else str | dict
    value, typed = override.value(), override.input_line or ""
    values: list[Any] = [value]
    if override.is_sweep_override():
        values = list(value.list) if isinstance(value, ChoiceSweep) else []
    elif not isinstance(value, kinds):
        return [f"{typed!r}: {group} is the name of one of {', '.join(names)}."]
    words = [str(value) for value in values if not isinstance(value, dict)]
    plus = typed.partition(group)[0]
    return [_no_such(plus, group, word, names) for word in words if known and word not in names]


def _no_such(plus: str, group: str, word: str, names: Sequence[str]) -> str:
    """The message for a name that a group does not have."""
    begins = sorted((name for name in names if word.startswith(name)), key=len)
    close = begins[-1:] or difflib.get_close_matches(word.lower(), names, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    message = f"{plus}{group}={word}: there is no such {group}.{hint} Expected {', '.join(names)}."
    if group == "checkpoint":
        message += f" Any other name on the Hub, or a folder: checkpoint.name={word}."
    elif group == "dataset" and word.lower().endswith(FILE_SUFFIXES):
        message += f" A file of your own: dataset.train={word}."
    elif group == "strategy":
        message += f" One of your own is FOLDER/strategy/{word}.yaml: --config-dir FOLDER."
    return message
