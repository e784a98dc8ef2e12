"""Code and what it holds have one digest, in every process, that changes with them."""

from __future__ import annotations

import functools
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import without_addresses
from sklearn.metrics import cohen_kappa_score
from transformers import TrainerCallback

from nlp_transfer.utils.object_digest import Unhashable, digest_of_object

LIMIT = 3


def define(**names: Any) -> dict[str, Any]:
    """What a module with this text defines, wherever its lines stand."""
    module: dict[str, Any] = {"__name__": "__main__", **names}
    exec(compile(MODULE, "<anywhere>", "exec"), module)
    return module


MODULE = """
from dataclasses import dataclass
from transformers import TrainerCallback

def score(references, decisions, least=2):
    inner = lambda x: x > LIMIT
    return inner(sum(references)) in {"yes", "no", "maybe", "never"} or least

class Tracker(TrainerCallback):
    kinds = frozenset(["loss", "grad_norm", "learning_rate"])
    def __init__(self, every):
        self.every = every
        self.me = {"self": self}
    @property
    def half(self):
        return self.every / 2
    def on_step_end(self, args, state, control, **_):
        return score([state], [])
"""


def digests_of(limit: int, every: int) -> list[str]:
    module = define(LIMIT=limit)
    return [digest_of_object(module["score"]), digest_of_object(module["Tracker"](every))]


@pytest.mark.slow
def test_the_digest_is_the_same_in_another_process() -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_object_digest import digests_of\nprint(*digests_of(3, 5))"
    )
    here = digests_of(3, 5)
    for seed in ("1", "2"):  # by which sets are ordered
        done = subprocess.run(
            [sys.executable, "-c", program, str(Path(__file__).parent)],
            capture_output=True,
            text=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path), "HF_HUB_OFFLINE": "1"},
        )
        assert done.stdout.split() == here, done.stderr


def test_a_global_variable_a_default_and_what_an_instance_holds_count() -> None:
    score, tracker = digests_of(3, 5)
    assert digests_of(4, 5)[0] != score
    assert digests_of(3, 6) == [score, digests_of(3, 6)[1]]
    assert digests_of(3, 6)[1] != tracker

    def power(exponent: int) -> Any:
        return lambda x: x**exponent

    assert digest_of_object(power(2)) == digest_of_object(power(2))
    assert digest_of_object(power(2)) != digest_of_object(power(3))
    partial = functools.partial(power, 2)
    assert digest_of_object(partial) != digest_of_object(functools.partial(power, 3))


@dataclass
class Held:
    values: dict[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.arange(3), np.arange(4)),
        (torch.ones(2), torch.zeros(2)),
        (torch.ones(2, dtype=torch.bfloat16), torch.ones(2)),
        (torch.nn.CrossEntropyLoss(), torch.nn.CrossEntropyLoss(weight=torch.ones(2))),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}),
        ({1, 2}, {1, 3}),
        (Held({"a": [1]}), Held({"a": [2]})),
        ([1, [2]], [1, 2]),
        (cohen_kappa_score, np.mean),
        (True, 1),
    ],
    ids=lambda value: without_addresses(value)[:30],
)
def test_content_counts(one: Any, other: Any) -> None:
    assert digest_of_object(one) == digest_of_object(one) != digest_of_object(other)


def test_the_order_of_a_dict_does_not_count() -> None:
    assert digest_of_object({"a": 1, "b": 2}) == digest_of_object({"b": 2, "a": 1})


class Locked(TrainerCallback):
    def __init__(self) -> None:
        self.lock = threading.Lock()


@pytest.mark.parametrize("value", [Locked(), (x for x in range(3)), sys.stdout])
def test_what_has_no_content_is_named(value: Any) -> None:
    with pytest.raises(Unhashable):
        digest_of_object(value)
