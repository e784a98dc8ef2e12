"""`nlp-transfer explain` and `Classifier.explain`: which words an answer rests on."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import LABELS, NASTY, NICE, SAMPLE_TEXTS, write_csv
from fastapi.testclient import TestClient
from tiny_models import save_classifier

from nlp_transfer import Classifier
from nlp_transfer.analysis.explanations.check import removal_curves
from nlp_transfer.analysis.explanations.text import explanation_lines
from nlp_transfer.cli.main import main
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.inference.explanation import MOST_UNITS, Explanation, Word, without, words_of
from nlp_transfer.serving.app import make_app

TEXT = "we found the lovely film really boring and dim"
ANSI = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def folder(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with random weights."""
    return save_classifier(checkpoints["bert"], tmp_path_factory.mktemp("explained") / "model")


def configured(folder: Path, **entries: Any) -> Classifier:
    """The classifier with other entries in its configuration."""
    copy = Path("configured")
    copy.mkdir()
    for file in folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    config = json.loads((copy / "config.json").read_text("utf-8")) | entries
    (copy / "config.json").write_text(json.dumps(config), "utf-8")
    return Classifier.load(copy)


def log_odds(classifier: Classifier, text: str, label: str) -> float:
    probability = classifier.predict([text])[0].probabilities[label]
    return float(np.log(probability / (1 - probability)))


def test_every_sign_that_is_no_space_belongs_to_a_word() -> None:
    text = "Don't  (ever) miss: 'naïve' well-made films… 面白い映画 😀!"
    words = words_of(text)
    assert "".join(word.text for word in words) == "".join(text.split())
    assert [word.text for word in words][:5] == ["Don't", "(", "ever", ")", "miss"]
    assert "well-made" in [word.text for word in words] and "面" in [word.text for word in words]
    assert all(text[word.start : word.end] == word.text for word in words)


def test_what_is_left_reads_as_if_the_word_had_not_been_there() -> None:
    text = "A good, really good film."
    words = words_of(text)
    assert without(text, [words[1]]) == "A, really good film."
    assert without(text, [words[0]]) == "good, really good film."
    assert without(text, words[3:5]) == "A good, film."
    assert without("one,two", [words_of("one,two")[1]]) == "one two"
    assert without(text, words) == ""


def test_a_weight_is_what_the_log_odds_lose_without_the_word(folder: Path) -> None:
    classifier = Classifier.load(folder)
    explanation = classifier.explain([TEXT])[0]
    assert explanation is not None
    label = classifier.predict([TEXT])[0].label
    assert explanation.labels == (label,)
    whole = log_odds(classifier, TEXT, label)
    for word, weight in explanation.of(label):
        rest = " ".join(w for w in TEXT.split() if w != word)
        assert weight == pytest.approx(whole - log_odds(classifier, rest, label), abs=1e-4)


def test_a_text_that_is_missing_or_empty_has_no_explanation(folder: Path) -> None:
    explanations = Classifier.load(folder).explain([None, TEXT, "  "])
    assert [each is None for each in explanations] == [True, False, True]


def test_every_backend_names_the_same_words(exported: Callable[[str], Any]) -> None:
    model = exported("bert").folder
    by_torch = Classifier.load(model).explain(SAMPLE_TEXTS[:8])
    by_onnx = Classifier.load(model, "onnx", threads=1).explain(SAMPLE_TEXTS[:8])
    by_int8 = Classifier.load(model, "int8", threads=1).explain(SAMPLE_TEXTS[:8])
    for one, other, small in zip(by_torch, by_onnx, by_int8, strict=True):
        assert one is not None and other is not None and small is not None
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-3)
        assert one.words == other.words == small.words


@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert"])
def test_gradients_sum_to_what_the_words_change(
    checkpoints: dict[str, Path], architecture: str
) -> None:
    classifier = Classifier.load(save_classifier(checkpoints[architecture], Path("model")))
    texts = [*SAMPLE_TEXTS[:3], "we don't like it, really"]
    engine: Any = classifier.engine
    for text, explanation in zip(texts, classifier.explain(texts, method="gradients"), strict=True):
        assert explanation is not None and explanation.errors is not None
        tokens = engine.tokenizer(text, return_tensors="pt")
        special = engine.tokenizer.get_special_tokens_mask(
            tokens["input_ids"][0], already_has_special_tokens=True
        )
        masked = dict(tokens)
        masked["input_ids"] = torch.where(
            torch.tensor([special]).bool(), tokens["input_ids"], engine.tokenizer.mask_token_id
        )
        with torch.no_grad():
            logits = [
                engine.model(**batch).logits[0].double().numpy() for batch in (tokens, masked)
            ]
        label = classifier.labels.index(explanation.labels[0])
        odds = [float(x[label] - np.logaddexp.reduce(np.delete(x, label))) for x in logits]
        difference = odds[0] - odds[1]
        assert explanation.weights.sum() == pytest.approx(
            difference, abs=0.02 * abs(difference) + 0.02
        )
    # The word level tokenizer cuts don't into three tokens, which are one word again.
    assert [word.text for word in explanation.words] == ["we", "don't", "like", "it", ",", "really"]


def test_the_words_of_both_texts_of_a_pair_are_explained(folder: Path) -> None:
    classifier = configured(folder, text_pairs=True)
    for method in ("occlusion", "gradients"):
        explanation = classifier.explain(["the warm soup"], ["a cold lamp"], method=method)[0]
        assert explanation is not None
        assert [(word.text, word.second) for word in explanation.words] == [
            *((text, False) for text in ("the", "warm", "soup")),
            *((text, True) for text in ("a", "cold", "lamp")),
        ]
        assert (explanation.weights[:, 3:] != 0).all()
    with pytest.raises(UserError, match="needs both texts"):
        classifier.explain(["the warm soup"])


def test_several_labels_are_explained_one_at_a_time(folder: Path) -> None:
    classifier = configured(folder, problem_type="multi_label_classification")
    every, default = classifier.explain([TEXT], labels=LABELS)[0], classifier.explain([TEXT])[0]
    assert every is not None and default is not None
    answer = classifier.predict([TEXT])[0]
    assert default.labels == (answer.labels or (answer.label,))
    assert every.labels == LABELS and every.weights.shape == (3, 9)
    logits = classifier.logits([TEXT, TEXT.replace("lovely ", "")])
    place = TEXT.split().index("lovely")
    np.testing.assert_allclose(every.weights[:, place], logits[0] - logits[1], atol=1e-4)


def test_long_texts_are_explained_whole_and_words_that_are_not_read_weigh_nothing(
    folder: Path,
) -> None:
    text = " ".join(SAMPLE_TEXTS[:12])
    assert len(text.split()) > 64
    cut = Classifier.load(folder).explain([text])[0]
    assert cut is not None and (cut.weights[0, -20:] == 0).all()
    entry = {"how": "windows", "stride": 8, "pooling": "mean"}
    in_windows = configured(folder, long_text=entry)
    explanation = in_windows.explain([text])[0]
    assert explanation is not None and (explanation.weights[0, -20:] != 0).any()
    with pytest.raises(UserError, match="Use the method occlusion"):
        in_windows.explain([text], method="gradients")


def test_of_very_long_texts_neighbouring_words_are_left_out_together(folder: Path) -> None:
    text = " ".join(["lovely"] * (2 * MOST_UNITS + 1))
    explanation = Classifier.load(folder).explain([text])[0]
    assert explanation is not None
    assert {len(word.text.split()) for word in explanation.words[:-1]} == {3}
    assert explanation.words[-1].end == len(text)


def test_what_cannot_be_explained_is_refused(folder: Path, exported: Callable[[str], Any]) -> None:
    classifier = Classifier.load(folder)
    with pytest.raises(UserError, match="there are occlusion, gradients"):
        classifier.explain([TEXT], method="magic")
    with pytest.raises(UserError, match="'great' is no label of this model"):
        classifier.explain([TEXT], labels=["great"])
    model = exported("bert").folder
    with pytest.raises(UserError, match="need the backend torch"):
        Classifier.load(model, "onnx").explain([TEXT], method="gradients")


def made_up(weights: list[float], classifier: Classifier) -> Explanation:
    answer = classifier.predict([TEXT])[0]
    words = tuple(words_of(TEXT))
    return Explanation(TEXT, None, answer, "occlusion", words, (answer.label,), np.array([weights]))


def test_words_are_shaded_or_marked_by_their_weight(folder: Path) -> None:
    explanation = made_up([0, 0, 0, 1.0, 0.4, 0, -0.9, 0, -0.2], Classifier.load(folder))
    marked = "\n".join(explanation_lines(explanation, colour=False))
    assert "we found the lovely[+++] film[++] really boring[---] and dim[-]" in marked
    assert "for: lovely +1.00, film +0.40" in marked
    assert "against: boring -0.90, dim -0.20" in marked
    shaded = "\n".join(explanation_lines(explanation, colour=True))
    assert TEXT in ANSI.sub("", shaded) and len(ANSI.findall(shaded)) == 8


def test_lines_fit_the_terminal(folder: Path) -> None:
    text = " ".join(SAMPLE_TEXTS[:4])
    explanation = Classifier.load(folder).explain([text])[0]
    assert explanation is not None
    for colour in (True, False):
        lines = list(explanation_lines(explanation, colour))
        assert max(len(ANSI.sub("", line)) for line in lines) <= 80
    assert " ".join(text.split()) in " ".join(
        " ".join(ANSI.sub("", line) for line in explanation_lines(explanation, True)).split()
    )


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    from nlp_transfer.analysis.explanations import text as explanation_text

    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert explanation_text.colours()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not explanation_text.colours()


def test_the_command_explains_sentences_and_tables(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["explain", str(folder), TEXT])
    printed = capsys.readouterr().out
    assert printed.split()[0] in LABELS and "\x1b" not in printed and "word[+++]" in printed
    write_csv(Path("texts.csv"), [(TEXT, "x"), ("a slow train", "x"), ("a dim lamp", "x")])
    main(["explain", str(folder), "--file", "texts.csv", "--text", "text", "--rows", "2", "--json"])
    entries = json.loads(capsys.readouterr().out)
    assert [entry["text"] for entry in entries] == [TEXT, "a slow train"]
    [words] = [label["words"] for label in entries[1]["labels"].values()]
    assert [(word["word"], word["start"], word["end"]) for word in words] == [
        ("a", 0, 1),
        ("slow", 2, 6),
        ("train", 7, 12),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "found none"),
        (["a text", "--check"], "found more than one"),
        (["--file", "texts.csv"], "needs --text COLUMN"),
    ],
)
def test_the_command_says_what_it_needs(
    folder: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["explain", str(folder), *words])
    assert left.value.code == ExitCode.CONFIG and message in capsys.readouterr().err


def test_explanations_beat_a_random_order_and_made_up_ones_do_not(finished: Path) -> None:
    classifier = Classifier.load(finished)
    explanations = [each for each in classifier.explain(SAMPLE_TEXTS) if each is not None]
    check = removal_curves(classifier, explanations)
    assert check.rows == len(SAMPLE_TEXTS)
    assert all(gain.better for gain in check.gains.values())
    assert check.deletion[0] == pytest.approx(check.insertion[-1], abs=1e-6)
    assert check.deletion[-1] == pytest.approx(check.insertion[0], abs=1e-6)
    generator = np.random.default_rng(3)
    made_up = [replace(e, weights=generator.normal(size=e.weights.shape)) for e in explanations]
    assert not any(gain.better for gain in removal_curves(classifier, made_up).gains.values())


def test_the_check_of_a_run_ends_in_a_page(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["explain", str(finished), "--check", "--rows", "12"])
    assert "occlusion on 12 texts" in capsys.readouterr().out
    page = Path("explain.html").read_text("utf-8")
    assert "<svg" in page and "deletion:" in page
    assert re.findall(r'(?:src|href)="http', page) == []


def test_the_nearest_row_of_a_text_of_train_is_that_row(
    finished: Path, reviews: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    text, label = reviews["train"].read_text("utf-8").splitlines()[5].split(",")
    main(["explain", str(finished), text, "--neighbours", "2", "--json"])
    [entry] = json.loads(capsys.readouterr().out)
    first, second = entry["neighbours"]
    assert (first["text"], first["label"]) == (text, label)
    assert first["similarity"] == pytest.approx(1, abs=1e-3) and second["similarity"] < 0.999
    assert "row 5 of" in first["place"]
    main(["explain", str(finished), text, "--neighbours", "1"])
    assert f"like {label} 1.00" in capsys.readouterr().out


def test_a_word_knows_where_it_stands() -> None:
    assert words_of("a b", second=True) == [Word("a", 0, 1, True), Word("b", 2, 3, True)]


@pytest.fixture(scope="module")
def explained(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run, with explanations in its report."""
    copy = tmp_path_factory.mktemp("explained") / "run"
    shutil.copytree(finished, copy)
    main(["report", str(copy), "--explain"])
    return copy


def test_the_report_shades_the_words_of_mistakes_and_names_the_nearest_rows(
    explained: Path,
) -> None:
    page = (explained / "report.html").read_text("utf-8")
    entries = json.loads((explained / "explanations.json").read_text("utf-8"))
    assert '<mark class="for-3">' in page and re.search(r"like <bdi>(posi|nega)tive</bdi>", page)
    for mistake in entries["mistakes"]:
        assert mistake["neighbours"] and max(abs(level) for _, level in mistake["parts"][0]) == 3
        text = "".join(piece for piece, _ in mistake["parts"][0])
        assert text in re.sub("</?mark[^>]*>", "", page)


def test_the_report_lists_the_words_of_each_class_and_checks_them_against_chance(
    explained: Path,
) -> None:
    entries = json.loads((explained / "explanations.json").read_text("utf-8"))
    by_label = {each["label"]: each for each in entries["classes"]}
    words_for = {each["word"] for each in by_label["positive"]["for"]}
    words_against = {each["word"] for each in by_label["positive"]["against"]}
    assert len(words_for & set(NICE)) > len(words_for & set(NASTY))
    assert len(words_against & set(NASTY)) > len(words_against & set(NICE))
    assert all("better than a random order" in verdict for verdict in entries["verdicts"])
    page = (explained / "report.html").read_text("utf-8")
    assert "better than chance?" in page


def test_explanations_stay_in_the_run_folder(explained: Path) -> None:
    assert not list((explained / "model").rglob("explanations*"))
    text = json.loads((explained / "explanations.json").read_text("utf-8"))["mistakes"][0]
    near = text["neighbours"][0]["text"]
    for file in (explained / "model").glob("*"):
        if file.suffix in (".json", ".md"):
            assert near not in file.read_text("utf-8")


def test_a_report_without_explanations_says_how_to_get_them(finished: Path) -> None:
    assert f"nlp-transfer report {finished} --explain" in (finished / "report.html").read_text()


def test_the_server_explains_where_it_was_told_to(folder: Path) -> None:
    classifier = Classifier.load(folder)
    [expected] = classifier.explain([TEXT])
    with TestClient(make_app(classifier, explains=True), base_url="http://localhost") as client:
        assert client.get("/model").json()["explains"] is True
        reply = client.post("/explain", json={"text": TEXT}).json()
        several = client.post("/explain", json={"texts": [TEXT]})
        long = client.post("/explain", json={"text": "word " * 500})
    assert reply["label"] == expected.labels[0]
    assert [w["weight"] for w in reply["words"]] == pytest.approx(expected.weights[0], abs=1e-4)
    assert [TEXT[w["start"] : w["end"]] for w in reply["words"]] == TEXT.split()
    assert several.status_code == 422 and "one text is explained" in several.json()["detail"]
    assert long.status_code == 422 and "at most 128 words" in long.json()["detail"]
    with TestClient(make_app(classifier), base_url="http://localhost") as client:
        assert client.get("/model").json()["explains"] is False
        assert client.post("/explain", json={"text": TEXT}).status_code == 404
