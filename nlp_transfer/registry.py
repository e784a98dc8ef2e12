"""Registries: dictionaries that a decorator fills, open to other packages by entry points.

Every seam of the package has one, and all work the same way:

    @register_loss("focal", "single_label")
    def focal(logits, labels): ...

The first argument is the name that a person types, the others say what the entry is for. Another
package names, in an entry point of the registry's group, either a module that registers entries
when it is imported, or the entry itself, whose name is then that of the entry point.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Self, TypeVar

from nlp_transfer.errors import ExitCode, UserError

T = TypeVar("T")
PACKAGE = __name__.partition(".")[0]


class Registry(dict[str, T]):
    """Entries by name; importing what is offered waits until it is asked for."""

    def __init__(self, option: str, noun: str, group: str, modules: Sequence[str] = ()) -> None:
        """Args:
        option: where a person types a name, such as `training.loss`.
        noun: what an entry is, with its article, for messages.
        group: of the entry points, such as `nlp_transfer.losses`.
        modules: of this package, which register entries when they are imported.
        """
        super().__init__()
        self.option, self.noun, self.group, self.modules = option, noun, group, modules
        self.is_complete = False
        self._origins: dict[str, Any] = {}

    def add(self, name: str, entry: T, origin: Any = None) -> T:
        """Make an entry known by its name.

        Args:
            origin: the function or class that a person wrote; None: the entry itself. The same one
                written anew, as in a notebook, replaces the former.

        Raises:
            ValueError: where the name is taken.
        """
        origin = entry if origin is None else origin
        if name in self and not _is_written_anew(self._origins[name], origin):
            raise ValueError(f"{self.noun} with the name {name!r} exists already")
        self[name], self._origins[name] = entry, origin
        return entry

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that adds an entry."""
        return lambda entry: self.add(name, entry)

    def foreign(self, name: str) -> Any:
        """The function or class behind an entry that is not of this package; else None."""
        origin = self._origins.get(name)
        return None if _full_name(origin)[0].partition(".")[0] == PACKAGE else origin

    def names(self) -> list[str]:
        """Of all entries and entry points; nothing of other packages is imported."""
        return list(dict.fromkeys([*self, *self._entry_points()]))

    def complete(self) -> Self:
        """With every entry, those of other packages included.

        Raises:
            UserError: what an entry point names cannot be loaded.
        """
        if not self.is_complete:
            for module in self.modules:
                import_module(module)
            for point in self._entry_points().values():
                self._load(point)
            self.is_complete = True
        return self

    def find(self, name: str) -> T:
        """The entry of this name; imports what offers it.

        Raises:
            UserError: there is none, or it cannot be loaded.
        """
        if name not in self and (offered := self._entry_points().get(name)):
            self._load(offered)
        if name not in self and name not in self.complete():
            close = difflib.get_close_matches(name, self, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise UserError(
                ExitCode.CONFIG,
                f"{self.option}={name} is not {self.noun}.{hint} There are {', '.join(self)}. "
                "What another package offers needs that package installed (entry points "
                f"{self.group}).",
            )
        return self[name]

    def _load(self, point: EntryPoint) -> None:
        entry = _loaded(point)
        if not isinstance(entry, ModuleType):
            self._accept(point.name, entry)

    def _accept(self, name: str, entry: Any) -> None:
        """Take what an entry point names, unless its import has registered it."""
        if name not in self:
            self.add(name, entry)

    def _entry_points(self) -> dict[str, EntryPoint]:
        folders = tuple((name, _changed(name)) for name in sys.path)
        return {entry.name: entry for entry in _entry_points_in(folders).select(group=self.group)}


@functools.cache
def _entry_points_in(folders: tuple[tuple[str, int], ...]) -> Any:
    """`EntryPoints` of all groups; to read those of every package takes tens of milliseconds.

    Args:
        folders: of `sys.path`, and when each was changed: packages can be installed meanwhile.
    """
    del folders
    return entry_points()


def _changed(folder: str) -> int:
    try:
        return Path(folder or ".").stat().st_mtime_ns
    except OSError:
        return 0


def has_two_parameters(function: Callable[..., Any]) -> bool:
    """Whether it is a plain function of what is right and what was answered."""
    parameters = inspect.signature(function).parameters.values()
    needed = [p for p in parameters if p.default is p.empty and p.kind is not p.KEYWORD_ONLY]
    return len(needed) == 2 and not any(p.kind is p.VAR_POSITIONAL for p in parameters)


def _is_written_anew(before: Any, now: Any) -> bool:
    return hasattr(now, "__qualname__") and _full_name(before) == _full_name(now)


def _full_name(thing: Any) -> tuple[str, str]:
    """The module and the name of a function or a class; of anything else, of its type."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return str(named.__module__), str(named.__qualname__)


def _loaded(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:  # noqa: BLE001 (it is the code of another package)
        what = point.group.rpartition(".")[2]
        raise UserError(
            ExitCode.CONFIG,
            f"The {what} of the entry point {point.name!r} ({point.value}) cannot be loaded: "
            f"{type(error).__name__}: {error}. Repair or uninstall that package.",
        ) from error
