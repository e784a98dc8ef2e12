"""What is frozen runs once: split where it is exact, the same losses, nothing computed twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from architectures import ARCHITECTURES
from conftest import slow_but
from prepared_runs import Prepared, prepare
from tiny_models import make_tokenizer

from nlp_transfer.config.choices import Cache
from nlp_transfer.config.sections.features import FeaturesConfig
from nlp_transfer.features.cache import trained_on_features
from nlp_transfer.models.frozen_prefix import Prefix, difference
from nlp_transfer.models.loading import Pretrained
from nlp_transfer.models.strategies.stages import Stage
from nlp_transfer.models.structure import find_structure
from nlp_transfer.tokenization.encoding import encode
from nlp_transfer.utils.cache import PART
from nlp_transfer.utils.distributed import join

Typed = Callable[..., list[str]]
USUAL = ("bert", "roberta", "distilbert", "modernbert_mean")


def stage_of(frozen_layers: int) -> Stage:
    return Stage("some", frozen_layers + 1, 3.0, 1e-3, 1e-3, 1.0)


@pytest.fixture
def any_architecture(request: pytest.FixtureRequest, typed: Typed, tmp_path: Path) -> Prepared:
    """A tiny random classifier of a given architecture on the tiny corpus."""
    prepared = prepare(typed("features.cache=on"), tmp_path / "run")
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(
        ARCHITECTURES[request.param]
    )
    tokenizer = make_tokenizer("bert")
    pretrained = Pretrained(model, tokenizer, find_structure(model), 64)
    encoded = encode(prepared.corpus, tokenizer, 64, prepared.config.tokenization)
    changes = {"pretrained": pretrained, "encoded": encoded}
    return Prepared(**{**vars(prepared), **changes})


@pytest.mark.parametrize("any_architecture", slow_but(USUAL, ARCHITECTURES), indirect=True)
def test_every_boundary_is_split_exactly_and_the_frozen_part_never_runs_in_training(
    any_architecture: Prepared,
) -> None:
    prepared, pretrained = any_architecture, any_architecture.pretrained
    structure, model = pretrained.structure, pretrained.model
    calls: Counter[str] = Counter()
    for name in ("embeddings", *structure.layer_prefixes):
        module = model.get_submodule(name) if "." in name else model.base_model.embeddings
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    for frozen in (3, 2, 1, 0):
        before = {n: p.clone() for n, p in model.named_parameters()}
        process = join(prepared.config.training)
        features = prepared.config.features
        stored = trained_on_features(
            pretrained, prepared.encoded, stage_of(frozen), features, process
        )
        with stored as inside:
            assert "inputs_embeds" in inside.splits["train"].inputs.flat, "it was not split"
        calls.clear()
        prepared.train([stage_of(frozen)])
        below = {"embeddings", *structure.layer_prefixes[:frozen]}
        # The store is there already; only the check of one real batch runs the frozen part.
        checks = 2 if frozen == 3 else 1
        assert all(calls[name] <= 2 * checks for name in below), calls
        assert all(calls[name] > 10 for name in structure.layer_prefixes[frozen:]), calls
        changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
        learned = {n for n in before if stage_of(frozen).learns(structure, n)}
        unused = {n for n in learned if model.get_parameter(n).grad is None and n not in changed}
        assert changed == learned - unused
        assert not unused or all("norm" in n for n in unused)


@pytest.mark.parametrize("any_architecture", ARCHITECTURES, indirect=True)
def test_a_split_differs_by_rounding_only(any_architecture: Prepared) -> None:
    for layers in (3, 2, 1, 0):
        prefix = Prefix(layers, first_token=False, dtype=np.dtype(np.float32))
        error = difference(any_architecture.pretrained, any_architecture.encoded, prefix)
        assert error < 1e-5


@pytest.mark.parametrize("frozen", [2, 1])
def test_training_on_features_gives_the_losses_of_training_on_tokens(
    frozen: int, typed: Typed, tmp_path: Path
) -> None:
    losses, weights = [], []
    for cache in ("on", "off"):
        more = (f"features.cache={cache}", "checkpoint.dropout=0", "training.batch_size=8")
        prepared = prepare(typed(*more), tmp_path / "run")
        history = prepared.train([stage_of(frozen)])[0]
        losses.append([entry["loss"] for entry in history.log if "loss" in entry])
        weights.append(prepared.weights())
    assert len(losses[0]) > 10
    assert max(abs(a - b) for a, b in zip(*losses, strict=True)) < 1e-4
    assert max(float((weights[0][n] - weights[1][n]).abs().max()) for n in weights[0]) < 1e-4


def test_only_the_first_token_is_stored_where_nothing_else_matters(
    typed: Typed, tmp_path: Path
) -> None:
    prepared = prepare(typed(), tmp_path / "run")
    process = join(prepared.config.training)
    for frozen, vectors in (
        (2, 101),
        (1, int(prepared.encoded.splits["train"].inputs.offsets[-1])),
    ):
        features = FeaturesConfig(cache=Cache.on)
        stored = trained_on_features(
            prepared.pretrained, prepared.encoded, stage_of(frozen), features, process
        )
        with stored as inside:
            assert inside.splits["train"].inputs.flat["inputs_embeds"].shape == (vectors, 32)
            assert set(inside.splits) == {"train", "validation", "test"}
            assert "input_ids" in inside.splits["test"].inputs.flat


def test_a_second_run_finds_the_store_and_other_weights_do_not(
    typed: Typed, tmp_path: Path
) -> None:
    stores = Path("runs/.features")
    for rate in ("1e-3", "2e-3"):
        overrides = typed("strategy=feature_extraction", f"strategy.learning_rate={rate}")
        prepare(overrides, tmp_path / "run").train()
        assert len(list(stores.iterdir())) == 1
    written = {file: file.stat().st_mtime_ns for file in stores.glob("*/*.npy")}
    prepare(typed("strategy=feature_extraction"), tmp_path / "run").train()
    assert {file: file.stat().st_mtime_ns for file in stores.glob("*/*.npy")} == written
    other = typed("strategy=feature_extraction", "checkpoint.pretrained=false", "seed=5")
    prepare(other, tmp_path / "run").train()
    assert len(list(stores.iterdir())) == 2


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["features.cache=off"], "features.cache=off"),
        (["strategy.epochs=1"], "in one epoch"),
        (["features.max_gb=1e-6"], "there is room for 0.00"),
    ],
)
def test_a_stage_that_runs_whole_says_why_and_stores_nothing(
    more: list[str], reason: str, typed: Typed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepared = prepare(typed("strategy=feature_extraction", *more), tmp_path / "run")
    with caplog.at_level("INFO", logger="nlp_transfer"):
        prepared.train()
    assert "runs through the whole model" in caplog.text
    assert reason in caplog.text
    assert not list(Path("runs").glob(".features/*"))


def test_the_stores_that_were_not_used_for_longest_are_forgotten(
    typed: Typed, tmp_path: Path
) -> None:
    prepare(typed("strategy=feature_extraction"), tmp_path / "run").train()
    assert list(Path("runs/.features").iterdir())
    # Whoever chose the folder keeps more in it.
    theirs = Path("runs/.features/thesis/chapter.txt")
    theirs.parent.mkdir()
    theirs.write_text("years of work")
    Path("runs/.features/notes.txt").write_text("more")
    prepare(typed("strategy=feature_extraction", "features.keep_gb=0"), tmp_path / "run").train()
    assert {path.name for path in Path("runs/.features").iterdir()} == {"thesis", "notes.txt"}
    assert theirs.read_text() == "years of work"


def test_a_store_that_was_never_finished_is_never_used_and_goes_in_time(
    typed: Typed, tmp_path: Path
) -> None:
    words = typed("strategy=feature_extraction")
    prepare(words, tmp_path / "run").train()
    (store,) = Path("runs/.features").iterdir()
    new = store.rename(f"{store}{PART}new")
    old = Path(f"{store}{PART}old")
    old.mkdir()
    os.utime(old, (0, 0))
    prepare(words, tmp_path / "run").train()
    assert {path.name for path in Path("runs/.features").iterdir()} == {store.name, new.name}


@pytest.mark.slow
def test_two_runs_at_once_want_the_same_store_and_neither_spoils_it(
    typed: Typed, tmp_path: Path
) -> None:
    words = typed("strategy=feature_extraction", f"features.folder={tmp_path / 'stores'}")
    start = [sys.executable, "-m", "nlp_transfer.train", *words]
    runs = [
        subprocess.Popen(
            [*start, f"run_dir={tmp_path / name}", f"strategy.learning_rate={rate}"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name, rate in (("one", "1e-3"), ("two", "2e-3"))
    ]
    hits = 0
    for process in runs:
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output
        hits += output.count("found in")
    assert hits == 1  # the one that came second, or waited
    assert [PART in store.name for store in (tmp_path / "stores").iterdir()] == [False]
    one, two = (json.loads((tmp_path / n / "metrics.json").read_text()) for n in ("one", "two"))
    assert one == two


def test_who_finds_a_store_that_another_run_has_just_renamed_uses_it(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = typed("strategy=feature_extraction")
    first = prepare(words, tmp_path / "one")
    first.train()
    (store,) = Path("runs/.features").iterdir()
    written = store.stat().st_ino
    # The other run was faster: the store appears between the look and the renaming.
    looks = iter([False])
    is_dir = Path.is_dir
    monkeypatch.setattr(Path, "is_dir", lambda path: next(looks, None) is None and is_dir(path))
    second = prepare(words, tmp_path / "two")
    looks = iter([False])
    second.train()
    assert [s.stat().st_ino for s in Path("runs/.features").iterdir()] == [written]
    assert np.array_equal(first.logits("test"), second.logits("test"))


def test_each_stage_of_gradual_unfreezing_stores_what_is_below_its_own_boundary(
    typed: Typed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = typed("strategy=gradual_unfreezing", "strategy.top_layers=1", "strategy.epochs=2")
    prepared = prepare(words, tmp_path / "run")
    with caplog.at_level("INFO", logger="nlp_transfer"):
        prepared.train()
    lines = [line for line in caplog.messages if "the frozen part runs once" in line]
    assert [line.split(":")[0] for line in lines] == ["stage head", "stage top"]
    assert len(list(Path("runs/.features").iterdir())) == 2


def test_a_store_that_no_other_run_can_need_is_deleted(typed: Typed, tmp_path: Path) -> None:
    back_up = "+strategy.stages.again={layers: 0, epochs: 2}"
    prepared = prepare(typed("strategy.epochs=2", back_up), tmp_path / "run")
    assert [stage.pristine for stage in prepared.stages] == [True, False]
    history = prepared.train()
    assert history[1].steps > 0
    assert not list(Path("runs/.features").iterdir())
