"""Tiny checkpoints with random weights, made in memory."""

from __future__ import annotations

from pathlib import Path

import torch
from conftest import FILLING, LABELS, NASTY, NICE, SAMPLE_TEXTS, THINGS
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)

SPECIAL = {
    "bert": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    "roberta": ["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
}


def make_tokenizer(family: str, segments: bool = False) -> PreTrainedTokenizerFast:
    """A word-level tokenizer with the special tokens and the template of its family."""
    special = SPECIAL[family]
    first, last = ("[CLS]", "[SEP]") if family == "bert" else ("<s>", "</s>")
    unknown = "[UNK]" if family == "bert" else "<unk>"
    tokenizer = Tokenizer(models.WordLevel(unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=special)
    tokenizer.train_from_iterator([" ".join(NICE + NASTY + THINGS + FILLING)], trainer)
    ids = [(token, tokenizer.token_to_id(token)) for token in (first, last)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first}:0 $A:0 {last}:0",
        pair=f"{first}:0 $A:0 {last}:0 $B:1 {last}:1",
        special_tokens=ids,
    )
    names = {"bert": ("[PAD]", "[MASK]"), "roberta": ("<pad>", "<mask>")}[family]
    input_names = ["input_ids", *(["token_type_ids"] if segments else []), "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=unknown,
        pad_token=names[0],
        cls_token=first,
        sep_token=last,
        mask_token=names[1],
        model_max_length=64,
        model_input_names=input_names,
    )


def make_encoder(architecture: str, vocabulary: int) -> torch.nn.Module:
    """Two layers, width 32, random weights."""
    shape = {"vocab_size": vocabulary, "hidden_size": 32, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    match architecture:
        case "bert":
            return BertModel(BertConfig(**shape, max_position_embeddings=64, pad_token_id=0))
        case "roberta":
            return RobertaModel(RobertaConfig(**shape, max_position_embeddings=66, pad_token_id=1))
        case _:
            return DistilBertModel(
                DistilBertConfig(
                    vocab_size=vocabulary,
                    dim=32,
                    n_layers=2,
                    n_heads=2,
                    hidden_dim=64,
                    max_position_embeddings=64,
                    pad_token_id=0,
                )
            )


def save_classifier(encoder: Path, folder: Path) -> Path:
    """A classifier with random weights that finds each of its three labels somewhere."""
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {n: i for i, n in enumerate(LABELS)}}
    config = AutoConfig.from_pretrained(encoder, num_labels=3, **names)
    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(encoder, config=config)
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    with torch.no_grad():
        last = [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]
        last.weight.mul_(50)
        batch = tokenizer(SAMPLE_TEXTS, padding=True, return_tensors="pt")
        last.bias.sub_(model.eval()(**batch).logits.mean(dim=0))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
