"""Rows that are made of texts: which, by whom, and that a fold's teacher has not seen the fold."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import QUIETLY, last_of_each, make_rows, write_csv
from training_process import difference_after_kill, largest_difference_of_two_processes

from nlp_transfer import compose, run
from nlp_transfer.errors import UserError
from nlp_transfer.models.strategies.auto_strategy import candidates
from nlp_transfer.pipeline import prepare
from nlp_transfer.run_setup import set_up
from nlp_transfer.runs.folder import open_run
from nlp_transfer.tokenization.subsets import select_documents
from nlp_transfer.training.self_training import rows_to_learn, surest_rows

Words = Callable[..., list[str]]


@pytest.fixture
def words(checkpoints: dict[str, Path], tmp_path: Path) -> Words:
    """What a person types for so many rows, and 300 texts without a label."""
    more = tmp_path / "more.csv"
    more.write_text("\n".join(["text", *(text for text, _ in make_rows(300, seed=77))]))

    def typed(rows: int, *words: str) -> list[str]:
        file = write_csv(tmp_path / f"{rows}.csv", make_rows(rows))
        about = ["+task=classify", f"checkpoint.name={checkpoints['bert']}", *QUIETLY]
        about += [f"dataset.train={file}", f"dataset.unlabeled={more}"]
        about += ["checkpoint.pooling=mean", "strategy=feature_extraction"]
        return last_of_each(*about, "strategy.self_training=true", *words)

    return typed


def test_the_surest_texts_become_rows_as_many_of_each_label() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(400, 3)) + [1.0, 0.0, 0.0]
    chosen = surest_rows(logits)
    answers = logits.argmax(axis=1)
    assert np.bincount(answers[chosen]).tolist() == [33, 33, 33]  # a quarter of the texts
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for label in range(3):
        ours = answers == label
        taken = np.isin(np.arange(400), chosen) & ours
        left = probabilities[ours & ~taken, label]
        assert probabilities[taken, label].min() >= left.max()
    assert len(surest_rows(np.repeat(logits, 10, axis=0))) == 3 * 64
    assert len(surest_rows(logits[:5])) >= 1


def test_the_teacher_of_a_fold_does_not_depend_on_the_labels_that_the_fold_holds_out(
    words: Words, tmp_path: Path
) -> None:
    rows = make_rows(40)
    learned = []
    for name, swapped in (("as_they_are", False), ("others", True)):
        folds = np.arange(40) // 2 % 2  # two rows each, of both labels
        other = {"positive": "negative", "negative": "positive"}
        changed = [
            (text, other[label] if swapped and fold == 0 else label)
            for (text, label), fold in zip(rows, folds, strict=True)
        ]
        file = write_csv(tmp_path / f"{name}.csv", changed)
        setup = set_up(compose(*words(40, f"dataset.train={file}", f"run_dir={name}")))
        with open_run(setup.config, setup.corpus.fingerprint, setup.process) as folder:
            context = prepare(setup, folder).context
            [recipe] = candidates(setup.config, setup.corpus, "bert")
            part = select_documents(context.train_rows, folds != 0)
            encoded = replace(context.encoded, splits={"train": part})
            with_answers = rows_to_learn(context, recipe, encoded, folder)
        assert len(with_answers.labels) > len(part.labels) + 20
        learned.append(with_answers)
    assert np.array_equal(learned[0].labels, learned[1].labels)
    ids = [split.inputs.flat["input_ids"] for split in learned]
    assert np.array_equal(*ids)


def test_a_run_learns_from_its_own_answers_and_says_it(
    words: Words, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="nlp_transfer"):
        result = run(compose(*words(40), "run_dir=run"))
    assert "of 300 texts become rows" in caplog.text
    about = json.loads((result.folder / "run.json").read_text())
    assert about["state"] == "finished" and about["verified"]
    assert result.metrics["cross_validation"]["rows"] == 40


@pytest.mark.slow
def test_changed_texts_are_those_of_answered_rows_too(words: Words) -> None:
    more = ("strategy=contrastive", "strategy.stages.embeddings.steps=3")
    run(
        compose(
            *last_of_each(*words(40), *more, "training.augment.word_dropout=0.1", "run_dir=run")
        )
    )
    assert Path("run/model/config.json").is_file()


@pytest.mark.parametrize(
    ("rows", "more", "expected"),
    [
        (120, ("strategy=auto", "strategy.self_training=null"), ["", "", "texts"]),
        (120, ("strategy=auto", "strategy.self_training=false"), ["", ""]),
        (40, ("strategy=auto", "strategy.self_training=null"), [""]),
        (40, ("strategy=auto",), ["texts"]),
        (40, (), ["texts"]),
    ],
)
def test_auto_compares_it_where_a_hundred_rows_can_tell(
    rows: int, more: tuple[str, ...], expected: list[str], words: Words
) -> None:
    adapt = ("strategy.adapt=contrastive",)  # so that the texts are read in any case
    setup = set_up(compose(*words(rows, *more, *adapt)))
    recipes = candidates(setup.config, setup.corpus, "bert")
    assert ["texts" if recipe.self_training else "" for recipe in recipes] == expected
    assert all(recipe.name.endswith("+texts") is recipe.self_training for recipe in recipes)
    assert not any(recipe.expected and recipe.self_training for recipe in recipes[1:])


def test_what_has_nothing_to_answer_is_refused(words: Words, tmp_path: Path) -> None:
    typed = [word for word in words(40) if not word.startswith("dataset.unlabeled")]
    with pytest.raises(UserError, match="answers texts without labels, and there are none"):
        run(compose(*typed))
    scores = [(text, str(len(text) / 7)) for text, _ in make_rows(40)]
    file = write_csv(tmp_path / "scores.csv", scores)
    with pytest.raises(UserError, match=r"expected one label a text, and .* has scores"):
        run(compose(*last_of_each(*words(40), f"dataset.train={file}")))


SLOWLY = ("strategy=full", "strategy.min_steps=0", "strategy.epochs=3", "evaluation.folds=0")
SLOWLY += ("training.checkpoint_minutes=0", "training.keep_best=false", "features.cache=off")


@pytest.mark.slow
@pytest.mark.parametrize("at", [4, 20])  # while the teacher learns, while the student does
def test_killed_in_either_training_it_ends_in_the_same_weights_to_the_bit(
    at: int, words: Words, tmp_path: Path
) -> None:
    typed = words(40, *SLOWLY, "checkpoint.dropout=0.1")
    assert difference_after_kill(typed, tmp_path, at) == 0.0


@pytest.mark.slow
def test_two_processes_learn_what_one_does(words: Words, tmp_path: Path) -> None:
    typed = words(40, *SLOWLY, "checkpoint.dropout=0")
    assert largest_difference_of_two_processes(typed, tmp_path) < 1e-6
