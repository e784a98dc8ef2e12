"""`nlp-transfer suspects`: every row once, wrong labels first, whatever a model has learned."""

from __future__ import annotations

import csv
import functools
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FILLING, NASTY, NICE, write_csv
from prepared_runs import prepare
from sklearn.neighbors import NearestNeighbors

from nlp_transfer import compose, run
from nlp_transfer.cli.main import main
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.features.linear_models import Table, out_of_fold
from nlp_transfer.pipeline import Result
from nlp_transfer.quality.label_errors import (
    Labelled,
    count_votes,
    directions,
    find_suspects,
    nearest,
    probability_of_given,
    vote_of,
)
from nlp_transfer.utils.distributed import join

Typed = Callable[..., list[str]]
CPU = torch.device("cpu")
WRONG = 12  # of the rows


def rows_with_mistakes(count: int) -> tuple[list[tuple[str, str]], set[str]]:
    """Texts that say plainly what they are, and those of them that are labelled wrongly."""
    generator = random.Random(count)
    rows, wrong = [], set()
    for i in range(count):
        words = generator.choices((NICE, NASTY)[i % 2], k=6) + generator.choices(FILLING, k=3)
        label = ("positive", "negative")[i % 2]
        if i < WRONG:
            label = ("negative", "positive")[i % 2]
            wrong.add(" ".join(words))
        rows.append((" ".join(words), label))
    generator.shuffle(rows)
    return rows, wrong


@pytest.fixture(scope="module")
def mistaken(
    typed: Typed, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, set[str], Callable[[str], Result]]:
    """A file with mistakes in it, which they are, and runs on it by strategy."""
    folder = tmp_path_factory.mktemp("mistaken")
    rows, wrong = rows_with_mistakes(160)
    file = write_csv(folder / "train.csv", rows)
    stored = (f"features.folder={folder}/features", f"tokenization.folder={folder}/tokens")
    data = (f"dataset.train={file}", "dataset.validation=null", "dataset.test=null", *stored)

    @functools.cache
    def made(strategy: str) -> Result:
        more = ("strategy.learning_rate=1e-3", "strategy.epochs=4") if strategy == "full" else ()
        options = typed(*data, f"strategy={strategy}", "checkpoint.pooling=mean", *more)
        return run(compose(*options, f"run_dir={folder}/{strategy}"))

    return file, wrong, made


def test_data_that_a_run_names_from_another_folder_is_looked_for_there(
    mistaken: Any, tmp_path: Path
) -> None:
    file, _, made = mistaken
    folder = shutil.copytree(made("feature_extraction").folder, tmp_path / "run")
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace(str(file), "elsewhere.csv"))
    with pytest.raises(UserError, match="the folder in which it was started: type the command"):
        find_suspects(folder, False, None)


def test_wrong_labels_come_first_with_the_label_they_should_have(
    mistaken: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    file, wrong, made = mistaken
    folder = made("feature_extraction").folder
    stores = {store.name for store in (file.parent / "features").iterdir()}
    main(["suspects", str(folder), "--all", "--threads", "1"])
    assert "for another in" in capsys.readouterr().out
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    with Path("suspects.csv").open(newline="") as lines:
        listed = list(csv.DictReader(lines))
    assert sorted(int(row["row"]) for row in listed) == list(range(1, len(rows) + 1))
    for row in listed:
        assert row["source"] == str(file)
        there = rows[int(row["row"]) - 1]
        assert (row["text"], row["label"]) == (there["text"], there["label"])
    assert {row["text"] for row in listed[:WRONG]} == wrong
    assert all(row["suggested"] != row["label"] for row in listed[:WRONG])
    assert max(float(row["probability"]) for row in listed[:WRONG]) < 0.5
    assert sum(row["suggested"] != row["label"] for row in listed[WRONG:]) < 5
    # What the head was solved on is there: only the test split had to be read.
    assert len({store.name for store in (file.parent / "features").iterdir()} - stores) == 1


@pytest.mark.slow
def test_what_a_model_has_learned_is_not_asked(mistaken: Any) -> None:
    _, _, made = mistaken
    frozen, tuned = (find_suspects(made(name).folder) for name in ("feature_extraction", "full"))
    assert frozen.table.equals(tuned.table)
    assert set(frozen.table["split"].to_pylist()) == {"train"}


def test_neighbours_are_the_likest_others() -> None:
    x = directions(np.random.default_rng(0).normal(size=(1500, 6)).astype(np.float32))
    indices = nearest(x, 7, CPU)
    search = NearestNeighbors(n_neighbors=7, metric="cosine").fit(x)
    assert (indices == search.kneighbors(return_distance=False)).mean() > 0.999
    assert not (indices == np.arange(1500)[:, None]).any()


def test_a_rare_label_is_believed_where_all_of_its_rows_are_neighbours() -> None:
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2])
    rows = Labelled(np.zeros((10, 2), np.float32), labels, ("a", "b", "c"))
    theirs = np.array([[0, 0, 0, 1]] * 6 + [[1, 1, 0, 0]] * 2 + [[0, 0, 0, 1]] + [[0, 0, 1, 1]])
    vote = count_votes(theirs, rows)
    assert vote.support.tolist() == [0.75] * 6 + [1.0, 1.0, 0.5, 0.0]
    assert vote.suggested.tolist() == [0] * 10
    assert vote.share.tolist() == [0.75] * 6 + [0.5, 0.5, 0.75, 0.5]
    assert vote.agreement(labels) == 0.6


def test_the_number_of_neighbours_is_the_one_that_agrees_best_with_the_labels() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], [84, 12])
    around = np.eye(2)[labels] + generator.normal(0, 0.05, (96, 2))
    rows = Labelled(directions(around), labels, ("a", "b"))
    # A row of the rare label has eleven others: of 20 neighbours the most, of 50 no longer.
    count, vote = vote_of(rows, None, CPU)
    assert count == 20
    assert vote.agreement(rows.labels) == 1
    assert vote_of(rows, 3, CPU)[0] == 3
    with pytest.raises(UserError, match="96 is too many") as refusal:
        vote_of(rows, 96, CPU)
    assert refusal.value.code is ExitCode.CONFIG


def test_a_row_plays_no_part_in_its_own_probability() -> None:
    generator = np.random.default_rng(0)
    x, folds = generator.normal(size=(60, 4)), np.arange(60) % 5
    labels = (x[:, 0] + generator.normal(0, 0.5, 60) > 0).astype(int)
    before = out_of_fold(2, Table(x, labels, np.ones(60)), folds)
    other = np.where(folds == 3, 1 - labels, labels)
    after = out_of_fold(2, Table(x, other, np.ones(60)), folds)
    np.testing.assert_allclose(after[folds == 3], before[folds == 3], atol=1e-4)
    assert np.abs(after - before)[folds != 3].min() > 1e-3
    assert (before.argmax(axis=1) == labels).mean() > 0.7


def test_a_label_with_one_row_is_in_the_list_too() -> None:
    generator = np.random.default_rng(0)
    labels = np.array([*[0, 1, 2] * 12, 3])
    x = directions(generator.normal(size=(37, 8)) + 3 * np.eye(4, 8)[labels])
    probability = probability_of_given(Labelled(x, labels, ("a", "b", "c", "d")), seed=0)
    assert probability[-1] < 1e-6
    assert np.median(probability[:-1]) > 0.5


def test_of_a_document_in_windows_there_is_one_vector(typed: Typed, tmp_path: Path) -> None:
    from nlp_transfer.features.cache import mean_features

    features = {}
    windows = ("tokenization.long_text=windows", "tokenization.max_length=12")
    for name, more in {"whole": (), "windows": windows}.items():
        prepared = prepare(typed(*more), tmp_path / name)
        config, process = prepared.config, join(prepared.config.training)
        arguments = (prepared.pretrained, prepared.encoded, config.features, process)
        features[name] = mean_features(*arguments)
        sizes = {split: len(rows) for split, rows in prepared.corpus.splits.items()}
        assert {split: len(x) for split, x in features[name].items()} == sizes
    assert prepared.encoded.splits["train"].inputs.windows is not None
    assert not np.allclose(features["whole"]["train"], features["windows"]["train"], atol=1e-2)


@pytest.mark.parametrize(
    ("typed_too", "message", "code"),
    [
        (("--out", "nowhere/suspects.csv"), "no folder nowhere", ExitCode.CONFIG),
        (("--out", "suspects.doc"), "no table of this kind is written", ExitCode.CONFIG),
        (("--out", "kept.csv"), "is there already", ExitCode.CONFIG),
        (("--neighbours", "500"), "is too many", ExitCode.CONFIG),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_lost(
    mistaken: Any,
    capsys: pytest.CaptureFixture[str],
    typed_too: tuple[str, ...],
    message: str,
    code: ExitCode,
) -> None:
    Path("kept.csv").write_text("gone through already")
    with pytest.raises(SystemExit) as caught:
        main(["suspects", str(mistaken[2]("feature_extraction").folder), *typed_too])
    assert caught.value.code == code
    assert message in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["kept.csv"]
    assert Path("kept.csv").read_text() == "gone through already"


@pytest.mark.slow
def test_folders_and_data_that_cannot_be_asked_are_refused(
    mistaken: Any, typed: Typed, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="is not a run"):
        find_suspects(mistaken[2]("feature_extraction").model)
    rows = [(text, f"{i / 7:.3f}") for i, (text, _) in enumerate(rows_with_mistakes(40)[0])]
    scores = write_csv(tmp_path / "scores.csv", rows)
    files = [f"dataset.{split}={scores}" for split in ("train", "validation", "test")]
    options = typed(*files, "strategy=feature_extraction", f"run_dir={tmp_path}/run")
    done = run(compose(*options))
    with pytest.raises(UserError, match="have scores") as refusal:
        find_suspects(done.folder)
    assert refusal.value.code is ExitCode.CONFIG
    write_csv(scores, rows[1:])
    with pytest.raises(UserError, match="has changed") as refusal:
        find_suspects(done.folder)
    assert refusal.value.code is ExitCode.DATA
