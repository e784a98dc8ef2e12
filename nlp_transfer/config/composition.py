"""Composes a configuration from the YAML groups and overrides as they are typed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf.errors import OmegaConfBaseException

from nlp_transfer.config.hints import bare_word
from nlp_transfer.config.loading import default_tree, nearest_key, to_config, unknown_key
from nlp_transfer.config.schema import Config, plain
from nlp_transfer.errors import ExitCode, UserError

CONFIG_MODULE = "nlp_transfer.conf"
SCHEMA = "nlp_transfer_schema"  # the store is shared with the program that calls `compose`
GROUPS = ("task", "checkpoint", "dataset", "strategy", "search")


ADDED_GROUPS = ("task", "search")  # they are not in the defaults list
STRUCTURE = re.compile(r"[\[\]{}(),\"$]")  # signs with a meaning in Hydra's grammar

# Untyped on purpose: Hydra would stop at the first wrong type, `to_config` reports them all.
ConfigStore.instance().store(name=SCHEMA, node=default_tree())


def compose(
    *overrides: str,
    config_dir: str | Path | None = None,
    in_memory: bool = True,
    settings: Mapping[str, Any] | None = None,
) -> Config:
    """The checked configuration for overrides as they are typed on the command line.

    It works inside a program that uses Hydra itself, whose state it leaves as it was.

    Args:
        overrides: such as `"+task=sentiment"`, `"training.batch_size=16"`.
        config_dir: a folder with YAML groups of your own, searched besides the package's.
        in_memory: whether data and metrics may be given later (`run(config, data=…)`); False: the
            overrides must name them.
        settings: values of Python by their full keys, such as `{"training.batch_size": 16}`; they
            come after the overrides.

    Raises:
        UserError: with everything that is wrong.

    >>> config = compose("+task=classify", "strategy=full", "training.batch_size=32")
    >>> config.strategy.name, config.training.batch_size
    ('full', 32)
    >>> compose("+task=classify", "training.bach_size=32")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    nlp_transfer.errors.UserError: training.bach_size is not a key of the configuration; ...
    """
    overrides = tuple(with_quotes(overrides))
    check_keys(overrides)
    overrides = tuple(with_stage_keys(overrides))
    search = []
    if config_dir is not None:
        search = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"]
    try:
        with _hydra():
            tree = plain(hydra.compose("train", [*overrides, *search]))
        for key, value in _with_exact_epochs(settings or {}).items():
            set_value(tree, key, value)
        return to_config(tree, in_memory)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(ExitCode.CONFIG, str(error)) from error


def set_value(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a value by its full key; whether that exists is for `to_config`."""
    *sections, name = key.split(".")
    for section in sections:
        below = tree.get(section)
        tree[section] = below if isinstance(below, dict) else {}
        tree = tree[section]
    tree[name] = value


def _with_exact_epochs(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As `with_stage_keys` does for overrides."""
    words = with_stage_keys([f"{key}=" for key in settings])[len(settings) :]
    return {**settings, **{word.lstrip("+").removesuffix("=0"): 0 for word in words}}


@contextmanager
def _hydra() -> Iterator[None]:
    """Hydra over our groups; afterwards that of the program we are part of, if it has one."""
    instance, versions = GlobalHydra.instance(), VersionBase.instance()
    theirs, version = instance.hydra, versions.version_base
    instance.clear()
    try:
        with hydra.initialize_config_module(CONFIG_MODULE, version_base="1.3"):
            yield
    finally:
        GlobalHydra.set_instance(instance)
        instance.hydra, versions.version_base = theirs, version


def check_keys(arguments: Sequence[str]) -> None:
    """Refuse words that are no overrides and keys that do not exist, all at once.

    Raises:
        UserError: with every one of them; `+key`, `++key` and `~key` are checked like `key`.
    """
    problems = []
    for argument in arguments:
        if "=" not in argument and not argument.startswith("~"):
            problems.append(bare_word(argument))
            continue
        try:
            override = OverridesParser.create().parse_override(argument)
        except HydraException as error:
            reason = str(error).splitlines()[0]
            problems.append(
                f"{argument!r} cannot be read: {reason}. A value with brackets, braces, commas or "
                "quotes stands in double quotes, and the whole word in single ones: "
                f"{_in_quotes(argument)!r}"
            )
            continue
        key = override.key_or_group
        if key in GROUPS:
            # A mapping sets keys of the section that has the group's name; `to_config` checks them.
            fits = str if key in ADDED_GROUPS else str | dict
            if not (override.is_sweep_override() or isinstance(override.value(), fits)):
                names = ", ".join(name for name, _ in group_options(key))
                problems.append(f"{argument!r}: {key} is the name of one of {names}.")
            continue
        if "/" in key or key.split(".")[0] == "hydra":
            continue
        nearest = nearest_key(key)
        if nearest is not None:
            problems.append(unknown_key(key, nearest))
    if problems:
        raise UserError(ExitCode.CONFIG, "\n".join(problems))


def with_quotes(arguments: Sequence[str]) -> list[str]:
    """Arguments as Hydra reads them: a value with signs that its grammar lacks stands in quotes.

    Such are letters beyond ASCII, `~`, `#`, `;`, `&` and an equal sign. Values with brackets,
    commas or quotes can mean more than one thing and stay as they are.
    """
    quoted = []
    for argument in arguments:
        _, equals, value = argument.partition("=")
        plain_value = equals and not argument.startswith("-") and not STRUCTURE.search(value)
        if plain_value and not _is_readable(argument) and _is_readable(_in_quotes(argument)):
            argument = _in_quotes(argument)
        quoted.append(argument)
    return quoted


def _in_quotes(argument: str) -> str:
    """`key=value` with the value in double quotes."""
    key, _, value = argument.partition("=")
    escaped = value.replace('"', '\\"')
    return f'{key}="{escaped}"'


def _is_readable(argument: str) -> bool:
    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return False
    return True


def with_stage_keys(arguments: Sequence[str]) -> list[str]:
    """Let `strategy.stages.all.layer_decay=0.9` set what the strategy's YAML does not mention.

    Hydra knows only the keys that stand in a YAML file; which ones exist is for `check_keys`.
    Epochs that are typed for a stage are made as they are, however few steps that is.
    """
    typed = {argument.partition("=")[0].lstrip("+") for argument in arguments}
    exact = {
        least
        for key in typed
        if (match := re.fullmatch(r"(strategy\.stages\.[^.]+)\.epochs", key))
        and (least := f"{match[1]}.min_steps") not in typed
        and "strategy.min_steps" not in typed
    }
    words = [f"++{a}" if a.startswith("strategy.stages.") else a for a in arguments]
    return [*words, *(f"++{key}=0" for key in sorted(exact))]


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
