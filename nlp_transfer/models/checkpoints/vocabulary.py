"""Leaves out of a vocabulary what some texts never use, in the words of `tokenizer.json`.

The texts are cut as before, up to the numbers of the tokens: the longest match of WordPiece, the
merges of BPE and the most probable pieces of Unigram are all among the tokens that are kept.
Single characters stay, so that other words fall into pieces instead of becoming unknown.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

KINDS = ("WordPiece", "WordLevel", "BPE", "Unigram")


@dataclass(frozen=True)
class Trimmed:
    """A smaller `tokenizer.json`, and which rows of the embeddings belong to it."""

    state: dict[str, Any]
    kept: list[int]  # the old numbers, in the order of the new ones

    @property
    def numbers(self) -> dict[int, int]:
        """The new number of each old one that is kept."""
        return {old: new for new, old in enumerate(self.kept)}


def trim_vocabulary(state: dict[str, Any], used: Iterable[int]) -> Trimmed:
    """Keep the tokens that are used, special ones, single characters, and what BPE makes them of.

    Args:
        state: of a fast tokenizer, `tokenizer.json`.
        used: token numbers.

    Raises:
        ValueError: for a tokenizer of another kind.
    """
    model = state["model"]
    kind = model.get("type", "BPE" if "merges" in model else None)
    if kind not in KINDS:
        raise ValueError(f"expected a tokenizer of {', '.join(KINDS)}, found {kind}")
    names = _names(model, kind)
    prefix = model.get("continuing_subword_prefix") or ""
    special = {token["id"]: token["content"] for token in state["added_tokens"]}
    ids = {*used, *special} & {*names, *special}
    ids |= {i for i, name in names.items() if len(name.removeprefix(prefix) or name) == 1}
    unknown = model.get("unk_token")
    ids |= {i for i, name in names.items() if name == unknown}
    if kind == "Unigram":
        ids |= {model["unk_id"]} if model.get("unk_id") is not None else set()
        # Bytes stand for characters that no piece has.
        ids |= {i for i, name in names.items() if name.startswith("<0x") and name.endswith(">")}
    if kind == "BPE":
        numbers = {name: i for i, name in names.items()}
        ids |= {numbers[name] for name in _parts(model["merges"], {names.get(i) for i in ids})}
    trimmed = Trimmed(copy.deepcopy(state), sorted(ids))
    _renumber(trimmed, kind, names)
    return trimmed


def _names(model: dict[str, Any], kind: str) -> dict[int, str]:
    if kind == "Unigram":
        return {i: piece for i, (piece, _) in enumerate(model["vocab"])}
    return {i: name for name, i in model["vocab"].items()}


def _pair(merge: str | list[str]) -> tuple[str, str]:
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first, second


def _parts(merges: list[Any], names: set[str | None]) -> set[str]:
    """What the tokens are merged from, down to characters."""
    made: dict[str, list[tuple[str, str]]] = {}
    for first, second in map(_pair, merges):
        made.setdefault(first + second, []).append((first, second))
    parts: set[str] = set()
    waiting = [name for name in names if name is not None]
    while waiting:
        for pair in made.get(waiting.pop(), ()):
            waiting += [part for part in pair if part not in parts]
            parts.update(pair)
    return parts


def _renumber(trimmed: Trimmed, kind: str, names: dict[int, str]) -> None:
    state, numbers = trimmed.state, trimmed.numbers
    model = state["model"]
    if kind == "Unigram":
        model["vocab"] = [model["vocab"][i] for i in trimmed.kept if i in names]
        if model.get("unk_id") is not None:
            model["unk_id"] = numbers[model["unk_id"]]
    else:
        model["vocab"] = {names[i]: numbers[i] for i in trimmed.kept if i in names}
    if kind == "BPE":
        there = model["vocab"]
        model["merges"] = [
            merge
            for merge in model["merges"]
            if {*_pair(merge), "".join(_pair(merge))} <= there.keys()
        ]
    for token in state["added_tokens"]:
        token["id"] = numbers[token["id"]]
    processor = state.get("post_processor")
    for part in [processor, *((processor or {}).get("processors") or ())]:
        _renumber_processor(part or {}, numbers)
    if state.get("padding"):
        state["padding"]["pad_id"] = numbers[state["padding"]["pad_id"]]


def _renumber_processor(processor: dict[str, Any], numbers: dict[int, int]) -> None:
    for token in (processor.get("special_tokens") or {}).values():
        token["ids"] = [numbers[i] for i in token["ids"]]
    for name in ("sep", "cls"):  # [content, number]
        if isinstance(processor.get(name), list):
            processor[name][1] = numbers[processor[name][1]]
