"""Adapters: only they and the head learn, and merged they are the layers themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from conftest import ARCHITECTURES, slow_but
from prepared_runs import Prepared, prepare
from tiny_models import make_tokenizer

from nlp_transfer import compose, run
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.loading import Pretrained
from nlp_transfer.models.lora import adapted, targets
from nlp_transfer.models.structure import find_structure

Typed = Callable[..., list[str]]
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
SHAPE |= {"intermediate_size": 64, "vocab_size": 48, "pad_token_id": 0}
FAST = ("strategy=lora", "strategy.epochs=2", "strategy.learning_rate=1e-3")
MORE = {
    "electra": transformers.ElectraConfig(**SHAPE, embedding_size=16),
    "mpnet": transformers.MPNetConfig(**SHAPE),
    "modernbert": transformers.ModernBertConfig(**SHAPE, local_attention=8),
    "deberta": transformers.DebertaV2Config(
        **SHAPE, relative_attention=True, pos_att_type=["p2c", "c2p"], share_att_key=True
    ),
}


@pytest.fixture
def adapters(request: pytest.FixtureRequest, typed: Typed, tmp_path: Path) -> Prepared:
    """A tiny classifier of a given architecture under `strategy=lora`."""
    name = request.param
    if name in ARCHITECTURES:
        return prepare(typed(*FAST, architecture=name), tmp_path / "run")
    prepared = prepare(typed(*FAST), tmp_path / "run")
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(MORE[name])
    model.config.id2label = dict(enumerate(prepared.corpus.labels))
    model.config.label2id = {label: i for i, label in enumerate(prepared.corpus.labels)}
    tokenizer = make_tokenizer("bert")
    return Prepared(
        **{
            **vars(prepared),
            "pretrained": Pretrained(model, tokenizer, find_structure(model), 64),
        }
    )


@pytest.mark.parametrize(
    "adapters",
    slow_but(["bert", "distilbert", "modernbert"], [*ARCHITECTURES, *MORE]),
    indirect=True,
)
def test_merged_adapters_change_only_adapted_weights_and_all_of_the_head(
    adapters: Prepared, caplog: pytest.LogCaptureFixture
) -> None:
    model, structure = adapters.pretrained.model, adapters.pretrained.structure
    before = adapters.weights()
    adapted_weights = {f"{name}.weight" for name in targets(model, adapters.stages[0], structure)}
    head = {name for name in before if structure.depth(name) > structure.layers}
    with caplog.at_level("INFO", logger="nlp_transfer"):
        history = adapters.train()[0]
    assert "adapters merged" in caplog.text
    after = adapters.weights()
    assert set(after) == set(before)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    # Relative positions that no text is long enough for, and a key's bias, get no gradient.
    assert adapted_weights <= moved <= adapted_weights | head
    assert {name for name in head if name.endswith("weight") and "norm" not in name} <= moved
    assert history.parameters < sum(p.numel() for p in model.parameters()) / 2
    assert not any("lora" in name for name, _ in model.named_modules())
    assert not hasattr(model, "peft_config")
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_best_epoch_is_handed_back_with_its_adapters_and_its_head(
    typed: Typed, tmp_path: Path
) -> None:
    more = ("strategy=lora", "strategy.epochs=6", "strategy.learning_rate=1e-3")
    best = ("evaluation.best=log_loss", "training.schedule=constant", "training.batch_size=8")
    prepared = prepare(typed(*more, *best), tmp_path / "run")
    history = prepared.train()[0]
    losses = [entry["eval_log_loss"] for entry in history.log if "eval_log_loss" in entry]
    labels = prepared.encoded.splits["validation"].labels
    now = prepared.metrics.compute(prepared.logits("validation"), labels)["log_loss"]
    assert history.best == min(losses)
    assert now == pytest.approx(min(losses), abs=1e-6)


def test_adapters_in_the_top_layers_only_train_on_stored_features(
    typed: Typed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepared = prepare(typed(*FAST, "strategy.stages.adapters.layers=1"), tmp_path / "run")
    before = prepared.weights()
    with caplog.at_level("INFO", logger="nlp_transfer"):
        prepared.train()
    assert "the frozen part runs once" in caplog.text
    structure = prepared.pretrained.structure
    after = prepared.weights()
    assert {structure.depth(n) for n in before if not torch.equal(before[n], after[n])} == {2, 3}


def test_a_merge_that_changes_the_logits_is_refused(typed: Typed, tmp_path: Path) -> None:
    prepared = prepare(typed(*FAST), tmp_path / "run")
    model, structure = prepared.pretrained.model, prepared.pretrained.structure
    stage = prepared.stages[0]
    answers = iter([np.zeros(3), np.full(3, 1e-3)])
    with (
        pytest.raises(UserError, match="changes a logit by 0.001") as refusal,
        adapted(model, stage, structure, lambda: next(answers)),
    ):
        pass
    assert refusal.value.code is ExitCode.TRAINING


def test_an_error_while_adapters_are_in_leaves_a_plain_model(typed: Typed, tmp_path: Path) -> None:
    prepared = prepare(typed(*FAST), tmp_path / "run")
    before = prepared.weights()
    arguments = (prepared.pretrained.model, prepared.stages[0], prepared.pretrained.structure)
    with pytest.raises(RuntimeError, match="power cut"), adapted(*arguments):
        raise RuntimeError("power cut")
    after = prepared.weights()
    assert set(after) == set(before)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_without_peft_the_strategy_says_what_to_install(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nlp_transfer.models.lora.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install 'nlp_transfer\[lora\]'") as refusal:
        run(compose(*typed("strategy=lora", "run_dir=mine")))
    assert refusal.value.code is ExitCode.CONFIG


def test_the_plan_counts_the_adapters(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    run(compose(*typed("strategy=lora", "dry_run=true")))
    output = capsys.readouterr().out
    # Rank 8 beside six maps in each of two layers: four 32x32, one 32x64, one 64x32.
    adapters = 2 * 8 * (4 * (32 + 32) + 2 * (32 + 64))
    head = 32 * 32 + 32 + 2 * 32 + 2
    assert f"{adapters + head:,} of" in output
