"""Where rows are few none is withheld: folds decide and give the figures, all rows are learned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import make_rows, write_csv

from nlp_transfer import Classifier, compose, run
from nlp_transfer.data.labels.descriptions import label_texts
from nlp_transfer.data.splits import FoldRule, number_of_folds
from nlp_transfer.errors import UserError
from nlp_transfer.evaluation.row_losses import PairedDifference, row_errors, row_losses
from nlp_transfer.problems.single_label import SINGLE_LABEL

Typed = Callable[..., list[str]]


@pytest.fixture
def few(typed: Typed, tmp_path: Path) -> Callable[..., list[str]]:
    """What a person types for one file of 24 rows, without a validation split."""
    file = write_csv(tmp_path / "few.csv", make_rows(24))

    def words(*more: str) -> list[str]:
        others = [w for w in typed(*more) if not w.startswith(("dataset.", "evaluation.folds"))]
        return [*others, f"dataset.train={file}"]

    return words


def test_nothing_is_withheld_and_the_figures_are_out_of_fold(few: Callable[..., list[str]]) -> None:
    result = run(compose(*few("strategy=feature_extraction", "run_dir=run")))
    assert set(result.metrics) == {"cross_validation"}
    assert result.metrics["cross_validation"]["rows"] == 24
    assert set(result.metrics["cross_validation"]["intervals"]) >= {"accuracy", "log_loss"}
    written = json.loads(Path("run/run.json").read_text())
    assert written["rows"] == {"train": 24}
    assert written["folds"] == 4
    assert written["verified"]["split"] == "train"
    with np.load("run/predictions/cross_validation.npz") as arrays:
        logits, references = arrays["logits"], arrays["references"]
    assert logits.shape == (24, 2)
    accuracy = float((logits.argmax(axis=1) == references).mean())
    assert result.metrics["cross_validation"]["metrics"]["accuracy"] == pytest.approx(accuracy)
    assert result.best == pytest.approx(accuracy)
    assert not Path("run/checkpoints").exists()
    assert len(Classifier.load(result.model).predict(["a lovely film"])) == 1


def test_a_killed_fold_is_not_trained_again(
    few: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folds that are on the disk are read; the whole run ends in the same weights."""
    words = few("strategy=feature_extraction")
    whole = run(compose(*words, "run_dir=whole"))
    with monkeypatch.context() as patch:
        patch.setattr("nlp_transfer.pipeline.train", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(compose(*words, "run_dir=killed"))
    files = sorted(Path("killed/checkpoints/folds").rglob("*.npy"))
    assert len(files) == 4
    before = [file.stat().st_mtime_ns for file in files]
    files[2].unlink()
    with monkeypatch.context() as patch:
        patch.setattr("nlp_transfer.pipeline.train", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(compose(*words, "run_dir=killed"))
    after = [file.stat().st_mtime_ns for file in files]
    assert [b == a for b, a in zip(before, after, strict=True)] == [True, True, False, True]
    again = run(compose(*words, "run_dir=killed"))
    assert again.metrics == whole.metrics
    one, two = (Path(r.model, "model.safetensors").read_bytes() for r in (whole, again))
    assert one == two


@pytest.mark.parametrize(
    ("rows", "held_out", "rule", "folds"),
    [
        (24, None, FoldRule("auto", False), 4),
        (5, None, FoldRule("auto", False), 2),
        (999, None, FoldRule("auto", False), 4),
        (1000, None, FoldRule("auto", False), 0),  # validation gets its hundred rows
        (24, 50, FoldRule("auto", False), 0),  # a file was given, and no recipe is chosen
        (24, 50, FoldRule("auto", True), 4),
        (24, 100, FoldRule("auto", True), 0),
        (24, None, FoldRule("0", True), 0),
        (5000, 500, FoldRule("7", False), 7),
    ],
)
def test_folds_are_made_where_validation_could_not_decide(
    rows: int, held_out: int | None, rule: FoldRule, folds: int
) -> None:
    from datasets import Dataset

    from nlp_transfer.config.schema import DatasetConfig

    splits = {"train": Dataset.from_dict({"label": [0] * rows})}
    if held_out is not None:
        splits["validation"] = Dataset.from_dict({"label": [0] * held_out})
    assert number_of_folds(splits, DatasetConfig(), rule) == folds


def test_rows_too_few_for_folds_are_refused(typed: Typed, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "two.csv", make_rows(2))
    words = [word for word in typed() if not word.startswith(("dataset.", "evaluation.folds"))]
    with pytest.raises(UserError, match="too few for 2 folds"):
        run(compose(*words, f"dataset.train={file}", "run_dir=run"))


def test_label_names_are_texts_only_where_they_are_words() -> None:
    assert label_texts(["card_arrival", "topUp"]) == ["card arrival", "top up"]
    for names in (["0", "1"], ["LABEL_0", "LABEL_1"], ["no", "yes"], ["HUM", "NUM"], ["a", "A"]):
        assert label_texts(names) is None, names
    assert label_texts(["0", "1"], {"0": "ham", "1": "spam"}) == ["ham", "spam"]
    with pytest.raises(UserError, match="must describe each label"):
        label_texts(["ham", "spam"], {"ham": "an honest message"})


def test_a_difference_counts_beyond_its_standard_error() -> None:
    references = np.zeros(40, dtype=np.int64)
    sure = np.tile([2.0, 0.0], (40, 1))
    wrong = sure.copy()
    wrong[:20] = [0.0, 2.0]
    errors = [row_errors(logits, references, SINGLE_LABEL) for logits in (sure, wrong)]
    assert PairedDifference.of(errors[0], errors[1]).is_lower
    assert PairedDifference.of(errors[1], errors[0]).is_higher
    same = PairedDifference.of(errors[0], errors[0])
    assert not same.is_lower
    assert not same.is_higher
    losses = row_losses(sure, references, SINGLE_LABEL)
    np.testing.assert_allclose(losses, np.log1p(np.exp(-2.0)))
