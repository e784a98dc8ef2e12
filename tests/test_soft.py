"""Soft labels: what annotators disagree about is learned and measured as a distribution."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import QUIETLY, texts_by_kindness

from nlp_transfer import Classifier, compose, run
from nlp_transfer.analysis.evaluate import LabelledTexts, evaluate_model
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.config.sections.evaluation import EvaluationConfig
from nlp_transfer.data.corpus import answers_of, load_corpus
from nlp_transfer.errors import UserError
from nlp_transfer.evaluation.metric_set import load_metrics
from nlp_transfer.export.references import of_file
from nlp_transfer.features.linear_models import Table, solve
from nlp_transfer.problems.soft import SOFT
from nlp_transfer.training.losses import LossOptions, find_loss

LABELS = ("p_negative", "p_positive")
COLUMNS = f"dataset.label=[{','.join(LABELS)}]"
SIZES = {"train": 160, "validation": 100, "test": 120}


def voted(rows: int) -> list[tuple[str, int, int]]:
    """Of four words, the votes are how many are kind and how many are not."""
    return [(text, 4 - kind, kind) for text, kind in texts_by_kindness(rows)]


def write(path: Path, rows: list[Any], header: tuple[str, ...] = ("text", *LABELS)) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def typed(checkpoint: Path, home: Path, *more: str) -> list[str]:
    files = [f"dataset.{s}={write(home / f'{s}.csv', voted(n))}" for s, n in SIZES.items()]
    words = ["+task=classify", f"checkpoint.name={checkpoint}", *QUIETLY, *files, COLUMNS]
    return [
        *words,
        "dataset.problem=soft",
        "strategy.min_steps=0",
        f"run_dir={home / 'run'}",
        *more,
    ]


def test_votes_go_the_whole_way(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    names = "dataset.label_names={p_negative: negative, p_positive: positive}"
    more = ("strategy=probe_then_full", "strategy.stages.all.epochs=1", names)
    result = run(compose(*typed(checkpoints["bert"], tmp_path, *more)))
    assert result.chosen_by == "log_loss"
    figures = result.metrics["test"]
    values = figures["metrics"]
    assert set(values) == {"log_loss", "accuracy", "annotator_entropy", "model_entropy"}
    assert set(figures["intervals"]) == set(values)
    # The annotators' own disagreement is the least loss there can be; knowing nothing costs log 2.
    assert values["annotator_entropy"] < values["log_loss"] < np.log(2)
    assert [row["label"] for row in figures["per_class"]] == ["negative", "positive"]
    card = (result.model / "README.md").read_text(encoding="utf-8")
    assert "one of 2 labels: `negative`, `positive`" in card
    assert (result.folder / "report.html").is_file()
    classifier = Classifier.load(result.model)
    texts = [text for text, *_ in voted(SIZES["test"])]
    answers = classifier.predict(texts)
    assert all(set(answer.probabilities) == {"negative", "positive"} for answer in answers)
    assert all(answer.score == max(answer.probabilities.values()) for answer in answers)
    file = str(tmp_path / "test.csv")
    again = evaluate_model(result.folder, LabelledTexts(file)).measured["test"]["metrics"]
    assert again == pytest.approx(values)
    renamed = write(tmp_path / "named.csv", voted(60), ("text", "negative", "positive"))
    questions = of_file(result.folder, renamed, "text", "negative,positive")
    expected = [[negative / 4, positive / 4] for _, negative, positive in voted(60)]
    assert questions.references is not None
    assert questions.references.tolist() == expected


def test_the_solution_is_stationary() -> None:
    generator = np.random.default_rng(0)
    x, shares = generator.normal(size=(80, 3)), generator.dirichlet(np.ones(3), 80)
    table = Table(x, shares, np.ones(80))
    strength, solution = solve(SOFT, 3, table, table, seed=0)
    wrong = SOFT.probabilities(solution.logits(x)) - shares
    slope = wrong.T @ x + solution.weight / strength
    np.testing.assert_allclose(slope, 0, atol=1e-3)
    np.testing.assert_allclose(wrong.sum(axis=0), 0, atol=1e-3)


def test_the_loss_is_the_cross_entropy_against_the_distribution() -> None:
    loss = find_loss(None, SOFT).function
    shares = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.8, 0.2]]))
    losses = loss(logits, shares, LossOptions())
    assert losses.tolist() == pytest.approx([np.log(2), -np.log(0.8)], abs=1e-6)
    hard = torch.nn.functional.cross_entropy(
        logits, torch.tensor([0, 0]), label_smoothing=0.2, reduction="none"
    )
    smooth = loss(logits, torch.tensor([[1.0, 0.0]] * 2), LossOptions(label_smoothing=0.2))
    assert smooth.tolist() == pytest.approx(hard.tolist(), abs=1e-6)


def test_metrics_compare_with_the_distribution_and_with_the_majority() -> None:
    references = np.array([[0.5, 0.5], [1, 0], [0.2, 0.8]], dtype=np.float32)
    logits = np.log(np.array([[0.4, 0.6], [0.9, 0.1], [0.3, 0.7]]))
    values = load_metrics(EvaluationConfig(), LABELS, SOFT).compute(logits, references)
    losses = -(references * logits).sum(axis=1)
    assert values["log_loss"] == pytest.approx(losses.mean())
    assert values["accuracy"] == pytest.approx(2 / 3)  # of equal shares, the first is meant
    entropy = (np.log(2) - (0.2 * np.log(0.2) + 0.8 * np.log(0.8))) / 3
    assert values["annotator_entropy"] == pytest.approx(entropy, abs=1e-6)
    assert values["model_entropy"] == pytest.approx(-(np.exp(logits) * logits).sum(axis=1).mean())


def test_votes_and_probabilities_are_the_same(tmp_path: Path) -> None:
    votes = [("a", 3, 1), ("b", 0, 2)]
    shares = [("a", 0.75, 0.25), ("b", 0.0, 1.0)]
    for rows in (votes, shares):
        file = write(tmp_path / "rows.csv", rows)
        config = DatasetConfig(train=file, validation=file, label=list(LABELS), problem="soft")
        corpus = load_corpus(config, 0)
        assert corpus.labels == LABELS
        assert corpus.references("train").tolist() == [[0.75, 0.25], [0, 1]]
        assert answers_of(corpus, "train")[0] == "p_negative 0.75, p_positive 0.25"


@pytest.mark.parametrize("row", [("b", 0, 0), ("b", -1, 2), ("b", "many", 1)])
def test_what_is_no_distribution_is_refused_with_its_row(tmp_path: Path, row: Any) -> None:
    file = write(tmp_path / "rows.csv", [("a", 1, 0), row, ("c", 1, 3)])
    config = DatasetConfig(train=file, validation=file, label=list(LABELS), problem="soft")
    with pytest.raises(UserError, match=r"(?s)do not hold shares or votes.*row 2: label"):
        load_corpus(config, 0)


def test_soft_labels_need_a_column_for_each_label(checkpoints: dict[str, Path]) -> None:
    words = ["+task=classify", f"checkpoint.name={checkpoints['bert']}", "dataset.train=x.csv"]
    with pytest.raises(UserError, match="needs a column of numbers for each label"):
        compose(*words, "dataset.problem=soft")
