"""Loading: labels, heads, precision, trust, and what is known of a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import ARCHITECTURES
from tiny_models import make_tokenizer
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
)

from nlp_transfer import compose
from nlp_transfer.config.sections.checkpoint import CheckpointConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.checkpoints import source
from nlp_transfer.models.head import last_linear
from nlp_transfer.models.loading import load_pretrained
from nlp_transfer.models.structure import find_structure
from nlp_transfer.runs.identity import run_path

LABELS = ("negative", "neutral", "positive")


def save_classifier(folder: Path, labels: tuple[str, ...], **save: object) -> torch.nn.Module:
    """A tiny fine-tuned classifier with its tokenizer."""
    tokenizer = make_tokenizer("bert")
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(tokenizer), intermediate_size=64, **shape)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    torch.manual_seed(1)
    model = BertForSequenceClassification(config)
    torch.nn.init.normal_(model.classifier.bias)
    model.save_pretrained(folder, **save)
    tokenizer.save_pretrained(folder)
    return model


def ask(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([[2, 7, 9, 3], [2, 8, 8, 3]])).logits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_parameter_has_one_place_in_the_structure(
    architecture: str, checkpoints: dict[str, Path]
) -> None:
    model = load_pretrained(CheckpointConfig(str(checkpoints[architecture])), LABELS, 0).model
    structure = find_structure(model)
    depths = {name: structure.depth(name) for name, _ in model.named_parameters()}
    assert structure.layers == 2
    assert set(depths.values()) == {0, 1, 2, 3}
    for name, depth in depths.items():
        if "embeddings" in name:
            assert depth == 0
        if name.startswith(("classifier", "pre_classifier")) or ".pooler." in name:
            assert depth == 3
        if ".layer.0." in name:
            assert depth == 1


def test_a_head_with_our_labels_in_another_order_is_permuted(tmp_path: Path) -> None:
    saved = save_classifier(tmp_path, ("positive", "negative", "neutral"))
    loaded = load_pretrained(CheckpointConfig(str(tmp_path)), LABELS, 0).model
    assert [loaded.config.id2label[i] for i in range(3)] == list(LABELS)
    torch.testing.assert_close(ask(loaded), ask(saved)[:, [1, 2, 0]], rtol=0, atol=0)


@pytest.mark.parametrize("its_labels", [("a", "b", "c"), ("a", "b"), ("a", "b", "c", "d")])
def test_a_head_with_other_labels_is_made_new_and_the_rest_is_kept(
    tmp_path: Path, its_labels: tuple[str, ...]
) -> None:
    saved = save_classifier(tmp_path, its_labels)
    loaded = load_pretrained(CheckpointConfig(str(tmp_path)), LABELS, 0).model
    before, after = saved.state_dict(), loaded.state_dict()
    assert ask(loaded).shape == (2, 3)
    for name in before:
        if name.startswith("classifier"):
            assert before[name].shape != after[name].shape or not torch.equal(
                before[name], after[name]
            )
        else:
            assert torch.equal(before[name], after[name])


def test_new_weights_are_a_function_of_the_seed(checkpoints: dict[str, Path]) -> None:
    config = CheckpointConfig(str(checkpoints["bert"]))
    heads = [last_linear(load_pretrained(config, LABELS, seed).model).weight for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_a_checkpoint_stored_in_half_precision_loads_in_float32(tmp_path: Path) -> None:
    model = save_classifier(tmp_path, LABELS)
    model.half().save_pretrained(tmp_path)
    loaded = load_pretrained(CheckpointConfig(str(tmp_path)), LABELS, 0).model
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_pickled_weights_are_refused_until_switched_on_by_name(tmp_path: Path) -> None:
    model = save_classifier(tmp_path, LABELS)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="checkpoint.allow_pickle=true") as refusal:
        load_pretrained(CheckpointConfig(str(tmp_path)), LABELS, 0)
    assert refusal.value.code is ExitCode.CHECKPOINT
    trusted = CheckpointConfig(str(tmp_path), allow_pickle=True)
    torch.testing.assert_close(
        ask(load_pretrained(trusted, LABELS, 0).model), ask(model), rtol=0, atol=0
    )


def test_not_pretrained_is_the_same_architecture_with_other_weights(
    checkpoints: dict[str, Path],
) -> None:
    name = str(checkpoints["bert"])
    trained = load_pretrained(CheckpointConfig(name), LABELS, 0).model
    random = load_pretrained(CheckpointConfig(name, pretrained=False), LABELS, 7).model
    assert {n: p.shape for n, p in trained.named_parameters()} == {
        n: p.shape for n, p in random.named_parameters()
    }
    word = "bert.embeddings.word_embeddings.weight"
    assert not torch.equal(trained.state_dict()[word], random.state_dict()[word])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_dropout_is_set_everywhere(architecture: str, checkpoints: dict[str, Path]) -> None:
    config = CheckpointConfig(str(checkpoints[architecture]), dropout=0.0)
    model = load_pretrained(config, LABELS, 0).model
    rates = [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)]
    assert rates
    assert set(rates) == {0.0}
    batch = {"input_ids": torch.tensor([[2, 7, 9, 3]])}
    model.train()
    assert torch.equal(model(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_upper_layers_are_left_out_where_that_is_asked_for(
    architecture: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    name = str(checkpoints[architecture])
    batch = {"input_ids": torch.tensor([[2, 7, 9, 3]])}
    whole = load_pretrained(CheckpointConfig(name), LABELS, 0).model.base_model.eval()
    pretrained = load_pretrained(CheckpointConfig(name, layers=1), LABELS, 0)
    assert pretrained.structure.layers == 1
    pretrained.model.save_pretrained(tmp_path)
    reloaded = AutoModelForSequenceClassification.from_pretrained(tmp_path).base_model.eval()
    with torch.no_grad():
        expected = whole(**batch, output_hidden_states=True).hidden_states[1]
        for model in (pretrained.model.base_model.eval(), reloaded):
            assert torch.equal(model(**batch).last_hidden_state, expected)


@pytest.mark.parametrize("layers", [0, 3])
def test_more_layers_than_there_are_is_one_clear_error(
    layers: int, checkpoints: dict[str, Path]
) -> None:
    with pytest.raises(UserError, match=f"layers={layers} must be from 1 to 2") as error:
        load_pretrained(CheckpointConfig(str(checkpoints["bert"]), layers=layers), LABELS, 0)
    assert error.value.code is ExitCode.CONFIG


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_longest_input_is_what_the_model_can_really_read(
    architecture: str, checkpoints: dict[str, Path]
) -> None:
    pretrained = load_pretrained(CheckpointConfig(str(checkpoints[architecture])), LABELS, 0)
    assert pretrained.max_tokens == 64
    ids = torch.full((1, pretrained.max_tokens), 7)
    assert pretrained.model(input_ids=ids).logits.isfinite().all()


def test_a_folder_that_is_no_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be loaded") as refusal:
        load_pretrained(CheckpointConfig(str(tmp_path)), LABELS, 0)
    assert refusal.value.code is ExitCode.CHECKPOINT


def test_weights_of_another_architecture_are_refused(
    tmp_path: Path, checkpoints: dict[str, Path]
) -> None:
    for file in checkpoints["bert"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = checkpoints["distilbert"] / "model.safetensors"
    (tmp_path / "model.safetensors").write_bytes(weights.read_bytes())
    with pytest.raises(UserError, match="lacks weights of the encoder"):
        load_pretrained(CheckpointConfig(str(tmp_path)), LABELS, 0)


def test_damaged_embedded_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "EMBEDDED_SHA256", "0" * 64)
    with pytest.raises(UserError, match="damaged"):
        load_pretrained(CheckpointConfig(source.EMBEDDED), LABELS, 0)


def test_the_last_linear_layer_gives_the_logits(checkpoints: dict[str, Path]) -> None:
    for folder in checkpoints.values():
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        outputs: list[torch.Tensor] = []
        last_linear(model).register_forward_hook(
            lambda _, __, out, outputs=outputs: outputs.append(out)
        )
        assert torch.equal(ask(model), outputs[0])


def test_damaged_weights_and_weights_that_do_not_fit_are_one_clear_error(tmp_path: Path) -> None:
    save_classifier(tmp_path, LABELS)
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cannot be loaded"):
        load_pretrained(CheckpointConfig(str(tmp_path)), LABELS, 0)
    weights.write_bytes(whole)
    config = json.loads((tmp_path / "config.json").read_text())
    config["hidden_size"] = 64
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"has \[32\], expected \[64\]"):
        load_pretrained(CheckpointConfig(str(tmp_path)), LABELS, 0)


def test_a_local_checkpoint_with_other_weights_is_another_run(tmp_path: Path) -> None:
    save_classifier(tmp_path, LABELS)
    config = compose("+task=sentiment", f"checkpoint.name={tmp_path}")
    before = run_path(config, "corpus")
    assert run_path(config, "corpus") == before
    with (tmp_path / "model.safetensors").open("ab") as file:
        file.write(b"more")
    assert run_path(config, "corpus") != before
