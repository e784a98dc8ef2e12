"""Registries: dictionaries that a decorator fills, open to other packages by entry points."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from nlp_transfer.errors import ExitCode, UserError

T = TypeVar("T")


def load(point: EntryPoint) -> Any:
    """What another package offers by an entry point.

    Raises:
        UserError: if it cannot be loaded.
    """
    try:
        return point.load()
    except Exception as error:  # noqa: BLE001 (it is the code of another package)
        what = point.group.rpartition(".")[2]
        raise UserError(
            ExitCode.CONFIG,
            f"The {what} of the entry point {point.name!r} ({point.value}) cannot be loaded: "
            f"{type(error).__name__}: {error}. Repair or uninstall that package.",
        ) from error


def load_all(group: str) -> list[Any]:
    """What other packages offer by the entry points of a group.

    Raises:
        UserError: if one cannot be loaded.
    """
    return [load(point) for point in entry_points(group=group)]


class Registry(dict[str, T]):
    """Entries by name.

    Another package adds one by an entry point of the same name in `group`: either the entry
    itself, or a module that registers it when it is imported.
    """

    def __init__(self, kind: str, group: str) -> None:
        """Args:
        kind: what an entry is, for messages.
        group: of the entry points, such as `nlp_transfer.engines`.
        """
        super().__init__()
        self.kind, self.group = kind, group

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that adds an entry."""

        def add(entry: T) -> T:
            self[name] = entry
            return entry

        return add

    def names(self) -> list[str]:
        """Of all entries, those of other packages included; none of these is imported."""
        return list(dict.fromkeys([*self, *self._entry_points()]))

    def find(self, name: str) -> T:
        """The entry of this name; imports the package that offers it.

        Raises:
            UserError: if there is none.
        """
        if name not in self and (offered := self._entry_points().get(name)):
            entry = load(offered)
            if name not in self:
                self[name] = entry
        if name not in self:
            names = ", ".join(self.names())
            raise UserError(ExitCode.CONFIG, f"{self.kind}={name!r} is not one of {names}.")
        return self[name]

    def _entry_points(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=self.group)}
