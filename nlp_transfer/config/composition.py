"""Composes a configuration from the YAML groups and overrides as they are typed."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.version import VersionBase
from omegaconf.errors import OmegaConfBaseException

from nlp_transfer.config.groups import CONFIG_MODULE, GROUPS, with_plus, wrong_choices
from nlp_transfer.config.hints import bare_word, spaced_equals
from nlp_transfer.config.keys import nearest_key, unknown_key
from nlp_transfer.config.loading import default_tree, set_value, to_config
from nlp_transfer.config.schema import Config, plain
from nlp_transfer.errors import ExitCode, UserError

SCHEMA = "nlp_transfer_schema"  # the store is shared with the program that calls `compose`
STRUCTURE = re.compile(r"[\[\]{}(),\"$]")  # signs with a meaning in Hydra's grammar
BRACKETED = re.compile(r"\[.*\]|\{.*:.*\}", re.S)  # a list, or a mapping
QUOTES_AND_SPACE = " \"'"
# Their values are names of columns, files and folders, which people give as they like.
NAMES = re.compile(
    r"\+{0,2}(run_dir|checkpoint\.name|(tokenization|features)\.folder"
    r"|dataset\.(name|train|validation|test|unlabeled|text|text_pair|label|id|group)"
    r"|evaluation\.slices)"
)

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
    _refuse_lists(overrides)
    overrides = tuple(with_plus(with_quotes(overrides)))
    check_keys(overrides, config_dir)
    refuse_several_values(overrides)
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


@functools.lru_cache(maxsize=1024)
def _parsed(argument: str) -> Override:
    """An override as Hydra reads it; every check of a command line reads it again.

    Raises:
        HydraException: it cannot be read.
    """
    return OverridesParser.create().parse_override(argument)


def _refuse_lists(overrides: Sequence[object]) -> None:
    other = next((word for word in overrides if not isinstance(word, str)), None)
    if other is not None:
        found = f"found {type(other).__name__}: {str(other)[:60]}"
        raise UserError(
            ExitCode.CONFIG,
            f"compose: expected texts such as 'training.batch_size=16', one argument each, {found}."
            " Of a list, type compose(*overrides).",
        )


def _with_exact_epochs(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As `with_stage_keys` does for overrides."""
    return {**settings, **_exact_epochs(set(settings))}


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


def check_keys(arguments: Sequence[str], config_dir: str | Path | None = None) -> None:
    """Refuse words that are no overrides, keys that do not exist, and keys that come twice.

    Args:
        config_dir: as for `compose`.

    Raises:
        UserError: with every one of them; `+key`, `++key` and `~key` are checked like `key`.
    """
    arguments, problems = spaced_equals(arguments)
    if config_dir is not None and not Path(config_dir).is_dir():
        problems.append(f"--config-dir {config_dir}: there is no such folder.")
    all_known = not any(argument.startswith("hydra.searchpath=") for argument in arguments)
    for argument in arguments:
        if "=" not in argument and not argument.startswith("~"):
            problems.append(bare_word(argument))
            continue
        try:
            override = _parsed(argument)
        except HydraException as error:
            reason = str(error).splitlines()[0]
            problems.append(
                f"{argument!r} cannot be read: {reason}. A value with brackets, braces, commas or "
                "quotes stands in double quotes, and the whole word in single ones: "
                f"{shlex.quote(_in_quotes(argument))}"
            )
            continue
        key = override.key_or_group
        if key in GROUPS:
            problems += wrong_choices(override, config_dir, all_known)
            continue
        if "/" in key or key.split(".")[0] == "hydra":
            continue
        nearest = nearest_key(key)
        if nearest is not None:
            problems.append(unknown_key(key, nearest))
    problems += repeated_keys(arguments)
    if problems:
        raise UserError(ExitCode.CONFIG, "\n".join(problems))


def repeated_keys(arguments: Sequence[str]) -> Iterator[str]:
    """A message for each key that is given more than once: Hydra would take the last one.

    Hydra's own keys are left to it, and so are deletions (`~key`).
    """
    words: dict[str, list[str]] = {}
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        key = name.lstrip("+")
        if equals and not key.startswith(("~", "hydra.", "hydra/")):
            words.setdefault(key, []).append(argument)
    for key, several in words.items():
        if len(several) > 1:
            times = "twice" if len(several) == 2 else f"{len(several)} times"
            yield f"{key} is given {times}: {' and '.join(several)}. Type it once."


def without_keys(arguments: Sequence[str], *keys: str) -> list[str]:
    """Arguments without those that set one of the keys, to set it otherwise."""
    return [a for a in arguments if a.partition("=")[0].lstrip("+") not in keys]


def refuse_several_values(arguments: Sequence[str]) -> None:
    """Refuse `key=a,b`, which is a sweep, where one run is asked for.

    Raises:
        UserError: with the ways to type what may be meant.
    """
    for argument in arguments:
        if _parsed(argument).is_sweep_override():
            key, _, value = argument.partition("=")
            raise UserError(
                ExitCode.CONFIG,
                f"{argument!r} has several values, and one run takes one. Type {key}=[{value}] for "
                f"a list, {shlex.quote(f'{key}={_quoted(value)}')} for one value with commas, or "
                "add --multirun to nlp-transfer train for one run of each.",
            )


def with_quotes(arguments: Sequence[str]) -> list[str]:
    """Arguments as Hydra reads them: a value with signs that its grammar lacks stands in quotes.

    Such are letters beyond ASCII, `~`, `#`, `;`, `&` and an equal sign. Values with brackets,
    commas or quotes can mean more than one thing and stay as they are, except for names of columns
    and files, such as `dataset.label=Kategorie (neu)`.
    """
    quoted = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        plain = value == "," or not STRUCTURE.search(value)  # a comma alone separates nothing
        plain_value = equals and not argument.startswith("-") and (plain or _is_name(key, value))
        if plain_value and not _is_readable(argument) and _is_readable(_in_quotes(argument)):
            argument = _in_quotes(argument)
        quoted.append(argument)
    return quoted


def _is_name(key: str, value: str) -> bool:
    """Whether a value is a name, or a list of names without quotes, whatever signs it has."""
    quoted_list = value.startswith("[") and any(sign in value for sign in "\"'")
    return bool(NAMES.fullmatch(key)) and not (
        value.startswith("{") or "${" in value or quoted_list
    )


def _in_quotes(argument: str) -> str:
    """`key=value` with the value in double quotes; of a list or mapping, each of its parts."""
    key, _, value = argument.partition("=")
    if not BRACKETED.fullmatch(value):
        return f"{key}={_quoted(value)}"
    parts = []
    for part in value[1:-1].split(","):
        name, colon, text = part.partition(":") if value[0] == "{" else ("", "", part)
        parts.append(f"{name}{colon}{' ' if colon else ''}{_quoted(text.strip(QUOTES_AND_SPACE))}")
    return f"{key}={value[0]}{','.join(parts)}{value[-1]}"


def _quoted(text: str) -> str:
    escaped = text.replace('"', '\\"')
    return f'"{escaped}"'


def _is_readable(argument: str) -> bool:
    try:
        _parsed(argument)
    except HydraException:
        return False
    return True


def with_stage_keys(arguments: Sequence[str]) -> list[str]:
    """Let `strategy.stages.all.layer_decay=0.9` set what the strategy's YAML does not mention.

    Hydra knows only the keys that stand in a YAML file; which ones exist is for `check_keys`.
    Epochs that are typed for a stage are made as they are, however few steps that is.
    """
    typed = {argument.partition("=")[0].lstrip("+") for argument in arguments}
    words = [f"++{a}" if a.startswith("strategy.stages.") else a for a in arguments]
    exact = _exact_epochs(typed)
    return [*words, *(f"++{k}={'null' if v is None else v}" for k, v in exact.items())]


def _exact_epochs(typed: set[str]) -> dict[str, int | None]:
    """The numbers of steps that epochs of a stage set aside, unless they are typed, too."""
    least = None if "strategy.min_steps" in typed else 0
    bounds = {"min_steps": least, "steps_per_shot": None, "max_steps": None}
    return {
        key: value
        for stage in sorted(typed)
        if (match := re.fullmatch(r"(strategy\.stages\.[^.]+)\.epochs", stage))
        for name, value in bounds.items()
        if (key := f"{match[1]}.{name}") not in typed
    }
