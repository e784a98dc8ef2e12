"""Checkpoint folders whose parts do not belong together: one error, or a repair that is said."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import SAMPLE_TEXTS
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_models import make_encoder, make_tokenizer, save_classifier
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForTokenClassification,
    RobertaConfig,
    RobertaModel,
)

from nlp_transfer import Classifier
from nlp_transfer.cli.main import main
from nlp_transfer.config.choices import Pooling
from nlp_transfer.config.sections.checkpoint import CheckpointConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.checkpoints.folder import follow_sentence_encoder
from nlp_transfer.models.loading import load_pretrained, load_tokenizer, refuse_absent_checkpoint

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n"
LABELS = ("x", "y")
Change = Callable[[Path], Any]


def load(folder: Path) -> Any:
    return load_pretrained(CheckpointConfig(str(folder)), LABELS, seed=0)


def edited(folder: Path, name: str, **entries: Any) -> None:
    """A JSON file with other entries; None takes one out."""
    content = {**json.loads((folder / name).read_text()), **entries}
    kept = {key: value for key, value in content.items() if value is not None}
    (folder / name).write_text(json.dumps(kept))


def rewritten(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Weights that were changed in place."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def cut(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])


def linked_to_nothing(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("/nowhere/blob")


def without_a_part(folder: Path) -> None:
    AutoModel.from_pretrained(folder).save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    next(folder.glob("model-00002*")).unlink()


def with_a_tokenizer_of(folder: Path, family: str) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()
    make_tokenizer(family).save_pretrained(folder)


def without_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def zeros(weights: dict[str, torch.Tensor]) -> None:
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    weights[name] = torch.zeros_like(weights[name])


def not_numbers(weights: dict[str, torch.Tensor]) -> None:
    name = next(name for name in weights if name.endswith("layer.0.attention.self.query.weight"))
    weights[name] = torch.full_like(weights[name], torch.nan)


# Folders that neither training nor prediction can use: what is done to a whole one, and the error.
BROKEN: dict[str, tuple[Change, str]] = {
    "no tokenizer": (without_tokenizer, "has no tokenizer"),
    "a described tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
    "a tokenizer that is cut": (lambda f: cut(f, "tokenizer.json"), "tokenizer.json is damaged"),
    "an empty tokenizer": (
        lambda f: (f / "tokenizer.json").write_bytes(b""),
        "tokenizer.json is empty",
    ),
    "a pointer": (lambda f: (f / "tokenizer.json").write_text(POINTER), "git lfs pull"),
    "a pointer for weights": (
        lambda f: (f / "model.safetensors").write_text(POINTER),
        "model.safetensors is a pointer of Git LFS",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "it has no weights"),
    "weights that are cut": (lambda f: cut(f, "model.safetensors"), "damaged or cut off"),
    "a part of the weights": (without_a_part, "of its weights are missing (model-00002"),
    "weights of TensorFlow": (
        lambda f: (f / "model.safetensors").rename(f / "tf_model.h5"),
        "weights of TensorFlow alone",
    ),
    "a link to nothing": (linked_to_nothing, "is a link to /nowhere/blob"),
    "weights that are no numbers": (lambda f: rewritten(f, not_numbers), "that are no numbers"),
    "embeddings of zeros": (lambda f: rewritten(f, zeros), "embeddings of zeros"),
    "fewer layers": (
        lambda f: edited(f, "config.json", num_hidden_layers=1),
        "weights of 2 layers, and its config.json describes 1",
    ),
    "another width": (
        lambda f: edited(f, "config.json", hidden_size=64),
        "has [32], expected [64]",
    ),
    "a description that is cut": (lambda f: cut(f, "config.json"), "config.json is damaged"),
    "a model and an adapter": (
        lambda f: (f / "adapter_config.json").write_text("{}"),
        "holds a whole model (model.safetensors) and an adapter",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_folder_that_is_not_whole_is_one_error_in_training_and_prediction(
    name: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    change, words = BROKEN[name]
    folder = save_classifier(checkpoints["bert"], tmp_path / "folder")
    change(folder)
    for door in (load, Classifier.load):
        with pytest.raises(UserError) as caught:
            door(folder)
        assert words in str(caught.value), str(caught.value)
        assert caught.value.code is ExitCode.CHECKPOINT


@pytest.mark.parametrize(
    ("architecture", "rows", "family", "words"),
    [
        ("bert", 20, "bert", "48 tokens, the embeddings of the model 20 rows"),
        ("bert", 5000, "bert", "48 tokens, the embeddings of the model 5,000 rows"),
        ("roberta", 48, "bert", "pads with token 0, the model with token 1"),
    ],
)
def test_a_tokenizer_of_another_model_is_refused(
    architecture: str, rows: int, family: str, words: str, tmp_path: Path
) -> None:
    make_encoder(architecture, rows).save_pretrained(tmp_path)
    with_a_tokenizer_of(tmp_path, family)
    for door in (load, lambda f: load_tokenizer(CheckpointConfig(str(f)))):
        with pytest.raises(UserError, match="different models") as caught:
            door(tmp_path)
        assert words in str(caught.value)


def test_segments_that_the_model_does_not_have_are_refused(tmp_path: Path) -> None:
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = RobertaConfig(**shape, vocab_size=48, type_vocab_size=1, pad_token_id=1)
    RobertaModel(config).save_pretrained(tmp_path)
    make_tokenizer("roberta", segments=True).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="with segment 1, and the model has 1"):
        load(tmp_path)


def test_added_tokens_get_embeddings_in_training_and_are_refused_in_prediction(
    checkpoints: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save_classifier(checkpoints["bert"], tmp_path / "folder")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<user>", "<url>"])
    tokenizer.save_pretrained(folder)
    before = load_file(folder / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    with caplog.at_level("INFO", "nlp_transfer"):
        model = load(folder).model
    after = model.get_input_embeddings().weight
    assert after.shape[0] == len(tokenizer) == len(before) + 2
    assert torch.equal(after[: len(before)], before)
    assert "2 tokens of the tokenizer get new embeddings: <url>, <user>" in caplog.text
    with pytest.raises(UserError, match="different models"):
        Classifier.load(folder)


@pytest.mark.parametrize(
    "kind",
    [
        BertForTokenClassification,
        BertForQuestionAnswering,
        BertForMaskedLM,
        BertForMultipleChoice,
        AutoModel,
    ],
)
def test_a_model_of_another_task_trains_with_a_new_head_and_answers_nothing(
    kind: Any, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoints["bert"], tmp_path / "folder"))
    kind.from_pretrained(folder).save_pretrained(folder)
    loaded = load(folder)
    assert loaded.model.config.num_labels == len(LABELS)
    assert not loaded.own_head
    with pytest.raises(UserError, match=r"not a classifier of texts.* Train it first"):
        Classifier.load(folder)


def test_a_classifier_without_its_head_answers_nothing(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = save_classifier(checkpoints["bert"], tmp_path / "folder")
    rewritten(folder, lambda weights: weights.pop("classifier.weight"))
    assert not load(folder).own_head
    with pytest.raises(UserError, match=r"weights are missing \(classifier\.weight\)"):
        Classifier.load(folder)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"0": "a", "1": "a", "2": "b"}, "two of its labels have the name 'a'"),
        ({"0": "a", "1": "b"}, r"classifier\.bias has \[3\], expected \[2\]"),
    ],
)
def test_label_names_that_do_not_fit_the_head_are_refused(
    names: dict[str, str], words: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = save_classifier(checkpoints["bert"], tmp_path / "folder")
    edited(folder, "config.json", id2label=names)
    with pytest.raises(UserError, match=words):
        Classifier.load(folder)


def test_a_folder_of_folders_names_the_one_that_is_meant(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(checkpoints["bert"], tmp_path / "out" / "checkpoint-500")
    with pytest.raises(UserError, match=r"its folder checkpoint-500 has: name .*checkpoint-500"):
        load(tmp_path / "out")


# Adapters -------------------------------------------------------------------------------------


def adapter_of(model: Any, folder: Path, task: str = "SEQ_CLS") -> Any:
    """A LoRA adapter whose matrices are not zero."""
    config = LoraConfig(task_type=task, r=2, target_modules=["query", "value"])
    with warnings.catch_warnings(action="ignore", category=FutureWarning):  # PEFT's own
        adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    adapted.save_pretrained(folder)
    return adapted


@pytest.mark.parametrize("task", ["SEQ_CLS", "FEATURE_EXTRACTION"])
def test_an_adapter_is_merged_into_its_base(
    task: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    kind: Any = AutoModelForSequenceClassification if task == "SEQ_CLS" else AutoModel
    options = {"num_labels": 3} if task == "SEQ_CLS" else {}
    base = kind.from_pretrained(checkpoints["bert"], **options)
    adapted = adapter_of(base, tmp_path / "adapter", task).eval()
    loaded = load(tmp_path / "adapter")
    assert not [name for name, _ in loaded.model.named_parameters() if "lora" in name]
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())
    batch = loaded.tokenizer(SAMPLE_TEXTS, padding=True, return_tensors="pt")
    encoder = adapted.base_model.model
    encoder = encoder.bert if task == "SEQ_CLS" else encoder
    with torch.no_grad():
        expected = encoder(**batch).last_hidden_state
        merged = loaded.model.eval().bert(**batch).last_hidden_state
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-5)
    plain = AutoModel.from_pretrained(checkpoints["bert"]).eval()
    with torch.no_grad():
        assert (plain(**batch).last_hidden_state - merged).abs().max() > 1e-2


def test_an_adapter_without_its_base_or_of_another_one_is_one_error(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    base = Path(shutil.copytree(checkpoints["bert"], tmp_path / "base"))
    adapter = tmp_path / "adapter"
    adapter_of(AutoModelForSequenceClassification.from_pretrained(base), adapter)
    with pytest.raises(UserError, match="is an adapter of PEFT"):
        Classifier.load(adapter)
    shutil.copytree(adapter, tmp_path / "empty")
    (tmp_path / "empty" / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"adapter_model\.safetensors is missing or damaged"):
        load(tmp_path / "empty")
    shutil.rmtree(base)
    with pytest.raises(UserError, match=f"its base {base} is not there"):
        load(adapter)
    shutil.copytree(checkpoints["distilbert"], base)
    with pytest.raises(UserError, match="does not fit its base"):
        load(adapter)


# Folders of sentence-transformers -------------------------------------------------------------


def sentence_encoder(source: Path, folder: Path, about: dict[str, Any], inner: str = "") -> Path:
    """The layout that sentence-transformers writes; older versions had an inner folder."""
    shutil.copytree(source, folder / inner)
    modules = [
        {"idx": 0, "name": "0", "path": inner, "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize(
    ("about", "pooling", "words"),
    [
        ({"pooling_mode": "cls"}, Pooling.first, "as its sentence-transformers folder says"),
        (
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
            Pooling.first,
            "checkpoint.pooling=first",
        ),
        ({"pooling_mode_mean_tokens": True}, Pooling.auto, ""),
        ({"pooling_mode_max_tokens": True}, Pooling.auto, "says pooling max, which is not"),
        ({"pooling_mode": "lasttoken"}, Pooling.auto, "says pooling lasttoken"),
    ],
)
def test_the_pooling_of_a_sentence_encoder_is_kept_or_the_difference_is_said(
    about: dict[str, Any],
    pooling: Pooling,
    words: str,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = sentence_encoder(checkpoints["bert"], tmp_path / "folder", about)
    with caplog.at_level("INFO", "nlp_transfer"):
        assert follow_sentence_encoder(CheckpointConfig(str(folder))) is pooling
    assert words in caplog.text
    config = CheckpointConfig(str(folder), pooling=Pooling.mean)
    assert follow_sentence_encoder(config) is Pooling.mean


def test_the_encoder_of_an_old_folder_is_found_inside(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = sentence_encoder(
        checkpoints["bert"], tmp_path / "folder", {"pooling_mode": "mean"}, "0_Transformer"
    )
    assert load(folder).structure.layers == 2


# The whole way --------------------------------------------------------------------------------


def test_training_stops_before_it_writes_where_there_is_no_tokenizer(
    typed: Callable[..., list[str]], checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoints["bert"], tmp_path / "folder"))
    without_tokenizer(folder)
    with pytest.raises(UserError, match="has no tokenizer"):
        refuse_absent_checkpoint(CheckpointConfig(str(folder)))
    with pytest.raises(SystemExit) as refused:
        main(["check", *typed(f"checkpoint.name={folder}")])
    assert refused.value.code == ExitCode.CHECKPOINT
