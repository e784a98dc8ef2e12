"""Hashes a Python object by its code and content: the same digest in every process."""

from __future__ import annotations

import dis
import functools
import hashlib
import importlib
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

SIMPLE = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))
# What the interpreter keeps in a class, and what does not change its behaviour.
NOT_HASHED = {
    *("__dict__", "__weakref__", "__module__", "__doc__", "__annotations__", "__qualname__"),
    *("__firstlineno__", "__static_attributes__", "__orig_bases__", "__parameters__"),
    *("__abstractmethods__", "_abc_impl", "__annotate__", "__annotations_cache__"),
}
OURS = __name__.partition(".")[0]
# What an object of these types consists of.
PARTS: dict[type, Callable[[Any], tuple[Any, ...]]] = {
    types.MethodType: lambda method: (method.__func__, method.__self__),
    functools.partial: lambda partial: (partial.func, partial.args, partial.keywords),
    staticmethod: lambda method: (method.__func__,),
    classmethod: lambda method: (method.__func__,),
    property: lambda descriptor: (descriptor.fget, descriptor.fset, descriptor.fdel),
    functools.cached_property: lambda descriptor: (descriptor.func,),
    Enum: lambda member: (type(member), member.name),
}
STANDARD_LIBRARY = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
PACKAGES = {"site-packages", "dist-packages"}  # the folders of installed packages


class Unhashable(Exception):
    """Something that has no content, such as an open file or a lock; the message names it."""


def digest_of_object(value: Any) -> str:
    """SHA-256 of a function, a class, or an instance with all that it holds.

    Functions count by their bytecode, their defaults, what they enclose and the global variables
    that they read; what an installed library defines counts by its name and version.

    Raises:
        Unhashable: something in it has no content that could be hashed.
    """
    return _Walk().digest(value)


class _Walk:
    """One traversal of an object; a repeated object is named by its first position."""

    def __init__(self, met: dict[int, int] | None = None) -> None:
        self._met = met or {}
        self._kept: list[Any] = []  # so that no id is used twice

    def digest(self, value: Any) -> str:
        """SHA-256 of the tokens of a value."""
        digest = hashlib.sha256()
        for token in self.tokens(value):
            digest.update(token.encode("utf-8", "surrogatepass"))
            digest.update(b"\0")
        return digest.hexdigest()

    def tokens(self, value: Any) -> Iterator[str]:
        """What stands for a value, in texts."""
        if isinstance(value, SIMPLE) and type(value) in SIMPLE:
            yield f"{type(value).__name__}:{value!r}"
            return
        if id(value) in self._met:
            yield f"met:{self._met[id(value)]}"
            return
        self._met[id(value)] = len(self._met)
        self._kept.append(value)
        yield from self._content(value)

    def _content(self, value: Any) -> Iterator[str]:
        for kind, parts_of in PARTS.items():
            if isinstance(value, kind):
                yield from self._all(kind.__name__, parts_of(value))
                return
        handlers: dict[type, Callable[[Any], Iterator[str]]] = {
            types.CodeType: self._code,
            types.FunctionType: self._function,
            type: self._class,
            set: self._unordered,
            frozenset: self._unordered,
        }
        for kind, handler in handlers.items():
            if isinstance(value, kind):
                yield from handler(value)
                return
        if type(value) in (list, tuple):
            yield from self._all(type(value).__name__, value)
        elif type(value) in (dict, types.MappingProxyType):
            yield from self._unordered(value.items())
        elif isinstance(value, types.ModuleType):
            yield f"module:{value.__name__}:{_version(value.__name__)}"
        elif isinstance(value, np.ndarray) and value.dtype != object:
            content = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
            yield f"array:{value.dtype.str}:{value.shape}:{content}"
        else:
            yield from self._instance(value)

    def _all(self, kind: str, parts: Iterable[Any]) -> Iterator[str]:
        yield f"({kind}"
        for part in parts:
            yield from self.tokens(part)
        yield ")"

    def _unordered(self, parts: Iterable[Any]) -> Iterator[str]:
        """In the order of what they are by themselves: that of a set differs by process."""
        yield "(unordered"
        yield from sorted(_Walk(dict(self._met)).digest(part) for part in parts)
        yield ")"

    def _code(self, code: types.CodeType) -> Iterator[str]:
        yield f"code:{code.co_code.hex()}:{code.co_flags}:{code.co_argcount}"
        yield f"{code.co_kwonlyargcount}:{code.co_posonlyargcount}:{code.co_freevars}"
        yield from self._all("names", (code.co_names, code.co_varnames, code.co_cellvars))
        yield from self._all("constants", code.co_consts)

    def _function(self, function: types.FunctionType) -> Iterator[str]:
        if _is_of_a_library(function):
            yield _reference(function)
            return
        closure = [_enclosed(cell) for cell in function.__closure__ or ()]
        used = {name: function.__globals__[name] for name in _globals_of(function)}
        parts = (function.__code__, function.__defaults__, function.__kwdefaults__, closure)
        yield from self._all(f"function:{function.__name__}", parts)
        for name, value in sorted(used.items()):
            yield from self._all(f"global:{name}", (value,))

    def _class(self, kind: type) -> Iterator[str]:
        if _is_of_a_library(kind):
            yield _reference(kind)
            return
        yield from self._all(f"class:{kind.__qualname__}", kind.__bases__)
        for name, value in sorted(vars(kind).items()):
            if name not in NOT_HASHED and not isinstance(value, types.MemberDescriptorType):
                yield from self._all(f"attribute:{name}", (value,))

    def _instance(self, value: Any) -> Iterator[str]:
        """As pickle takes it apart."""
        if isinstance(value, types.BuiltinFunctionType | np.ufunc):
            owner = getattr(value, "__self__", None)
            if owner is None or isinstance(owner, types.ModuleType):
                yield _reference(value)
                return
        try:
            if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
                yield f"tensor:{value.dtype}"
                yield from self._content(value.detach().cpu().double().numpy())
                return
            parts: Any = value.__reduce_ex__(4)
        except Exception as error:  # each type refuses with an error of its own
            raise Unhashable(f"{type(value).__name__}: {error}") from error
        if isinstance(parts, str):
            yield f"named:{parts}"
            return
        # A function, its arguments, and perhaps a state, items of a list, items of a mapping.
        yield from self._all("instance", [list(p) if isinstance(p, Iterator) else p for p in parts])


def _enclosed(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet assigned
        return None


def _globals_of(function: types.FunctionType) -> set[str]:
    """The global variables that a function, or one inside it, reads."""
    names, codes = set(), [function.__code__]
    while codes:
        code = codes.pop()
        names |= {
            each.argval
            for each in dis.get_instructions(code)
            if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")
        }
        codes += [each for each in code.co_consts if isinstance(each, types.CodeType)]
    return names & {*function.__globals__}


def _is_of_a_library(value: Any) -> bool:
    """Whether the standard library, an installed package or this one defines it."""
    name = getattr(value, "__module__", None)
    if name in (None, "__main__"):
        return False
    if name == "builtins" or name.partition(".")[0] == OURS:
        return True
    module = sys.modules.get(name)
    file = getattr(module, "__file__", None)
    if file is None:
        return module is not None and name.partition(".")[0] in sys.stdlib_module_names
    return file.startswith(STANDARD_LIBRARY) or not PACKAGES.isdisjoint(Path(file).parts)


def _reference(value: Any) -> str:
    name = getattr(value, "__qualname__", getattr(value, "__name__", repr(value)))
    module = getattr(value, "__module__", None) or ""
    return f"reference:{module}:{name}:{_version(module)}"


@functools.cache
def _version(module: str) -> str:
    package = module.partition(".")[0]
    try:
        return str(getattr(importlib.import_module(package), "__version__", "")) if package else ""
    except ImportError:
        return ""
