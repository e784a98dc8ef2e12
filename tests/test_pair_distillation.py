"""The warm-up for sentence pairs: its pairs and targets, what it changes, and that it goes on."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES, FILLING, THINGS
from prepared_runs import prepare
from training_process import largest_difference_of_two_processes

from nlp_transfer import compose, run
from nlp_transfer.config.choices import Pooling
from nlp_transfer.config.sections.checkpoint import CheckpointConfig
from nlp_transfer.errors import UserError
from nlp_transfer.models.loading import load_pretrained
from nlp_transfer.models.mean_pooling import with_pooling
from nlp_transfer.tokenization.batches import encode_texts
from nlp_transfer.tokenization.encoded import EncodedSplit
from nlp_transfer.tokenization.encoding import collator_of
from nlp_transfer.tokenization.model_inputs import Pairs, joined
from nlp_transfer.training.objectives.pair_distillation import (
    REGRESSOR,
    PairTexts,
    distillation_split,
    distinct_texts,
    edit,
    generate_pairs,
)
from nlp_transfer.training.optimization.signals import handle_signals

Typed = Callable[..., list[str]]
STEPS = 60
WORDS = ("strategy=pair_similarity", "training.checkpoint_minutes=0", "dataset.text_pair=text_b")
WORDS += (f"strategy.stages.pairs.steps={STEPS}", "training.micro_batch_size=8")
WORDS += ("strategy.stages.pairs.encoder_learning_rate=1e-3",)


def make_pairs(count: int, seed: int) -> list[tuple[str, str, str]]:
    """Pairs whose label says whether they have most of their words in common."""
    generator = random.Random(seed)
    rows = []
    for i in range(count):
        one = [generator.choice(FILLING + THINGS) for _ in range(generator.randint(4, 8))]
        two = [generator.choice(FILLING + THINGS) for _ in range(generator.randint(4, 8))]
        if i % 2:
            two = [*one]
            two[generator.randrange(len(two))] = generator.choice(THINGS)
        rows.append((" ".join(one), " ".join(two), "same" if i % 2 else "other"))
    return rows


ROWS = make_pairs(24, 5)


@pytest.fixture
def words(typed: Typed, tmp_path: Path) -> Callable[..., list[str]]:
    """What a person types for pairs."""
    files = []
    for seed, (split, count) in enumerate({"train": 40, "validation": 60, "test": 20}.items()):
        with (tmp_path / f"{split}.csv").open("w", newline="") as file:
            header = ("text", "text_b", "label")
            csv.writer(file).writerows([header, *make_pairs(count, seed)])
        files.append(f"dataset.{split}={tmp_path / f'{split}.csv'}")
    return lambda *more: typed(*WORDS, *more, *files)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_pairs_are_made_of_the_texts_and_described_by_their_separate_embeddings(
    architecture: str, checkpoints: dict[str, Path]
) -> None:
    config = CheckpointConfig(name=str(checkpoints[architecture]))
    pretrained = with_pooling(load_pretrained(config, ("a", "b"), 0), Pooling.mean)
    tokenizer = pretrained.tokenizer
    rows = make_pairs(12, 0)
    texts = list(dict.fromkeys(text for one, two, _ in rows for text in (one, two)))
    labelled_pairs = Pairs([one for one, _, _ in rows], [two for _, two, _ in rows])
    train = EncodedSplit(encode_texts(labelled_pairs, tokenizer, 64), np.zeros(12, int), 0)
    assert distinct_texts(train.inputs, tokenizer) == texts
    arguments = (pretrained, train, collator_of(tokenizer))
    made = distillation_split(*arguments, pairs=200, max_length=64, seed=1)
    again = distillation_split(*arguments, pairs=200, max_length=64, seed=1)
    other = distillation_split(*arguments, pairs=200, max_length=64, seed=2)
    assert np.array_equal(made.labels, again.labels)
    assert np.array_equal(made.inputs.flat["input_ids"], again.inputs.flat["input_ids"])
    assert not np.array_equal(made.labels[:, 0], other.labels[:, 0])
    spreads = made.labels.std(axis=0)
    assert spreads[:2] == pytest.approx([3, 1], abs=1e-4)
    assert (np.diff(spreads[1:]) <= 1e-6).all()
    # The first target is the cosine of what the model itself makes of the two texts.
    cosines = []
    for row in range(5):
        alone = joined({name: [tokens] for name, tokens in made.inputs[row].items()})
        sides = distinct_texts(alone, tokenizer)
        assert len(sides) == 2
        batch = tokenizer(sides, padding=True, return_tensors="pt")
        with torch.no_grad():
            states = pretrained.model.eval().base_model(**batch)[0]
        real = batch["attention_mask"][:, :, None]
        means = (states * real).sum(dim=1) / real.sum(dim=1)
        means = means - means.mean(dim=1, keepdim=True)
        cosines.append(float(torch.nn.functional.cosine_similarity(*means, dim=0)))
    line = np.polyfit(cosines, made.labels[:5, 0], 1)
    assert np.polyval(line, cosines) == pytest.approx(made.labels[:5, 0], abs=2e-3)
    assert line[0] > 0


def test_a_copy_is_edited_and_no_text_becomes_empty() -> None:
    generator = np.random.default_rng(0)
    for text in ("a", "a b", "a b c d e f g h"):
        copies = [edit(text, ["x", "y"], generator).split() for _ in range(200)]
        assert min(map(len, copies)) >= min(len(text.split()), 3)
        assert max(len(copy) - len(text.split()) for copy in copies) <= 3
    alone = generate_pairs(PairTexts(["a b"], np.array([[0]])), 50, generator)
    assert len(alone) == 50
    assert all(alone.first)
    assert all(alone.second)


@pytest.mark.slow
def test_the_stage_changes_the_layers_alone_and_goes_on_where_it_was_stopped(
    words: Callable[..., list[str]], tmp_path: Path
) -> None:
    typed = words("checkpoint.pooling=mean")
    unbroken = prepare(typed, tmp_path / "unbroken")
    structure, before = unbroken.pretrained.structure, unbroken.weights()
    history = unbroken.train()
    after = unbroken.weights()
    assert set(after) == set(before)
    assert not any(REGRESSOR in name for name in after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert {structure.depth(name) for name in changed} == {1, 2, 4}  # the third one averages
    assert {name for name in before if structure.depth(name) in (1, 2)} <= changed
    assert [stage.steps for stage in history] == [STEPS, 0]
    logged = [entry["loss"] for entry in history[0].log]
    assert sum(logged[-10:]) < 0.8 * sum(logged[:10])
    interrupted = prepare(typed, tmp_path / "told")
    targets = []

    def stop(module: torch.nn.Module, *_: object) -> None:
        targets.append(module.training)
        if sum(targets) == 7:  # of two micro-batches a step
            os.kill(os.getpid(), signal.SIGTERM)

    interrupted.pretrained.model.bert.encoder.layer[0].register_forward_hook(stop)
    with handle_signals(), pytest.raises(UserError, match="SIGTERM after step 4"):
        interrupted.train()
    again = prepare(typed, tmp_path / "told", overwrite=False)
    again.train()
    weights = again.weights()
    assert all(torch.equal(weights[name], after[name]) for name in after)


@pytest.mark.slow
def test_auto_takes_it_for_few_pairs_and_warms_up_once_for_all_folds(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "scores.csv"
    with file.open("w", newline="") as stream:
        scored = [(one, two, len({*one.split()} & {*two.split()})) for one, two, _ in ROWS]
        csv.writer(stream).writerows([("text", "text_b", "label"), *scored])
    words = [
        w for w in typed("strategy=auto") if not w.startswith(("dataset.", "evaluation.folds"))
    ]
    overrides = [*words, f"dataset.train={file}", "dataset.text_pair=text_b"]
    overrides.append("dataset.problem=regression")
    made: list[int] = []

    def counted(*arguments: Any, **named: Any) -> EncodedSplit:
        made.append(named["pairs"])
        return distillation_split(*arguments, **named)

    monkeypatch.setattr("nlp_transfer.training.objectives.objective.distillation_split", counted)
    whole = run(compose(*overrides, "run_dir=whole"))
    written = json.loads(Path("whole/run.json").read_text())
    assert written["decisions"]["strategy"] == "pair_similarity"
    assert [stage["steps"] for stage in written["stages"]] == [300, 0]
    assert written["problem"] == "regression"
    assert set(whole.metrics) == {"cross_validation"}
    assert made == [300 * 16]  # neither four folds nor the final model do it again
    with monkeypatch.context() as patch:
        patch.setattr("nlp_transfer.pipeline.train", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(compose(*overrides, "run_dir=killed"))
    again = run(compose(*overrides, "run_dir=killed"))
    assert len(made) == 2
    assert again.metrics == whole.metrics
    one, two = (Path(r.model, "model.safetensors").read_bytes() for r in (whole, again))
    assert one == two
    assert not Path("killed/checkpoints").exists()


def test_what_has_no_pairs_or_no_mean_pooling_is_refused(
    typed: Typed, words: Callable[..., list[str]], tmp_path: Path
) -> None:
    single = prepare(
        typed("strategy=pair_similarity", "checkpoint.pooling=mean"), tmp_path / "single"
    )
    with pytest.raises(UserError, match="is for sentence pairs.*dataset.text_pair"):
        single.train()
    first = prepare(words("checkpoint.pooling=first"), tmp_path / "first")
    with pytest.raises(UserError, match="needs mean pooling: checkpoint.pooling=auto or mean"):
        first.train()


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(
    words: Callable[..., list[str]], tmp_path: Path
) -> None:
    typed = words("checkpoint.dropout=0")
    assert largest_difference_of_two_processes(typed, tmp_path) < 1e-4
