"""`TextClassifier` and `TextRegressor` keep scikit-learn's contract, for texts."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import shutil
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from conftest import make_rows
from datasets import Dataset
from scipy import sparse
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from transformers import TrainerCallback

from nlp_transfer import Classifier, InputError, Result, TextClassifier, TextRegressor, UserError
from nlp_transfer.errors import ExitCode
from nlp_transfer.estimator.spelling import as_spelt, merged
from nlp_transfer.estimator.targets import Form, encode, in_order, read_targets
from nlp_transfer.estimator.texts import read_texts

TEXTS, LABELS = (list(column) for column in zip(*make_rows(40), strict=True))
QUICK = {"evaluation.folds": 0, "training.cpu": True, "training.threads": 1}
ASKED = ["a lovely warm film", "the dreadful cold soup"]


@pytest.fixture(scope="module")
def tiny(checkpoints: dict[str, Path]) -> Callable[..., TextClassifier]:
    """An estimator that takes a second."""

    def make(**parameters: Any) -> TextClassifier:
        usual = {"strategy": "feature_extraction", "overrides": QUICK}
        return TextClassifier(str(checkpoints["bert"]), **{**usual, **parameters})

    return make


@pytest.fixture(scope="module")
def fitted(tiny: Callable[..., TextClassifier]) -> TextClassifier:
    return tiny().fit(TEXTS, LABELS)


@pytest.fixture(autouse=True)
def _own_temporary_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests that run at the same time write to the usual one, too."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


def temporary_folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("nlp_transfer-*"))


def test_an_estimator_learns_predicts_scores_and_tells_its_figures(fitted: TextClassifier) -> None:
    assert fitted.classes_.tolist() == ["negative", "positive"]
    probabilities = fitted.predict_proba(TEXTS)
    assert probabilities.shape == (40, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    predictions = fitted.predict(TEXTS)
    np.testing.assert_array_equal(predictions, fitted.classes_[probabilities.argmax(axis=1)])
    assert fitted.score(TEXTS, LABELS) == np.mean(predictions == LABELS) > 0.8
    assert isinstance(fitted.report_, Result) and set(fitted.report_.metrics) == {"validation"}
    assert fitted.cross_validation_ is None  # evaluation.folds=0
    assert isinstance(fitted.classifier_, Classifier)
    assert "\n" not in repr(fitted)
    assert is_classifier(fitted) and is_regressor(TextRegressor())


def test_few_rows_are_cross_validated_and_all_of_them_are_learned(
    tiny: Callable[..., TextClassifier],
) -> None:
    model = tiny(overrides={**QUICK, "evaluation.folds": 2}).fit(TEXTS, LABELS)
    figures = model.cross_validation_
    assert figures is not None and figures["rows"] == 40
    assert 0 <= figures["metrics"]["accuracy"] <= 1
    assert len(figures["intervals"]["accuracy"]) == 2


COLUMNS: dict[str, Callable[[list[Any]], Any]] = {
    "a generator": lambda cells: (cell for cell in cells),
    "a tuple": tuple,
    "NumPy": np.array,
    "NumPy objects": lambda cells: np.array(cells, dtype=object),
    "NumPy, one column": lambda cells: np.array(cells)[:, None],
    "pandas, filtered": lambda cells: pd.Series(["", *cells], index=range(9, 50))[
        lambda s: s != ""
    ],
    "pandas, one column": lambda cells: pd.DataFrame({"body": cells}),
    "pandas categories": lambda cells: pd.Series(cells, dtype="category"),
    "polars": pl.Series,
    "Arrow": pa.array,
    "Arrow, chunked": lambda cells: pa.chunked_array([cells[:7], cells[7:]]),
    "datasets": lambda cells: Dataset.from_dict({"body": cells})["body"],
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_texts_and_labels_may_be_any_column(kind: str) -> None:
    column = COLUMNS[kind]
    columns = read_texts(column(TEXTS))
    assert (columns.texts, columns.pairs) == (TEXTS, None)
    assert all(type(text) is str for text in columns.texts)
    warns = pytest.warns(DataConversionWarning) if kind == "NumPy, one column" else nullcontext()
    with warns:
        targets = read_targets(column(LABELS), "auto")
    assert targets.names == ["negative", "positive"]
    assert targets.ids == [int(label == "positive") for label in LABELS]


def test_rows_without_text_are_answered_with_none(fitted: TextClassifier) -> None:
    for missing in (None, float("nan"), pd.NA, "", " \n", "\u200b"):
        predictions = fitted.predict([ASKED[0], missing, ASKED[1]])
        assert predictions[1] is None
        assert list(predictions[[0, 2]]) == fitted.predict(ASKED).tolist()
        assert np.isnan(fitted.predict_proba([missing])).all()
    assert fitted.predict(pd.Series([ASKED[0], None])).tolist()[1] is None
    assert fitted.predict([]).shape == (0,) and fitted.predict_proba([]).shape == (0, 2)
    # Nobody can be right about no text.
    assert fitted.score([*ASKED, None], [*fitted.predict(ASKED), "positive"]) == pytest.approx(
        2 / 3
    )
    # The class that learned nothing of it says the same for a file, a list and a model of ours.
    assert fitted.classifier_.predict(["", "\u200b", None]) == [None] * 3


PAIRS: dict[str, Any] = {
    "tuples": [("a film", "a book"), ("a hotel", "a lamp")],
    "a list with a gap": [["a film", "a book"], None],
    "NumPy": np.array([["a film", "a book"], ["a hotel", "a lamp"]]),
    "pandas": pd.DataFrame({"one": ["a film", "a hotel"], "other": ["a book", "a lamp"]}),
    "polars": pl.DataFrame({"one": ["a film", "a hotel"], "other": ["a book", "a lamp"]}),
    "Arrow": pa.table({"one": ["a film", "a hotel"], "other": ["a book", "a lamp"]}),
    "datasets": Dataset.from_dict({"one": ["a film", "a hotel"], "other": ["a book", "a lamp"]}),
}


@pytest.mark.parametrize("pairs", PAIRS.values(), ids=PAIRS)
def test_two_columns_are_pairs_of_texts(pairs: Any) -> None:
    columns = read_texts(pairs)
    assert columns.texts[0] == "a film" and columns.pairs is not None
    assert columns.pairs[0] == "a book" and columns.answerable[0]
    assert len(columns) == 2


def test_a_model_of_pairs_wants_pairs(
    tiny: Callable[..., TextClassifier], fitted: TextClassifier
) -> None:
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    model = tiny().fit(pairs, LABELS)
    assert model.classifier_.engine.paired
    assert len(model.predict(np.array(pairs[:3]))) == 3
    assert model.predict([("a film", None), ("a film", "a book")])[0] is None
    with pytest.raises(InputError, match="X holds single texts; expected pairs"):
        model.predict(ASKED)
    with pytest.raises(InputError, match="X holds pairs; expected single texts"):
        fitted.predict(pairs)


LABELLINGS: dict[str, tuple[Any, list[Any]]] = {
    "integers": ([9, -1] * 20, [-1, 9]),
    "whole floats": ([1.0, 0.0] * 20, [0.0, 1.0]),
    "booleans": ([True, False] * 20, [False, True]),
}


@pytest.mark.parametrize(("labels", "classes"), LABELLINGS.values(), ids=LABELLINGS)
def test_labels_come_back_as_they_were_given(
    labels: Any, classes: list[Any], tiny: Callable[..., TextClassifier]
) -> None:
    model = tiny().fit(TEXTS, labels)
    assert model.classes_.tolist() == classes
    predictions = model.predict(ASKED)
    assert predictions.dtype == model.classes_.dtype == np.asarray(labels).dtype
    assert model.score(TEXTS, labels) > 0.8


def test_several_labels_are_answered_in_the_form_in_which_they_were_given(
    tiny: Callable[..., TextClassifier],
) -> None:
    lists = [[label, "any"] for label in LABELS]
    model = tiny().fit(TEXTS, lists)
    assert model.classes_.tolist() == ["any", "negative", "positive"]
    assert model.predict_proba(TEXTS).shape == (40, 3)
    predictions = model.predict([TEXTS[0], None])
    assert predictions[0] == ["any", "negative"] and predictions[1] is None
    assert model.score(TEXTS, lists) > 0.8

    frame = pd.DataFrame(
        {label: [int(x == label) for x in LABELS] for label in sorted(set(LABELS))}
    )
    numbers = frame.to_numpy().tolist()
    for matrix in (pl.from_pandas(frame), numbers):
        model = tiny().fit(TEXTS, matrix)
        named = hasattr(matrix, "columns")
        assert model.classes_.tolist() == (["negative", "positive"] if named else [0, 1])
        np.testing.assert_array_equal(model.predict(TEXTS[:2]), [[1, 0], [0, 1]])
        assert model.predict([None, TEXTS[0]]).tolist() == [[None, None], [1, 0]]
        assert model.score(TEXTS, matrix) > 0.8
    compressed = sparse.csr_array(frame)
    assert read_targets(compressed, "auto").ids == read_targets(numbers, "auto").ids
    assert model.score(TEXTS, compressed) == model.score(TEXTS, numbers)


def test_ordered_labels_have_an_order(tiny: Callable[..., TextClassifier]) -> None:
    words = np.array(["low", "middle", "high"])[np.arange(40) % 3]
    kind = pd.CategoricalDtype(["low", "middle", "high"], ordered=True)
    model = tiny(problem="ordinal").fit(TEXTS, pd.Series(words).astype(kind))
    assert model.classes_.tolist() == ["low", "middle", "high"]
    assert "quadratic_kappa" in model.report_.metrics["validation"]["metrics"]
    order = tiny(overrides=["dataset.order=[low,middle,high]"])._config("ordinal").dataset.order
    assert in_order(read_targets(words, "ordinal"), order).names == ["low", "middle", "high"]
    assert in_order(read_targets([3, 1, 2], "ordinal"), None).names == ["1", "2", "3"]
    with pytest.raises(InputError, match="needs the order of the labels .high, low, middle"):
        tiny(problem="ordinal").fit(TEXTS, words)


def test_a_regressor_learns_scores(checkpoints: dict[str, Path]) -> None:
    scores = np.array([float(label == "positive") for label in LABELS]) * 400 + 100
    overrides = {**QUICK, "checkpoint.pooling": "mean"}
    model = TextRegressor(str(checkpoints["bert"]), "feature_extraction", overrides=overrides)
    model.fit(TEXTS, pd.Series(scores))
    assert model.score(TEXTS, scores) > 0.5
    predictions = model.predict([TEXTS[0], None])
    assert predictions.dtype == np.float64 and np.isnan(predictions[1])
    again = TextRegressor.load(model.save("scores"))
    np.testing.assert_array_equal(again.predict(TEXTS), model.predict(TEXTS))
    for wrong, message in (
        ([None] * 40, "y.0. is missing"),
        (["a"] * 40, r"not numbers: y.0. is 'a'"),
        (np.array(["2026-01-02"] * 40, "M8[D]"), "not numbers: y.0. is np.datetime64"),
    ):
        with pytest.raises(InputError, match=message):
            model.fit(TEXTS, wrong)


@pytest.mark.parametrize(
    ("classes", "form", "y", "holds"),
    [
        ([0, 1], Form.labels, ["1", "0"], "y holds '1', .* is 1:"),
        (["0", "1"], Form.labels, [1, 0], "y holds 1, .* is '1':"),
        ([False, True], Form.labels, ["True"], "y holds 'True', .* is True:"),
        ([0, 1], Form.lists, [["1"], [0]], "y holds '1'"),
    ],
)
def test_labels_of_another_type_than_in_fit_are_no_wrong_answers(
    classes: list[Any], form: Form, y: list[Any], holds: str
) -> None:
    with pytest.raises(InputError, match=holds):
        encode(y, np.array(classes), form)
    assert encode([classes[1], None, "new"], np.array(classes), Form.labels).tolist() == [1, -1, -1]


REFUSED: list[tuple[Any, Any, str]] = [
    ("one text", LABELS, r"X is one text; expected a list"),
    ({"text": TEXTS}, LABELS, r'X is a mapping; .*x\["text"\]'),
    (7, LABELS, "X is a int; expected a list"),
    (np.ones(40), LABELS, r"X\[0\] is a number \(1.0\); expected a text"),
    ([b"bytes"] * 40, LABELS, r"X\[0\] is bytes"),
    ([*TEXTS[:39], ("a", "b")], LABELS, r"X\[39\] is"),
    ([("a", "b"), *TEXTS[:39]], LABELS, r"X\[1\] is .*where X\[0\] holds 2 texts"),
    (pd.DataFrame({"a": TEXTS, "b": TEXTS, "c": TEXTS}), LABELS, "X has 3 columns"),
    (np.ones((2, 2, 2)), LABELS, "X has 3 dimensions"),
    ([], [], "y holds 0 classes"),
    (TEXTS, LABELS[:39], "X has 40 texts and y 39 labels; expected one label for each text"),
    (TEXTS, LABELS[:1], "X has 40 texts and y 1 label;"),
    (TEXTS, np.ones((3, 2)), "X has 40 texts and y 3 labels;"),
    (TEXTS, (label for label in LABELS[:39]), "X has 40 texts and y 39 labels"),
    (TEXTS, ["same"] * 40, r"y holds 1 class \('same'\); expected at least two"),
    (TEXTS, [*LABELS[:39], None], r"y\[39\] is missing \(None\)"),
    (TEXTS, [*LABELS[:39], float("nan")], r"y\[39\] is missing \(nan\)"),
    (TEXTS, [*LABELS[:39], 3], r"y mixes texts and numbers: y\[0\] has '.*', y\[39\] has 3"),
    (TEXTS, [{"a": 1}, {"b": 2}] * 20, r"y\[0\] is {'a': 1} .dict.; expected a text"),
    (TEXTS, ["a", '{"choices": ["a"]}'] * 20, r"y\[1\] is an object written as text"),
    (TEXTS, ["['a', 'b']", "['a']"] * 20, r"y\[0\] is a list written as text"),
    (TEXTS, [date(2026, 1, 2), date(2026, 1, 3)] * 20, r"y\[0\] is datetime.date"),
    (TEXTS, np.array(["2026-01-02", "2026-01-03"] * 20, "M8[D]"), r"y\[0\] is np.datetime64"),
    (TEXTS, [b"a", b"b"] * 20, r"y\[0\] is b'a' .bytes."),
    (TEXTS, [["a", None], ["b"]] * 20, r"y\[0\] is None"),
    (TEXTS, ["a", " "] * 20, r"y\[1\] is an empty label"),
    ([*TEXTS[:39], "cut \ud83d"], LABELS, r"X\[39\]: \\ud83d is half of a character"),
    (TEXTS, ["cut \ud83d", "b"] * 20, "half of a character"),
    (TEXTS, np.linspace(0, 1, 40), "continuous"),
    (TEXTS, [["a"]] * 39 + ["b"], r"y\[39\] is 'b', where other rows hold lists"),
    (TEXTS, np.arange(80).reshape(40, 2), "y has 2 columns, and one of them holds 10"),
    ([*TEXTS[:39], None], LABELS, r"1 of the 40 rows of X .train. has an empty text"),
]


@pytest.mark.parametrize(("x", "y", "message"), REFUSED, ids=[each[2] for each in REFUSED])
def test_what_cannot_be_fitted_is_refused_and_leaves_nothing(
    x: Any, y: Any, message: str, tiny: Callable[..., TextClassifier]
) -> None:
    before, model = temporary_folders(), tiny()
    with pytest.raises((UserError, ValueError), match=message):
        model.fit(x, y)
    assert temporary_folders() == before
    with pytest.raises(NotFittedError, match="TextClassifier is not fitted yet: call fit"):
        model.predict(TEXTS)


@pytest.mark.filterwarnings("ignore:The number of unique classes")
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (list(range(40)), "^y: 36 of the 36 rows of train have a label that no other row has "),
        (list(range(40)), "Give labels that .* share. If they are scores, take TextRegressor.$"),
        ([f"{i} kg" for i in range(40)], "write digits and a .* alone .1200.5., and take TextR"),
        ([["a", "a"], ["b", "c"]] * 20, r"^y holds lists of equal length such as \['a', 'a'\]"),
        ([["a", "b"]] * 40, "^Every row of train has .* Check y.$"),
    ],
)
def test_errors_about_labels_name_y(
    y: Any, message: str, tiny: Callable[..., TextClassifier]
) -> None:
    with pytest.raises(UserError, match=message):
        tiny().fit(TEXTS, y)


def test_errors_about_scores_name_y(checkpoints: dict[str, Path]) -> None:
    model = TextRegressor(str(checkpoints["bert"]), overrides=QUICK)
    with pytest.raises(UserError, match="^Every row of train has the score 2.5; .* Check y.$"):
        model.fit(TEXTS, [2.5] * 40)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"problem": "regression"}, "problem='regression'; .*TextRegressor"),
        ({"overrides": "training.batch_size=2"}, "expected a list of overrides, or a mapping"),
        ({"overrides": {"training.batch": 2}}, "training.batch is not a key"),
        ({"overrides": ["dataset.train=x.csv"]}, "names data too"),
        ({"overrides": ["dataset.text=body"]}, "dataset.text, which names a column"),
        ({"overrides": ["dry_run=true"]}, "dry_run=true, which fits nothing"),
        ({"strategy": "fast"}, "strategy"),
        ({"checkpoint": "no/where (at all)"}, "no/where"),
    ],
    ids=str,
)
def test_parameters_are_checked_when_fitting(
    parameters: dict[str, Any], message: str, checkpoints: dict[str, Path]
) -> None:
    usual = {"checkpoint": str(checkpoints["bert"]), "strategy": "feature_extraction"}
    with pytest.raises(UserError, match=message) as caught:
        TextClassifier(**{**usual, **parameters}).fit(TEXTS, LABELS)
    assert caught.value.code in (ExitCode.CONFIG, ExitCode.DATA, ExitCode.CHECKPOINT)


def test_clean_labels_merges_the_spellings_of_y(tiny: Callable[..., TextClassifier]) -> None:
    labels = [{0: "Good "}.get(row, label) for row, label in enumerate(LABELS)]
    labels = [label.replace("positive", "good") for label in labels]
    model = tiny(overrides={**QUICK, "dataset.clean_labels": True}).fit(TEXTS, labels)
    assert model.classes_.tolist() == ["good", "negative"]
    assert set(model.predict(TEXTS)) <= {"good", "negative"}
    assert model.score(TEXTS, labels) == model.score(TEXTS, [x.strip().lower() for x in labels])
    assert pickle.loads(pickle.dumps(model)).score(TEXTS, labels) == model.score(TEXTS, labels)
    with pytest.raises(InputError, match="one class .'good'. after dataset.clean_labels"):
        clone(model).fit(TEXTS[:4], ["good", "GOOD", "good", "good "])


def test_clean_labels_merges_the_labels_of_lists_and_no_columns() -> None:
    lists = merged(read_targets([["a", "A"], ["a"], ["b"]], "auto"))
    assert (lists.classes.tolist(), lists.ids) == (["a", "b"], [[0], [0], [1]])
    assert as_spelt([["A ", "c"], ["b"]], lists.classes) == [["a", "c"], ["b"]]
    columns = read_targets(pd.DataFrame({"a": [0, 1], "A": [1, 0]}), "auto")
    assert merged(columns) is columns


def test_overrides_are_a_list_or_a_mapping_and_win(tiny: Callable[..., TextClassifier]) -> None:
    settings = {
        "seed": 7,
        "strategy": "full",
        "strategy.stages.all.epochs": 2,
        "dataset.label_descriptions": {"it's, a": "b = {c}", "d:é": "“f”"},
        "evaluation.metrics": ["accuracy", "f1"],
        "training.class_weights": {"it's, a": 2},
    }
    config = tiny(overrides=settings, seed=3)._config("single_label")
    assert (config.seed, config.strategy.name) == (7, "full")
    stage = config.strategy.stages["all"]
    assert (stage.epochs, stage.min_steps) == (2, 0)  # made as they are, however few steps
    assert config.dataset.label_descriptions == settings["dataset.label_descriptions"]
    assert config.evaluation.metrics == ["accuracy", "f1"]
    assert config.training.class_weights == {"it's, a": 2}
    listed = TextClassifier("x", overrides=["seed=7", "checkpoint=bert"])._config("auto")
    assert (listed.seed, listed.checkpoint.name) == (7, "google-bert/bert-base-uncased")


def test_the_same_seed_gives_the_same_model_and_a_second_fit_forgets_the_first(
    tiny: Callable[..., TextClassifier], fitted: TextClassifier
) -> None:
    model = tiny().fit(TEXTS, ["x", "y"] * 20)
    assert model.classes_.tolist() == ["x", "y"]
    model.fit(TEXTS, LABELS)
    np.testing.assert_array_equal(model.predict_proba(TEXTS), fitted.predict_proba(TEXTS))


def test_nothing_is_written_but_a_temporary_folder_that_goes_with_the_estimator(
    tiny: Callable[..., TextClassifier], capfd: pytest.CaptureFixture[str]
) -> None:
    gc.collect()  # estimators of other tests
    before = temporary_folders()
    model = tiny().fit(TEXTS, LABELS)
    assert len(temporary_folders() - before) == 1
    folder = model.report_.folder.parent
    assert [path.name for path in folder.iterdir()] == ["run"]  # no caches
    assert not list(Path.cwd().iterdir())
    assert capfd.readouterr().out == ""
    shown = [str(model.report_), repr(model.report_), model.report_._repr_html_()]
    assert not any(tempfile.gettempdir() in text for text in shown)
    assert "save(FOLDER) keeps it" in shown[0] and "accuracy" in shown[0]
    del model
    gc.collect()
    assert temporary_folders() == before


@pytest.mark.slow
def test_a_run_dir_is_kept_and_found_finished(
    tiny: Callable[..., TextClassifier], capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny(run_dir="mine", overrides={**QUICK, "tokenization.folder": "tokens"})
    model.fit(TEXTS, LABELS)
    written = Path("mine/run.json").stat().st_mtime_ns
    probabilities = model.predict_proba(TEXTS)
    again = clone(model).set_params(verbose=True).fit(TEXTS, LABELS)
    assert "Model: mine/model" in capsys.readouterr().out
    assert Path("mine/run.json").stat().st_mtime_ns == written
    np.testing.assert_array_equal(again.predict_proba(TEXTS), probabilities)
    with pytest.raises(UserError, match="mine holds a different run: the data"):
        clone(model).fit(TEXTS[:30], LABELS[:30])


def test_a_pickle_holds_the_model_and_no_row_of_the_data(
    tiny: Callable[..., TextClassifier], fitted: TextClassifier
) -> None:
    model = tiny().fit(TEXTS, LABELS)
    expected, figures = model.predict_proba(TEXTS), model.report_.metrics
    content = pickle.dumps(model)
    joblib.dump(model, "model.joblib")
    assert not any(text.encode() in content for text in TEXTS)
    twin = copy.deepcopy(model)
    folder = model.report_.folder
    del model
    gc.collect()
    assert not folder.exists()
    for loaded in (pickle.loads(content), joblib.load("model.joblib"), twin):
        np.testing.assert_array_equal(loaded.predict_proba(TEXTS), expected)
        assert loaded.report_.metrics == figures
        loaded.report_.show()
    assert pickle.loads(pickle.dumps(tiny())).get_params().keys() == fitted.get_params().keys()


def test_a_pickle_of_a_folder_that_is_gone_says_so(tiny: Callable[..., TextClassifier]) -> None:
    model = tiny().fit(TEXTS, LABELS)
    shutil.rmtree(model.report_.folder)
    with pytest.raises(
        UserError, match="is gone; .*Fit it again, or load what was saved"
    ) as caught:
        pickle.dumps(model)
    assert caught.value.code is ExitCode.RUN_FOLDER


def test_what_is_saved_is_a_run_that_loads(fitted: TextClassifier) -> None:
    folder = fitted.save("saved")
    assert {"model", "report.html", "metrics.json"} <= {path.name for path in folder.iterdir()}
    loaded = TextClassifier.load("saved")
    assert loaded.get_params() == {**fitted.get_params(), "overrides": loaded.overrides}
    assert loaded.classes_.dtype == fitted.classes_.dtype
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), fitted.predict_proba(TEXTS))
    assert loaded.predict([None])[0] is None
    assert Classifier.load("saved").labels == ("negative", "positive")
    assert loaded.report_.folder == folder
    with pytest.raises(UserError, match="saved exists and is not empty"):
        fitted.save("saved")
    with pytest.raises(UserError, match="does not hold a TextRegressor.*found one of TextClass"):
        TextRegressor.load("saved")
    with pytest.raises(UserError, match="expected a folder that save.. wrote, found no estimator"):
        TextClassifier.load(fitted.report_.folder)


class Counter(TrainerCallback):
    def __init__(self) -> None:
        self.steps = 0

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.steps += 1


def wrong(references: np.ndarray, decisions: np.ndarray) -> float:
    return float((references != decisions).mean())


def test_metrics_callbacks_and_a_loss_are_those_of_run(tiny: Callable[..., TextClassifier]) -> None:
    counter = Counter()
    code = {"metrics": [wrong], "callbacks": [counter]}
    loss = torch.nn.CrossEntropyLoss(reduction="none")
    overrides = {**QUICK, "strategy.epochs": 1}
    model = tiny(strategy="full", overrides=overrides, loss=loss, **code).fit(TEXTS, LABELS)
    assert counter.steps == 3
    assert "wrong" in model.report_.metrics["validation"]["metrics"]
    assert clone(model).loss is not model.loss  # cloned with the rest


@pytest.mark.slow
def test_pipelines_searches_and_cross_validation_work(tiny: Callable[..., TextClassifier]) -> None:
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = Pipeline([("lower", lower), ("model", tiny())])
    shouted = [text.upper() for text in TEXTS]
    assert pipeline.fit(shouted, LABELS).score(shouted, LABELS) > 0.8
    frame = pd.DataFrame({"text": TEXTS, "label": LABELS}).sample(frac=1, random_state=0)
    scores = cross_val_score(tiny(), frame["text"], frame["label"], cv=2, error_score="raise")
    assert scores.shape == (2,)
    predictions = cross_val_predict(tiny(), np.array(TEXTS), LABELS, cv=2)
    assert set(predictions) <= set(LABELS)
    grid = {"seed": [1, 2], "overrides": [QUICK]}
    search = GridSearchCV(tiny(), grid, cv=2, error_score="raise").fit(TEXTS, LABELS)
    assert search.best_params_["seed"] in (1, 2)
    assert search.predict(ASKED).shape == (2,)


@pytest.mark.slow
def test_the_default_learns_reviews_from_a_few_rows() -> None:
    """The embedded checkpoint, `strategy=auto`, out-of-fold figures, and rows it has not seen."""
    folder = resources.files("nlp_transfer.reviews")
    train, test = (
        pd.read_csv(io.StringIO(folder.joinpath(f"{name}.csv").read_text("utf-8")))
        for name in ("train", "test")
    )
    rows = train.groupby("label").head(16)
    model = TextClassifier(seed=1).fit(rows["text"], rows["label"])
    assert model.score(test["text"], test["label"]) > 0.75
    figures = model.cross_validation_
    assert figures is not None and figures["rows"] == 32
    assert model.report_.chosen_by == "accuracy" and model.report_.best > 0.6
