"""Texts that are changed while they are read: which, how, and that nothing else changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import make_rows, write_csv
from prepared_runs import Prepared, prepare
from training_process import difference_after_kill, largest_difference_of_two_processes

from nlp_transfer import compose, run
from nlp_transfer.config.sections.training import AugmentConfig
from nlp_transfer.errors import UserError
from nlp_transfer.tokenization.encoded import Draw
from nlp_transfer.training.objectives.augmentation import (
    AugmentedTexts,
    change_words,
    mistype,
    mix,
    rows_with_same_label,
)

Typed = Callable[..., list[str]]
EVERYTHING = ("training.augment.word_dropout=0.2", "training.augment.word_swap=0.2")
EVERYTHING += ("training.augment.typos=0.2", "training.augment.mix=0.5")


def test_a_text_loses_about_the_share_of_its_words_and_never_all() -> None:
    generator = np.random.default_rng(0)
    text = " ".join(f"w{i}" for i in range(20))
    lengths = [
        len(change_words(text, AugmentConfig(word_dropout=0.3), generator).split())
        for _ in range(500)
    ]
    assert np.mean(lengths) == pytest.approx(1 + 19 * 0.7, abs=0.3)
    assert change_words("one", AugmentConfig(word_dropout=0.99), generator) == "one"


def test_a_swap_keeps_every_word() -> None:
    generator = np.random.default_rng(0)
    text = "a b c d e f g h"
    swapped = [change_words(text, AugmentConfig(word_swap=0.3), generator) for _ in range(100)]
    assert all(sorted(some.split()) == text.split() for some in swapped)
    assert len(set(swapped)) > 20


def test_a_typing_mistake_is_one_of_four_kinds() -> None:
    generator = np.random.default_rng(0)
    mistakes = Counter(mistype("cat", generator) for _ in range(2000))
    missing, doubled, exchanged = {"at", "ct", "ca"}, {"ccat", "caat", "catt"}, {"act", "cta"}
    beside = {f"{sign}at" for sign in "xvd"} | {f"c{sign}t" for sign in "sqz"}
    beside |= {f"ca{sign}" for sign in "ryg"}
    assert set(mistakes) == missing | doubled | exchanged | beside
    assert all(
        sum(mistakes[word] for word in kind) / 2000 == pytest.approx(0.25, abs=0.04)
        for kind in (missing, doubled, exchanged, beside)
    )
    assert mistype("to", generator) == "to" and mistype("2026", generator) == "2026"
    missing, doubled, exchanged = {"ук", "жк", "жу"}, {"жжук", "жуук", "жукк"}, {"ужк", "жку"}
    others = {mistype("жук", generator) for _ in range(200)}  # of its keyboard nothing is known
    assert others == missing | doubled | exchanged


def test_two_texts_are_mixed_only_where_they_have_the_same_label() -> None:
    generator = np.random.default_rng(0)
    mixed = [mix("a b c d", "A B C D", generator) for _ in range(100)]
    assert set(mixed) == {"a B C D", "a b C D", "a b c D"}
    assert [m.tolist() for m in rows_with_same_label(np.array([1, 0, 1]))] == [[0, 2], [1], [0, 2]]
    several = rows_with_same_label(np.array([[1, 0], [1, 1], [1, 0]], dtype=np.float32))
    assert [m.tolist() for m in several] == [[0, 2], [1], [0, 2]]


def inputs_of(prepared: Prepared, draws: list[Draw], seed: int = 1) -> list[list[int]]:
    train = prepared.encoded.splits["train"]
    augmented = AugmentedTexts.of(prepared.config, prepared.pretrained, train, seed)
    inputs = augmented(draws)
    return [inputs[row]["input_ids"].tolist() for row in range(len(draws))]


def test_what_is_read_depends_on_the_seed_the_epoch_and_the_place_alone(
    typed: Typed, tmp_path: Path
) -> None:
    prepared = prepare(typed(*EVERYTHING), tmp_path / "run")
    draws = [Draw(row, True, 0, place) for place, row in enumerate([5, 7, 5, 9])]
    together = inputs_of(prepared, draws)
    assert [inputs_of(prepared, [draw])[0] for draw in draws] == together
    assert together[0] != together[2], "the same row, read twice in a batch"
    assert inputs_of(prepared, [draw._replace(epoch=1) for draw in draws]) != together
    assert inputs_of(prepared, draws, seed=2) != together


def test_off_by_default_and_then_no_text_is_kept(typed: Typed, tmp_path: Path) -> None:
    prepared = prepare(typed(), tmp_path / "run")
    assert all(split.texts is None for split in prepared.encoded.splits.values())


@pytest.mark.slow
def test_validation_and_test_are_answered_as_they_are(typed: Typed, tmp_path: Path) -> None:
    words = typed("strategy.learning_rate=1e-12", "strategy.epochs=1", "checkpoint.dropout=0")
    plain = run(compose(*words, f"run_dir={tmp_path / 'plain'}")).metrics
    changed = run(compose(*words, *EVERYTHING, f"run_dir={tmp_path / 'changed'}")).metrics
    for split in ("validation", "test"):
        one, other = (figures[split]["metrics"]["log_loss"] for figures in (plain, changed))
        assert one == pytest.approx(other, abs=1e-5)


def test_the_losses_of_training_are_those_of_other_texts(typed: Typed, tmp_path: Path) -> None:
    still = ("strategy.learning_rate=1e-12", "strategy.epochs=1", "checkpoint.dropout=0")
    logs = [
        prepare(typed(*still, *more), tmp_path / "run").train()[0].log
        for more in ((), ("training.augment.word_dropout=0.5",))
    ]
    losses = [[entry["loss"] for entry in log if "loss" in entry] for log in logs]
    assert len(losses[0]) == len(losses[1])
    assert all(one != two for one, two in zip(*losses, strict=True))


def test_a_frozen_part_is_not_stored_where_texts_change(
    typed: Typed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = typed("strategy=top_layers", "strategy.top_layers=1", "training.augment.typos=0.1")
    with caplog.at_level("INFO", logger="nlp_transfer"):
        prepare([*words, "features.cache=on"], tmp_path / "run").train()
    assert "are stored" not in caplog.text


@pytest.mark.slow
def test_folds_learn_from_changed_texts_and_answer_whole_ones(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    file = write_csv(tmp_path / "few.csv", make_rows(40))
    words = ["+task=classify", f"checkpoint.name={checkpoints['bert']}", f"dataset.train={file}"]
    words += ["strategy=contrastive", "strategy.stages.embeddings.steps=3", "checkpoint.dropout=0"]
    words += ["training.cpu=true", "training.threads=1", "strategy.label_names=true"]
    words += ["strategy.stages.embeddings.encoder_learning_rate=1e-12"]
    plain = run(compose(*words, "run_dir=plain")).metrics["cross_validation"]["metrics"]
    changed = run(compose(*words, *EVERYTHING, "run_dir=changed")).metrics["cross_validation"]
    assert changed["metrics"]["log_loss"] == pytest.approx(plain["log_loss"], abs=1e-3)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("strategy=feature_extraction",), "no effect with strategy=feature_extraction"),
        (("tokenization.long_text=windows",), "long_text=windows reads parts of them"),
        (("dataset.text_pair=label",), "mix=0.5 is for single texts"),
        (("training.augment.typos=1.5",), "must be at least 0 and less than 1"),
    ],
)
def test_what_can_have_no_effect_or_would_spoil_labels_is_refused(
    more: tuple[str, ...], said: str, typed: Typed
) -> None:
    with pytest.raises(UserError, match=said):
        run(compose(*typed(*EVERYTHING, *more)))
    assert not Path("runs").exists()


def test_scores_are_not_mixed(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    rows = [(text, str(len(text) / 7)) for text, _ in make_rows(40)]
    file = write_csv(tmp_path / "scores.csv", rows)
    words = ["+task=classify", f"checkpoint.name={checkpoints['bert']}", f"dataset.train={file}"]
    with pytest.raises(UserError, match="mix=0.3 joins two texts with the same label"):
        run(compose(*words, "training.augment.mix=0.3"))


SLOWLY = ("strategy.epochs=3", "checkpoint.dropout=0.1", "training.micro_batch_size=8")
SLOWLY += ("training.checkpoint_minutes=0", "training.keep_best=false")


@pytest.mark.slow
def test_killed_in_mid_epoch_it_ends_in_the_same_weights_to_the_bit(
    typed: Typed, tmp_path: Path
) -> None:
    words = typed(*SLOWLY, *EVERYTHING, "strategy.learning_rate=5e-4")
    assert difference_after_kill(words, tmp_path, 19) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["full", "contrastive"])
def test_two_processes_read_the_texts_of_one(strategy: str, typed: Typed, tmp_path: Path) -> None:
    words = typed(*EVERYTHING, f"strategy={strategy}", "checkpoint.dropout=0")
    assert largest_difference_of_two_processes(words, tmp_path) < 1e-6
