"""Where rows are few none is held out: folds decide and give the figures, all rows are learned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as sk
from conftest import make_rows, slow_but, write_csv
from scipy.special import log_softmax, softmax

from nlp_transfer import Classifier, Result, compose, run
from nlp_transfer.data.corpus import load_run_corpus
from nlp_transfer.data.labels.descriptions import label_texts
from nlp_transfer.data.splits import FoldRule, number_of_folds
from nlp_transfer.errors import UserError
from nlp_transfer.evaluation.paired_difference import PairedDifference
from nlp_transfer.models.strategies.auto_strategy import candidates
from nlp_transfer.problems.ordinal import ORDINAL
from nlp_transfer.problems.single_label import SINGLE_LABEL
from nlp_transfer.problems.soft import SOFT

Typed = Callable[..., list[str]]


@pytest.fixture(scope="module")
def few(typed: Typed, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[str]]:
    """What a person types for one file of 24 rows, without a validation split."""
    file = write_csv(tmp_path_factory.mktemp("few") / "few.csv", make_rows(24))

    def words(*more: str) -> list[str]:
        others = [w for w in typed(*more) if not w.startswith(("dataset.", "evaluation.folds"))]
        return [*others, f"dataset.train={file}"]

    return words


@pytest.fixture(scope="module")
def solved(few: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A finished run whose heads were solved, by folds; it is shared, so nobody writes into it."""
    home = tmp_path_factory.mktemp("solved")
    stores = (f"tokenization.folder={home / 'tokens'}", f"features.folder={home / 'features'}")
    return run(compose(*few("strategy=feature_extraction", *stores, f"run_dir={home / 'run'}")))


def test_nothing_is_held_out_and_the_figures_are_out_of_fold(solved: Result) -> None:
    result, folder = solved, solved.folder
    assert set(result.metrics) == {"cross_validation"}
    assert result.metrics["cross_validation"]["rows"] == 24
    assert set(result.metrics["cross_validation"]["intervals"]) >= {"accuracy", "log_loss"}
    written = json.loads((folder / "run.json").read_text())
    assert written["rows"] == {"train": 24}
    assert written["folds"] == 4
    assert written["verified"]["split"] == "train"
    with np.load(folder / "predictions/cross_validation.npz") as arrays:
        logits, references = arrays["logits"], arrays["references"]
    assert logits.shape == (24, 2)
    accuracy = float((logits.argmax(axis=1) == references).mean())
    assert result.metrics["cross_validation"]["metrics"]["accuracy"] == pytest.approx(accuracy)
    assert result.best == pytest.approx(accuracy)
    assert not (folder / "checkpoints").exists()
    assert len(Classifier.load(result.model).predict(["a lovely film"])) == 1


def test_the_pooling_of_a_fold_is_chosen_without_its_rows(solved: Result) -> None:
    written = json.loads((solved.folder / "run.json").read_text())
    first, *of_folds = written["decisions"]["pooled_layers"]
    assert written["decisions"]["pooled_layer"] == first
    assert len(of_folds) == written["folds"]
    assert {chosen["pooling"] for chosen in (first, *of_folds)} <= {"first", "mean"}


def test_a_killed_fold_is_not_trained_again(
    few: Callable[..., list[str]], solved: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folds that are on the disk are read; the whole run ends in the same weights."""
    words = few("strategy=feature_extraction")
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
    assert again.metrics == solved.metrics
    one, two = (Path(r.model, "model.safetensors").read_bytes() for r in (solved, again))
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

    from nlp_transfer.config.sections.dataset import DatasetConfig

    splits = {"train": Dataset.from_dict({"label": [0] * rows})}
    if held_out is not None:
        splits["validation"] = Dataset.from_dict({"label": [0] * held_out})
    assert number_of_folds(splits, DatasetConfig(), rule) == folds


def test_a_validation_file_that_folds_overrule_is_said_to_be_there(tmp_path: Path) -> None:
    files = (write_csv(tmp_path / f"{split}.csv", make_rows(12)) for split in "ab")
    keys = zip(("train", "validation"), files, strict=True)
    words = [f"dataset.{split}={file}" for split, file in keys]
    notes = load_run_corpus(compose("+task=classify", *words)).notes
    assert any("rows of train, 12 of validation: 4-fold cross-validation" in n for n in notes)
    assert not any("set aside" in note for note in notes)
    named = load_run_corpus(compose("+task=classify", *words, "strategy=feature_extraction"))
    assert not any("cross-validation" in note for note in named.notes)


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
    errors = [SINGLE_LABEL.row_errors(references, logits) for logits in (sure, wrong)]
    assert PairedDifference.of(errors[0], errors[1]).is_lower
    assert PairedDifference.of(errors[1], errors[0]).is_higher
    same = PairedDifference.of(errors[0], errors[0])
    assert not same.is_lower
    assert not same.is_higher
    losses = SINGLE_LABEL.row_losses(references, sure)
    np.testing.assert_allclose(losses, np.log1p(np.exp(-2.0)))


# Of each kind of label: its column for an even and an odd row, and what a figure is of the
# out-of-fold logits and references.
Figure = Callable[[np.ndarray, np.ndarray], float]
KINDS: dict[str, tuple[tuple[Any, Any], str, Figure]] = {
    "single_label": (
        ("negative", "positive"),
        "accuracy",
        lambda logits, references: (logits.argmax(axis=1) == references).mean(),
    ),
    "multi_label": (
        ("bad|short", "good"),
        "f1_micro",
        lambda logits, references: sk.f1_score(references, logits > 0, average="micro"),
    ),
    "regression": (
        (-1.5, 2.5),
        "mse",
        lambda logits, references: ((logits[:, 0] - references) ** 2).mean(),
    ),
    "ordinal": (
        (1, 3),
        "mae",
        lambda logits, references: np.abs(median_class(logits) - references).mean(),
    ),
    "soft": (
        ((3, 1), (0, 4)),
        "log_loss",
        lambda logits, references: -(references * log_softmax(logits, axis=1)).sum(axis=1).mean(),
    ),
}


def median_class(logits: np.ndarray) -> np.ndarray:
    return (np.cumsum(softmax(logits.astype(float), axis=1), axis=1) < 0.5).sum(axis=1)


@pytest.mark.parametrize("kind", slow_but(["multi_label", "regression"], KINDS))
def test_every_kind_of_label_is_measured_out_of_fold(
    kind: str, typed: Typed, tmp_path: Path
) -> None:
    (even, odd), metric, figure = KINDS[kind]
    rows = [
        {"text": text, "label": odd if label == "positive" else even}
        for text, label in make_rows(24)
    ]
    if kind == "soft":
        rows = [{"text": r["text"], "low": r["label"][0], "high": r["label"][1]} for r in rows]
    if kind == "ordinal":
        rows[::5] = [{**row, "label": 2} for row in rows[::5]]
    file = tmp_path / "few.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    options = [w for w in typed() if not w.startswith(("dataset.", "evaluation.folds", "strategy"))]
    options += ["strategy=feature_extraction", f"dataset.train={file}", f"dataset.problem={kind}"]
    options += ["evaluation.thresholds=none", "evaluation.calibrate=false"]
    options += {"soft": ["dataset.label=[low,high]"], "multi_label": ["dataset.delimiter='|'"]}.get(
        kind, []
    )
    result = run(compose(*options, f"evaluation.metrics=[{metric}]", "run_dir=run"))
    assert set(result.metrics) == {"cross_validation"}
    with np.load("run/predictions/cross_validation.npz") as arrays:
        logits, references = arrays["logits"], arrays["references"]
    assert len(logits) == 24
    assert result.best == pytest.approx(figure(logits, references), rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "rows", "expected"),
    [
        ("single_label", 24, ["contrastive"]),
        ("single_label", 120, ["feature_extraction", "contrastive"]),
        ("multi_label", 24, ["contrastive"]),
        ("multi_label", 120, ["feature_extraction", "contrastive"]),
        ("regression", 24, ["feature_extraction"]),
        ("regression", 120, ["feature_extraction", "probe_then_full"]),
        ("ordinal", 24, ["contrastive"]),
    ],
)
def test_auto_takes_what_was_best_for_this_kind_of_label(
    kind: str, rows: int, expected: list[str], typed: Typed, tmp_path: Path
) -> None:
    (even, odd), _, _ = KINDS[kind]
    labels = [odd if label == "positive" else even for _, label in make_rows(rows)]
    texts = [text for text, _ in make_rows(rows)]
    file = write_csv(tmp_path / "few.csv", list(zip(texts, map(str, labels), strict=True)))
    words = [w for w in typed() if not w.startswith(("dataset.", "evaluation.folds", "strategy"))]
    words += [f"dataset.train={file}", f"dataset.problem={kind}"]
    words += ["dataset.delimiter='|'"] if kind == "multi_label" else []
    config = compose(*words)
    recipes = candidates(config, load_run_corpus(config), "bert")
    assert [recipe.strategy.name for recipe in recipes] == expected


def test_the_errors_of_ordered_classes_are_the_steps_of_the_median() -> None:
    logits = np.log([[0.4, 0.3, 0.3], [0.9, 0.05, 0.05], [0.1, 0.1, 0.8]])
    errors = ORDINAL.row_errors(np.array([0, 2, 2]), logits)
    assert errors.tolist() == [1.0, 2.0, 0.0]  # the likeliest class of the first is right


def test_the_errors_of_distributions_do_not_depend_on_the_order_of_the_columns() -> None:
    references = np.array([[0.5, 0.5, 0.0], [0.2, 0.7, 0.1], [0.2, 0.7, 0.1]])
    logits = np.log([[0.1, 0.8, 0.1], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1]])
    errors = SOFT.row_errors(references, logits)
    np.testing.assert_allclose(errors, [0.0, 0.0, 0.5])
    reverse = SOFT.row_errors(references[:, ::-1], logits[:, ::-1])
    np.testing.assert_allclose(errors, reverse)
