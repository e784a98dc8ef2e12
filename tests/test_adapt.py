"""What an encoder learns from texts alone: which, by which loss, only once, and that it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ARCHITECTURES, QUIETLY, make_rows, write_csv
from datasets import Dataset, DatasetDict
from prepared_runs import prepare
from tiny_models import make_tokenizer
from training_process import difference_after_kill, largest_difference_of_two_processes
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from nlp_transfer import compose, run
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.corpus import load_run_corpus
from nlp_transfer.data.memory import tables_by_split, with_tables
from nlp_transfer.data.unlabeled import read_unlabeled
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.models.checkpoints.masked_lm import MaskedLMHead, last_states
from nlp_transfer.tokenization.batches import encode_texts
from nlp_transfer.tokenization.encoded import Draw, EncodedSplit
from nlp_transfer.tokenization.encoding import collator_of
from nlp_transfer.training.losses import LossOptions
from nlp_transfer.training.objectives.adaptation import (
    NOT_MASKED,
    MaskedRows,
    adaptation_texts,
    simcse,
)

Typed = Callable[..., list[str]]


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny checkpoints with a masked-language-model head, by architecture."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    shape |= {"intermediate_size": 64}
    distil = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
    folders = {}
    for name in ARCHITECTURES:
        tokenizer = make_tokenizer("roberta" if name == "roberta" else "bert", name == "bert")
        size = {"vocab_size": len(tokenizer)}
        torch.manual_seed(0)
        model: Any
        if name == "bert":
            config = BertConfig(**size, **shape, max_position_embeddings=64, pad_token_id=0)
            model = BertForMaskedLM(config)
        elif name == "roberta":
            model = RobertaForMaskedLM(
                RobertaConfig(**size, **shape, max_position_embeddings=66, pad_token_id=1)
            )
        else:
            model = DistilBertForMaskedLM(
                DistilBertConfig(**size, **distil, max_position_embeddings=64, pad_token_id=0)
            )
        folders[name] = tmp_path_factory.mktemp("masked") / name
        model.save_pretrained(folders[name])
        tokenizer.save_pretrained(folders[name])
    return folders


@pytest.fixture(scope="module")
def more_texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 200 texts without a label."""
    path = tmp_path_factory.mktemp("more") / "more.csv"
    path.write_text("\n".join(["text", *(text for text, _ in make_rows(200, seed=77))]))
    return path


def by_masks(folder: Path, more: Path, *words: str) -> list[str]:
    return [f"checkpoint.name={folder}", "strategy.adapt=mlm", f"dataset.unlabeled={more}", *words]


@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_masked_loss_is_the_librarys(
    architecture: str, pooling: str, masked: dict[str, Path], typed: Typed, tmp_path: Path
) -> None:
    words = typed(f"checkpoint.name={masked[architecture]}", f"checkpoint.pooling={pooling}")
    prepared = prepare(words, tmp_path / "run")
    rows = MaskedRows(
        prepared.encoded.splits["train"],
        prepared.encoded.collator,
        prepared.pretrained.tokenizer,
        3,
    )
    batch = rows.__getitems__([Draw(row, True, 0, row) for row in range(8)])
    labels = batch.pop("labels")
    model = prepared.pretrained.model.eval()
    head = MaskedLMHead(prepared.config.checkpoint, prepared.pretrained)
    with torch.no_grad(), last_states(prepared.pretrained) as states:
        model(**batch)
        targets = labels[:, 1:]
        places = targets != NOT_MASKED
        logits = head(states()[places])
        ours = torch.nn.functional.cross_entropy(logits, targets[places].long())
        whole = {"bert": BertForMaskedLM, "roberta": RobertaForMaskedLM}.get(
            architecture, DistilBertForMaskedLM
        )
        theirs = whole.from_pretrained(masked[architecture]).eval()
        expected = theirs(**batch, labels=targets.long().masked_fill(~places, -100)).loss
    assert float(ours) == pytest.approx(float(expected), abs=1e-6)


def test_tokens_are_masked_as_bert_does_and_depend_on_seed_epoch_and_place_alone(
    typed: Typed, tmp_path: Path
) -> None:
    prepared = prepare(typed(), tmp_path / "run")
    tokenizer = prepared.pretrained.tokenizer
    split = prepared.encoded.splits["train"]
    rows = MaskedRows(split, prepared.encoded.collator, tokenizer, 3)
    draws = [Draw(i % len(split.labels), True, 0, i) for i in range(2000)]
    batch = rows.__getitems__(draws)
    targets, ids = batch["labels"][:, 1:], batch["input_ids"]
    plain = prepared.encoded.collator.pad(split.inputs, [d.row for d in draws])["input_ids"]
    places = targets != NOT_MASKED
    special = torch.tensor(tokenizer.all_special_ids)
    assert not (places & torch.isin(plain, special)).any()
    assert torch.equal(targets[places].long(), plain[places])
    assert torch.equal(ids[~places], plain[~places])
    assert torch.equal(batch["labels"][:, 0].long(), places.sum(dim=1))
    share = float(places.sum() / (~torch.isin(plain, special)).sum())
    assert share == pytest.approx(0.15, abs=0.01)
    hidden = ids[places] == tokenizer.mask_token_id
    assert float(hidden.float().mean()) == pytest.approx(0.8, abs=0.02)
    assert float((ids[places] == plain[places]).float().mean()) == pytest.approx(0.1, abs=0.02)
    alone = rows.__getitems__([draws[7]])
    length = alone["input_ids"].shape[1]
    assert torch.equal(alone["input_ids"][0], ids[7, :length])
    other = rows.__getitems__([draws[7]._replace(epoch=1)])
    assert not torch.equal(other["labels"], alone["labels"])


def test_the_loss_of_two_passes_is_that_of_the_paper() -> None:
    z = torch.nn.functional.normalize(torch.randn(6, 5), dim=1).double()
    answers = torch.tensor([4.0, 1, 2, 4, 1, 2])[:, None]
    expected = [
        -torch.log(
            torch.exp(z[i] @ z[(i + 3) % 6] / 0.05)
            / sum(torch.exp(z[i] @ z[j] / 0.05) for j in range(6) if j != i)
        )
        for i in range(6)
    ]
    loss = simcse(z.float(), answers, LossOptions(temperature=0.05))
    assert loss.tolist() == pytest.approx([float(e) for e in expected], abs=1e-4)


@pytest.mark.parametrize("adapt", ["mlm", "contrastive"])
def test_the_layers_of_the_encoder_learn_and_nothing_else(
    adapt: str, masked: dict[str, Path], more_texts: Path, typed: Typed, tmp_path: Path
) -> None:
    words = by_masks(masked["bert"], more_texts, f"strategy.adapt={adapt}")
    prepared = prepare(typed(*words, "checkpoint.pooling=mean"), tmp_path / "run")
    before = prepared.weights()
    history = prepared.train(prepared.stages[:1])[0]
    after = prepared.weights()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    expected = {name for name in before if ".layer.0." in name or ".layer.1." in name}
    assert changed == expected
    assert history.steps == 19  # 101 rows of train and 200 others, in batches of 16
    looks = [entry for entry in history.log if "eval_loss" in entry]
    assert [entry["step"] for entry in looks] == [0, 19]
    assert (adapt == "mlm") is ("eval_perplexity" in looks[0])


def test_masked_tokens_are_learned_and_the_report_says_how_well(
    masked: dict[str, Path], more_texts: Path, typed: Typed
) -> None:
    more = ("strategy.adapt_epochs=10", "strategy.adapt_learning_rate=1e-3")
    words = by_masks(masked["bert"], more_texts, *more, "strategy=feature_extraction")
    result = run(compose(*typed(*words), "run_dir=run"))
    stages = json.loads((result.folder / "run.json").read_text())["stages"]
    assert [stage["name"] for stage in stages] == ["adapt", "head"]
    looks = [entry for entry in stages[0]["log"] if "eval_perplexity" in entry]
    # The words of these texts are drawn, nearly independent of one another: little can be learned.
    assert looks[1]["eval_perplexity"] < 0.95 * looks[0]["eval_perplexity"]
    said = f"perplexity {looks[0]['eval_perplexity']:.4g} → {looks[1]['eval_perplexity']:.4g}"
    assert said in (result.folder / "report.html").read_text()
    assert said in (result.folder / "report.md").read_text()
    assert said in str(result)
    assert stages[1]["best"] is not None


def test_a_sentence_encoder_has_no_head_for_masked_tokens_and_that_is_said_before_training(
    reviews: dict[str, Path],
) -> None:
    words = ["+task=classify", f"dataset.train={reviews['train']}", "strategy.adapt=mlm"]
    with pytest.raises(UserError) as refused:
        run(compose(*words, "run_dir=run"))
    message = str(refused.value)
    assert refused.value.code is ExitCode.CHECKPOINT
    assert "needs a checkpoint with a masked-language-model head" in message
    assert "embedded:all-MiniLM-L6-v2 has none" in message
    assert "Take strategy.adapt=contrastive" in message
    assert not Path("run").exists()


def test_without_dropout_two_passes_are_one(typed: Typed, more_texts: Path) -> None:
    words = typed("strategy.adapt=contrastive", "checkpoint.dropout=0")
    with pytest.raises(UserError, match=r"Add checkpoint\.dropout=0\.1"):
        run(compose(*words, f"dataset.unlabeled={more_texts}"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("dataset.unlabeled=more.csv",), "has no effect: nothing reads these texts"),
        (("strategy.adapt=contrastive", "dataset.text_pair=text_b"), "is for single texts"),
        (("strategy.adapt=mlm", "strategy.adapt_epochs=0"), "adapt_epochs=0"),
        (("strategy.adapt=mlm", "strategy.adapt_learning_rate=0.1"), "would destroy"),
    ],
)
def test_what_cannot_be_is_refused(more: tuple[str, ...], said: str, typed: Typed) -> None:
    with pytest.raises(UserError, match=said):
        compose(*typed(*more))


def test_texts_that_are_like_a_labelled_row_of_any_split_are_left_out(
    typed: Typed, tmp_path: Path, reviews: dict[str, Path]
) -> None:
    twins = []
    for split in ("train", "validation", "test"):
        text = reviews[split].read_text().splitlines()[5].rpartition(",")[0]
        twins += [text, f"{text.upper()}!", f"{text} x" if len(text) > 60 else text]
    new = [text for text, _ in make_rows(30, seed=5)]
    file = tmp_path / "unlabeled.csv"
    file.write_text("\n".join(["text", *twins, *new, new[0]]))
    words = typed("strategy.adapt=contrastive", f"dataset.unlabeled={file}")
    corpus = prepare(words, tmp_path / "run").corpus
    assert corpus.unlabeled is not None
    assert list(corpus.unlabeled["text"]) == new
    assert any("30 of 40 texts" in note for note in corpus.notes)
    file.write_text("\n".join(["text", *twins]))
    with pytest.raises(UserError, match="each is nearly the same as one with a label"):
        prepare(words, tmp_path / "run")


@pytest.mark.parametrize("at_once", [4, 100])
def test_many_texts_are_compared_with_the_labelled_ones_some_at_a_time(
    at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nlp_transfer.data.unlabeled.COMPARED_AT_ONCE", at_once)
    labelled = [
        "the soup was cold and the waiter was rude",
        "a warm and lovely evening with friends",
    ]
    new = [text for text, _ in make_rows(12, seed=5)]
    texts = [new[0], f"{labelled[1]}s", *new, labelled[0], f"The {labelled[0][4:]}!", *new]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    config = DatasetConfig(unlabeled=str(tmp_path / "texts.jsonl"))
    notes: list[str] = []
    rows = read_unlabeled(config, {"train": Dataset.from_dict({"text": labelled})}, notes, None)
    assert rows is not None
    assert rows["text"][:] == new
    assert "12 of 28 texts" in notes[-1]


def test_texts_of_several_files_are_part_of_what_names_the_run(
    typed: Typed, tmp_path: Path
) -> None:
    texts = [text for text, _ in make_rows(30, seed=5)]
    for name, part in (("a", texts[:10]), ("b", texts[10:])):
        (tmp_path / f"{name}.csv").write_text("\n".join(["text", *part]))
    files = f"dataset.unlabeled=[{tmp_path}/a.csv,{tmp_path}/b.csv]"
    by_files = prepare(typed("strategy.adapt=contrastive", files), tmp_path / "run").corpus
    assert by_files.unlabeled is not None
    assert list(by_files.unlabeled["text"]) == texts
    other = prepare(typed(), tmp_path / "run").corpus
    assert other.fingerprint != by_files.fingerprint


def test_texts_come_from_a_split_of_a_dataset_and_from_python(tmp_path: Path) -> None:
    rows = [{"text": text, "label": label} for text, label in make_rows(40)]
    texts = [{"text": text} for text, _ in make_rows(30, seed=5)]
    saved = {"train": Dataset.from_list(rows), "more": Dataset.from_list(texts)}
    DatasetDict(saved).save_to_disk(tmp_path / "saved")
    adapt = ("+task=classify", "strategy.adapt=contrastive")
    by_name = compose(*adapt, f"dataset.name={tmp_path / 'saved'}", "dataset.unlabeled=more")
    tables = tables_by_split({"train": rows, "unlabeled": texts})
    given = with_tables(compose(*adapt), tables)
    for corpus in (load_run_corpus(by_name), load_run_corpus(given, tables)):
        assert corpus.unlabeled is not None
        assert list(corpus.unlabeled["text"]) == [row["text"] for row in texts]
    with pytest.raises(UserError, match="has no split 'mor'"):
        saved_words = (f"dataset.name={tmp_path / 'saved'}", "dataset.unlabeled=mor")
        load_run_corpus(compose(*adapt, *saved_words))


def test_folds_share_what_was_learned_from_texts_that_are_none_of_theirs(
    masked: dict[str, Path], more_texts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_csv(tmp_path / "few.csv", make_rows(40))
    words = ["+task=classify", f"dataset.train={file}", "strategy=feature_extraction", *QUIETLY]
    words += by_masks(masked["bert"], more_texts)
    prepared = prepare(words, tmp_path / "run")
    alone = adaptation_texts(replace(prepared.encoded, unlabeled_alone=True), 1)
    assert alone.held_out is not None
    both = adaptation_texts(prepared.encoded, 1)
    assert both.held_out is not None
    counts = [len(t.learned.labels) + len(t.held_out.labels) for t in (alone, both)]
    assert counts == [200, 240]
    with caplog.at_level("INFO", logger="nlp_transfer"):
        result = run(compose(*words, "run_dir=few"))
    assert caplog.text.count("stage adapt learns") == 1
    assert "cross_validation" in result.metrics


def test_what_was_learned_is_found_again_by_its_content(
    masked: dict[str, Path],
    more_texts: Path,
    typed: Typed,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def adapted(*more: str) -> tuple[bool, dict[str, torch.Tensor]]:
        """Whether it was found, and the weights."""
        words = typed(*by_masks(masked["bert"], more_texts), *more)
        prepared = prepare(words, tmp_path / "run")
        caplog.clear()
        with caplog.at_level("INFO", logger="nlp_transfer"):
            prepared.train(prepared.stages[:1])
        return "stage adapt: found in" in caplog.text, prepared.weights()

    found, first = adapted()
    assert not found
    found, again = adapted("strategy=feature_extraction", "training.label_smoothing=0.1")
    assert found
    encoder = [name for name in first if ".encoder." in name]
    assert encoder and all(torch.equal(first[name], again[name]) for name in encoder)
    for more in ("strategy.adapt_epochs=2", "seed=7", "features.cache=off"):
        assert not adapted(more)[0], more


def test_the_masked_rows_of_a_text_without_words_are_none() -> None:
    tokenizer = make_tokenizer("bert")
    inputs = encode_texts(["", "lovely"], tokenizer, 16)
    rows = MaskedRows(EncodedSplit(inputs, np.arange(2), 0), collator_of(tokenizer), tokenizer, 0)
    batch = rows.__getitems__([Draw(0, True), Draw(1, False)])
    assert batch["labels"][:, 0].tolist() == [0, 0]


SLOWLY = ("training.checkpoint_minutes=0", "training.keep_best=false", "features.cache=off")
SLOWLY += ("strategy.adapt_epochs=2", "strategy.adapt_learning_rate=1e-3", "strategy.epochs=1")


@pytest.mark.slow
@pytest.mark.parametrize("adapt", ["mlm", "contrastive"])
def test_killed_while_it_adapts_it_ends_in_the_same_weights_to_the_bit(
    adapt: str, masked: dict[str, Path], more_texts: Path, typed: Typed, tmp_path: Path
) -> None:
    more = (f"strategy.adapt={adapt}", "checkpoint.dropout=0.1", "training.micro_batch_size=8")
    words = typed(*by_masks(masked["bert"], more_texts), *SLOWLY, *more)
    assert difference_after_kill(words, tmp_path, 19) == 0.0
    logs = [
        json.loads((tmp_path / name / "run.json").read_text())["stages"][0]["log"]
        for name in ("unbroken", "killed")
    ]
    assert logs[0][0] == logs[1][0] and logs[0][-1] == logs[1][-1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("adapt", "dropout", "strategy"),
    # With dropout only a head that is solved learns the same on two processes.
    [("mlm", 0, "full"), ("contrastive", 0.1, "feature_extraction")],
)
def test_two_processes_learn_what_one_does(
    adapt: str,
    dropout: float,
    strategy: str,
    masked: dict[str, Path],
    more_texts: Path,
    typed: Typed,
    tmp_path: Path,
) -> None:
    more = (f"checkpoint.dropout={dropout}", "features.cache=off", f"strategy.adapt={adapt}")
    words = by_masks(masked["bert"], more_texts, f"strategy={strategy}", *more)
    assert largest_difference_of_two_processes(typed(*words), tmp_path) < 1e-6
