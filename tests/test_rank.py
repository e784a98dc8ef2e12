"""`nlp-transfer rank`: frozen features of several checkpoints, scored alike on the same rows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import QUIETLY, last_of_each, make_rows, write_csv
from sklearn.linear_model import BayesianRidge
from tiny_models import make_encoder, make_tokenizer
from transformers import AutoModel, AutoTokenizer

from nlp_transfer import compose
from nlp_transfer.analysis.rank.checkpoint_costs import licence_of
from nlp_transfer.analysis.rank.rank import _best_scores, rank
from nlp_transfer.analysis.rank.ranking import Scores
from nlp_transfer.analysis.rank.transferability import h_score, log_maximum_evidence
from nlp_transfer.cli.main import main
from nlp_transfer.config.sections.evaluation import EvaluationConfig
from nlp_transfer.data.corpus import load_run_corpus
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.evaluation.metric_set import load_metrics
from nlp_transfer.features.summaries import FIRST, MEAN, summaries
from nlp_transfer.models.preparation import load_and_encode
from nlp_transfer.problems import problem_named

Typed = Callable[..., list[str]]


@pytest.fixture
def words(reviews: dict[str, Path], tmp_path: Path) -> list[str]:
    """What a person types, without a checkpoint; features are kept in an empty folder."""
    stored = [f"features.folder={tmp_path}/features", f"tokenization.folder={tmp_path}/tokens"]
    return ["+task=classify", f"dataset.train={reviews['train']}", *QUIETLY, *stored]


def test_a_checkpoint_that_fails_is_a_row_with_its_reason(
    words: list[str], checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    missing = Path("nowhere").resolve()
    names = f"{missing},{checkpoints['bert']},{checkpoints['distilbert']}"
    main(["rank", *words, "--checkpoints", names, "--out", "ranking.json"])
    ranking = json.loads(Path("ranking.json").read_text("utf-8"))
    scored, failed = ranking["candidates"][:2], ranking["candidates"][2]
    assert {each["name"] for each in scored} == {
        str(checkpoints["bert"]),
        str(checkpoints["distilbert"]),
    }
    assert failed["name"] == str(missing) and "cannot be loaded" in failed["failed"]
    for each in scored:
        low, high = each["best"]["interval"]
        assert low <= each["best"]["cross_validated"] <= high
        assert {scores["pooling"] for scores in each["scores"]} == {"first", "mean"}
        assert each["costs"]["ms_alone"] > 0 and each["costs"]["longest_input"] == 64
    assert scored[0]["best"]["cross_validated"] >= scored[1]["best"]["cross_validated"]
    printed = capsys.readouterr().out
    tables = printed.strip().partition("\n\naccuracy: ")[0]
    assert max(map(len, tables.splitlines())) <= 80
    command = scored[0]["command"]
    assert command in printed
    config = compose(*command.split()[2:])
    assert config.checkpoint.name == scored[0]["name"]
    assert config.checkpoint.pooling.value == scored[0]["best"]["pooling"]


def test_a_page_shows_accuracy_against_speed(
    words: list[str], checkpoints: dict[str, Path]
) -> None:
    name = str(checkpoints["bert"])
    main(["rank", *words, "--checkpoints", name, "--rows", "40", "--out", "ranking.html"])
    page = Path("ranking.html").read_text("utf-8")
    assert "<svg" in page and "milliseconds a text" in page and "checkpoint.pooling=" in page


def test_nothing_is_encoded_a_second_time(
    words: list[str], checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    first = rank(words, [str(checkpoints["bert"])], by_layer=True)
    made = {file: file.stat().st_mtime_ns for file in (tmp_path / "features").glob("*/*.npy")}
    again = rank(words, [str(checkpoints["bert"])], by_layer=True)
    assert made == {f: f.stat().st_mtime_ns for f in (tmp_path / "features").glob("*/*.npy")}
    assert len(made) == 1
    assert first.candidates[0].scores == again.candidates[0].scores
    assert [(s.layer, s.pooling) for s in first.candidates[0].scores] == [
        (1, "first"),
        (1, "mean"),
        (2, "first"),
        (2, "mean"),
    ]


def test_of_equal_layers_the_last_is_read() -> None:
    metrics = load_metrics(EvaluationConfig(), ("a", "b"), problem_named("single_label"))
    scores = [
        Scores("mean", layer, value, None, 0.0, None, None, np.zeros((1, 2)))
        for layer, value in ((1, 0.5), (2, 0.9), (3, 0.9), (4, 0.8))
    ]
    assert _best_scores(scores, metrics).layer == 3
    assert _best_scores(scores[:2], metrics).layer == 2


def test_equal_checkpoints_are_a_tie_and_one_that_knows_the_words_is_not(
    words: list[str], tmp_path: Path
) -> None:
    tokenizer = make_tokenizer("bert", segments=True)
    for name, spread in (("knows", 0.02), ("copy", 0.02), ("drowns", 3.0)):
        encoder = make_encoder("bert", len(tokenizer))
        with torch.no_grad():  # positions that are louder than words leave nothing to read
            embeddings = encoder.embeddings
            embeddings.position_embeddings.weight.mul_(spread / 0.02)
        encoder.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    ranking = rank(words, [str(tmp_path / name) for name in ("drowns", "knows", "copy")])
    by_name = {Path(each.name).name: each for each in ranking.candidates}
    assert by_name["copy"].tied and not by_name["knows"].tied
    assert Path(ranking.candidates[-1].name).name == "drowns" and not by_name["drowns"].tied


def test_ties_stand_first_in_the_order_of_logme(words: list[str], tmp_path: Path) -> None:
    tokenizer = make_tokenizer("bert", segments=True)
    names = ["drowns", "first", "second", "third", "fourth"]
    for seed, name in enumerate(names, start=10):
        encoder = make_encoder("bert", len(tokenizer))
        torch.manual_seed(seed)
        with torch.no_grad():
            places, words_of_it = (
                encoder.embeddings.position_embeddings,
                encoder.get_input_embeddings(),
            )
            places.weight.mul_(150 if name == "drowns" else 1)
            words_of_it.weight.add_(0.01 * torch.randn_like(words_of_it.weight))
        encoder.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    candidates = rank(words, [str(tmp_path / name) for name in names]).candidates
    tied = [each.tied for each in candidates]
    assert tied == [False, True, True, True, False]
    assert Path(candidates[-1].name).name == "drowns"
    evidence = [each.best.logme for each in candidates if each.best is not None]
    assert evidence[:4] == sorted(evidence[:4], reverse=True)
    scores = [each.best.cross_validated for each in candidates if each.best is not None]
    assert scores[:4] != sorted(scores[:4], reverse=True)  # which is another order here


def test_labels_without_a_meaning_score_as_chance_does(
    checkpoints: dict[str, Path], words: list[str], tmp_path: Path
) -> None:
    texts = [text for text, _ in make_rows(200, seed=5)]
    labels = np.random.default_rng(0).permutation(["yes", "no"] * 100)
    file = write_csv(tmp_path / "noise.csv", list(zip(texts, labels, strict=True)))
    best = (
        rank(last_of_each(*words, f"dataset.train={file}"), [str(checkpoints["bert"])])
        .candidates[0]
        .best
    )
    assert best is not None and best.interval is not None
    assert best.interval[0] < 0.5


def test_a_sample_of_train_has_as_many_rows_as_were_asked(
    words: list[str], checkpoints: dict[str, Path]
) -> None:
    ranking = rank(words, [str(checkpoints["bert"])], rows=40)
    assert ranking.rows == 40 < ranking.of_rows


def test_several_labels_and_scores_are_ranked_too(
    words: list[str], checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    texts = [text for text, _ in make_rows(60, seed=3)]
    scores = [len(text.split()) / 2 for text in texts]
    several = [["any", "long"] if len(text) > 60 else ["any"] for text in texts]
    for problem, labels in (("regression", scores), ("multi_label", several)):
        file = tmp_path / f"{problem}.jsonl"
        rows = [{"text": t, "label": label} for t, label in zip(texts, labels, strict=True)]
        file.write_text("\n".join(map(json.dumps, rows)), "utf-8")
        told = last_of_each(*words, f"dataset.train={file}", f"dataset.problem={problem}")
        best = rank(told, [str(checkpoints["bert"])]).candidates[0].best
        assert best is not None and np.isfinite(best.logme) and best.h_score is None


def test_a_checkpoint_in_the_configuration_is_refused(words: list[str]) -> None:
    with pytest.raises(UserError, match="--checkpoints A,B,C") as refused:
        rank([*words, "checkpoint=bert"], ["minilm"])
    assert refused.value.code is ExitCode.CONFIG


def test_where_no_checkpoint_can_be_scored_the_command_fails(words: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["rank", *words, "--checkpoints", str(Path("nowhere").resolve())])
    assert left.value.code == ExitCode.CHECKPOINT


def test_logme_is_the_evidence_of_bayesian_ridge() -> None:
    generator = np.random.default_rng(0)
    for rows, width in ((80, 12), (30, 50)):
        x = generator.normal(size=(rows, width))
        y = x @ generator.normal(size=width) + generator.normal(size=rows)
        flat = dict.fromkeys(("alpha_1", "alpha_2", "lambda_1", "lambda_2"), 0.0)
        model = BayesianRidge(
            fit_intercept=False, compute_score=True, max_iter=3000, tol=1e-9, **flat
        )
        expected = model.fit(x, y).scores_[-1] / rows
        assert log_maximum_evidence(x, y) == pytest.approx(expected, abs=2e-3)


def test_h_score_is_the_share_of_variance_between_classes() -> None:
    generator = np.random.default_rng(0)
    classes = generator.integers(0, 3, 4000)
    x = generator.normal(size=(4000, 6))
    x[:, 0] += classes
    centred = x - x.mean(axis=0)
    means = np.stack([centred[classes == label].mean(axis=0) for label in range(3)])[classes]
    plain = np.trace(np.linalg.inv(np.cov(centred.T)) @ np.cov(means.T))
    assert h_score(x, classes) == pytest.approx(plain, rel=0.03)
    assert h_score(x, generator.permutation(classes)) < plain / 20


def test_summaries_are_the_hidden_states_of_the_library(
    words: list[str], checkpoints: dict[str, Path]
) -> None:
    config = compose(*words, f"checkpoint.name={checkpoints['bert']}")
    corpus = load_run_corpus(config)
    pretrained, encoded = load_and_encode(config, corpus)
    values = summaries(pretrained, encoded.splits["train"].inputs, encoded.collator, [1, 2])
    tokenizer = AutoTokenizer.from_pretrained(checkpoints["bert"])
    model = AutoModel.from_pretrained(checkpoints["bert"]).eval()
    for row in (0, 7):
        batch: Any = tokenizer(corpus.splits["train"]["text"][row], return_tensors="pt")
        with torch.inference_mode():
            states = model(**batch, output_hidden_states=True).hidden_states
        for place, layer in enumerate((1, 2)):
            of_row = states[layer][0].numpy()
            for position, expected in ((FIRST, of_row[0]), (MEAN, of_row.mean(axis=0))):
                expected = (expected - expected.mean()) / expected.std()
                np.testing.assert_allclose(values[row, place, position], expected, atol=1e-4)


def test_the_licence_is_that_of_the_checkpoints_own_card(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    assert licence_of(str(tmp_path)) is None
    card.write_text("---\nlanguage: en\nlicense: mit\n---\n# A model\n", "utf-8")
    assert licence_of(str(tmp_path)) == "mit"
    card.write_text("# No metadata\n", "utf-8")
    assert licence_of(str(tmp_path)) is None
    shutil.rmtree(tmp_path)
    assert licence_of(str(tmp_path)) is None
