"""Configurations of tiny encoders of every architecture that is known to be split or shortened."""

from __future__ import annotations

import transformers

SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
SHAPE |= {"intermediate_size": 64, "vocab_size": 48, "pad_token_id": 0}
ARCHITECTURES = {
    "bert": transformers.BertConfig(**SHAPE),
    "roberta": transformers.RobertaConfig(**SHAPE),
    "xlm_roberta": transformers.XLMRobertaConfig(**SHAPE),
    "distilbert": transformers.DistilBertConfig(
        vocab_size=48, dim=32, n_layers=3, n_heads=2, hidden_dim=64
    ),
    "electra": transformers.ElectraConfig(**SHAPE, embedding_size=16),
    "mpnet": transformers.MPNetConfig(**SHAPE),
    "deberta": transformers.DebertaV2Config(
        **SHAPE,
        relative_attention=True,
        position_buckets=8,
        pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        position_biased_input=False,
        type_vocab_size=0,
    ),
    "modernbert_first_token": transformers.ModernBertConfig(
        **SHAPE, classifier_pooling="cls", local_attention=8, global_attn_every_n_layers=2
    ),
    "modernbert_mean": transformers.ModernBertConfig(
        **SHAPE, classifier_pooling="mean", local_attention=8, global_attn_every_n_layers=2
    ),
}
