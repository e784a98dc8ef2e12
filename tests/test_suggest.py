"""`nlp-transfer suggest`: rows worth a label, none twice; the filled file trains as it is."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
from conftest import FILLING, NASTY, NICE, make_rows, write_csv
from omegaconf import OmegaConf

from nlp_transfer import UserError, compose, run
from nlp_transfer.analysis.suggest.choice import errors_of, typical_rows, uncertain_rows
from nlp_transfer.analysis.suggest.pool import PoolFile, scan_pool
from nlp_transfer.analysis.suggest.simulation import Labelled, replay, sizes_up_to
from nlp_transfer.analysis.suggest.suggestions import By, SuggestRequest, is_weak, suggest
from nlp_transfer.cli.main import main
from nlp_transfer.config.sections.dataset import DatasetConfig
from nlp_transfer.data.corpus import load_corpus
from nlp_transfer.data.near_duplicates import normalised
from nlp_transfer.errors import ExitCode
from nlp_transfer.serving.review.table import ReviewRequest, read_review

Typed = Callable[..., list[str]]


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def write_pool(file: Path, texts: list[str], header: str = "text") -> Path:
    with file.open("w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows([["id", header], *enumerate(texts)])
    return file


def made_up(count: int, seed: int) -> list[str]:
    """Texts unlike each other, some of them with words of both labels."""
    generator = random.Random(seed)
    texts = []
    for i in range(count):
        kinds = ((NICE,), (NASTY,), (NICE, NASTY))[i % 3]
        words = [generator.choice(kind) for kind in kinds for _ in range(2)]
        texts.append(" ".join([f"n{seed}x{i}", *generator.choices(FILLING, k=8), *words]))
    return texts


@pytest.fixture(scope="module")
def tickets(typed: Typed, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run on files, and a pool that repeats some of its rows."""
    home = tmp_path_factory.mktemp("tickets")
    train = write_csv(home / "train.csv", make_rows(101))
    words = typed(f"dataset.train={train}", "strategy=feature_extraction")
    words += [f"tokenization.folder={home / 'tokens'}", f"features.folder={home / 'features'}"]
    folder = run(compose(*words, f"run_dir={home / 'run'}")).folder
    labelled = [row["text"] for row in rows_of(train)]
    texts = made_up(90, seed=1)
    texts[5], texts[17] = labelled[3].upper() + "!", f"{labelled[8]}  "  # said before
    texts[40] = texts[39] + "."
    texts[60] = ""
    pool = write_pool(home / "pool.csv", texts)
    return {"home": home, "run": folder, "pool": pool, "train": train}


def test_rows_are_written_once_with_a_reason_and_a_column_to_fill_in(
    tickets: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["suggest", str(tickets["run"]), "--file", str(tickets["pool"]), "--rows", "20"]
    main([*command, "--by", "uncertain", "--threads", "1"])
    output = capsys.readouterr().out
    assert "1 without a text, 3 like a labelled row or one before" in output
    assert f"dataset.train=[{tickets['train']},next.csv]" in output
    rows, pool = rows_of(Path("next.csv")), rows_of(tickets["pool"])
    assert list(rows[0]) == ["id", "text", "label", "guess", "probabilities", "reason"]
    assert len({row["id"] for row in rows}) == 20
    assert {row["id"] for row in rows}.isdisjoint({"5", "17", "40", "60"})
    assert all(row["text"] == pool[int(row["id"])]["text"] for row in rows)
    assert {row["label"] for row in rows} == {""}
    assert {row["guess"] for row in rows} <= {"positive", "negative"}
    assert all(row["guess"] == row["probabilities"].split()[0] for row in rows)
    assert all("margin" in row["reason"] for row in rows)


def test_the_guess_is_what_predict_answers(tickets: dict[str, Path]) -> None:
    run_and_file = [str(tickets["run"]), "--file", str(tickets["pool"])]
    main(["suggest", *run_and_file, "--rows", "85", "--out", "all.csv", "--threads", "1"])
    main(["predict", *run_and_file, "--text", "text", "--out", "said.csv", "--threads", "1"])
    answers = {row["id"]: row["label"] for row in rows_of(Path("said.csv"))}
    rows = rows_of(Path("all.csv"))
    assert len(rows) == 85
    assert all(row["guess"] == answers[row["id"]] for row in rows)


def test_the_filled_file_is_training_data_beside_the_rows_there_are(
    tickets: dict[str, Path], typed: Typed
) -> None:
    main(["suggest", str(tickets["run"]), "--file", str(tickets["pool"]), "--rows", "12"])
    rows = rows_of(Path("next.csv"))
    for row in rows[:10]:
        row["label"] = "positive"
    with Path("next.csv").open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    files = f"dataset.train=[{tickets['train']},next.csv]"
    unfilled = compose(*typed(files, "run_dir=again"))
    with pytest.raises(UserError, match=r"2 of the 12 rows of next.csv .* have no label") as error:
        load_corpus(unfilled.dataset, 42)
    assert "dataset.on_unlabeled=drop leaves such rows out" in str(error.value)
    again = compose(*typed(files, "dataset.on_unlabeled=drop", "run_dir=again", "dry_run=true"))
    corpus = load_corpus(again.dataset, 42)
    assert len(corpus.splits["train"]) == 101 + 10
    assert set(corpus.splits["train"]["source"]) == {str(tickets["train"]), "next.csv"}
    assert {row["text"] for row in rows[:10]} <= set(corpus.splits["train"]["text"])


def test_a_workbook_can_be_filled_in_and_trained_on(
    tickets: dict[str, Path], typed: Typed, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["suggest", str(tickets["run"]), "--file", str(tickets["pool"]), "--rows", "12"]
    main([*command, "--out", "next.xlsx"])
    said = capsys.readouterr().out
    assert "Fill in the column label in a spreadsheet." in said  # the page refuses workbooks
    book = openpyxl.load_workbook("next.xlsx")
    sheet = book.active
    header = [cell.value for cell in sheet[1]]
    for row in range(2, 14):
        sheet.cell(row, header.index("label") + 1, "negative")
    book.save("next.xlsx")
    files = f"dataset.train=[{tickets['train']},next.xlsx]"
    corpus = load_corpus(compose(*typed(files, "run_dir=again", "dry_run=true")).dataset, 42)
    assert len(corpus.splits["train"]) == 101 + 12
    with pytest.raises(UserError, match="a workbook is filled in with a program of spreadsheets"):
        read_review(ReviewRequest(Path("next.xlsx")))


def test_rows_that_have_a_label_are_not_suggested(tickets: dict[str, Path]) -> None:
    texts = made_up(30, seed=2)
    pairs = [(text, "positive" if i % 2 else "") for i, text in enumerate(texts)]
    pool = write_csv(Path("half.csv"), pairs)
    suggestions = suggest(tickets["run"], SuggestRequest(pool, Path("next.csv"), rows=50))
    assert suggestions.scan.labelled == 15
    assert sorted(suggestions.window["text"].to_pylist()) == sorted(texts[::2])
    assert suggestions.window.column_names[:2] == ["text", "label"]
    assert set(suggestions.window["label"].to_pylist()) == {None}


def test_a_file_that_the_run_would_misread_is_refused_before_anything_is_read(
    tickets: dict[str, Path],
) -> None:
    for options, out in (
        (["dataset.encoding=cp1252"], "next.csv"),
        (["dataset.encoding=cp1252"], "next.jsonl"),
        (["dataset.separator=;"], "next.csv"),
    ):
        run_dir = Path("other")
        run_dir.mkdir(exist_ok=True)
        config = OmegaConf.load(tickets["run"] / "config.yaml")
        config.merge_with_dotlist(options)
        OmegaConf.save(config, run_dir / "config.yaml")
        request = SuggestRequest(tickets["pool"], Path(out))
        with pytest.raises(UserError, match=r"would misread .* Name --out next.parquet"):
            suggest(run_dir, request)


def test_json_lines_keep_what_they_hold(tickets: dict[str, Path]) -> None:
    texts = made_up(12, seed=3)
    rows = [{"text": text, "meta": {"n": i}} for i, text in enumerate(texts)]
    Path("pool.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    command = ["suggest", str(tickets["run"]), "--file", "pool.jsonl", "--rows", "3"]
    main([*command, "--out", "next.jsonl"])
    lines = [json.loads(line) for line in Path("next.jsonl").read_text().splitlines()]
    assert all(texts[line["meta"]["n"]] == line["text"] for line in lines)
    assert [line["label"] for line in lines] == [None] * 3


def test_the_features_of_a_pool_are_computed_once(
    tickets: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    request = SuggestRequest(tickets["pool"], Path("next.csv"), rows=7, by=By.uncertain)
    first = suggest(tickets["run"], request)
    with caplog.at_level("INFO", logger="nlp_transfer"):
        second = suggest(tickets["run"], request)
    assert "features of the pool are found" in caplog.text
    assert first.window.equals(second.window)


@pytest.mark.parametrize(
    ("more", "message", "code"),
    [
        ((), "--file FILE is required", ExitCode.CONFIG),
        (("--file", "nowhere.csv"), "no such file", ExitCode.DATA),
        (("--file", "pool.csv", "--text", "body"), "'body' is not a column", ExitCode.DATA),
        (("--file", "pool.csv", "--out", "kept.csv"), "is there already", ExitCode.CONFIG),
        (("--file", "known.csv"), "has no row to suggest", ExitCode.DATA),
        (("--file", "guessed.csv"), "has a column 'guess' already", ExitCode.DATA),
        (("--file", "number.jsonl"), "number.jsonl, row 2: a text is expected", ExitCode.DATA),
        (("--simulate", "--labels", "20"), "at least 32 labels", ExitCode.CONFIG),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_lost(
    tickets: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    message: str,
    code: ExitCode,
) -> None:
    write_pool(Path("pool.csv"), made_up(5, seed=4))
    write_pool(Path("known.csv"), [row["text"] for row in rows_of(tickets["train"])])
    Path("guessed.csv").write_text("text,guess\na lovely warm film,positive\n")
    Path("number.jsonl").write_text('{"text": "a film"}\n{"text": 5}\n')
    Path("kept.csv").write_text("filled in already")
    with pytest.raises(SystemExit) as caught:
        main(["suggest", str(tickets["run"]), *more])
    assert caught.value.code == code
    assert message in capsys.readouterr().err
    assert Path("kept.csv").read_text() == "filled in already"
    assert not Path("next.csv").exists()


def test_a_list_of_splits_of_a_dataset_is_refused() -> None:
    with pytest.raises(UserError, match="Lists are for files"):
        compose("+task=sentiment", "dataset.train=[train,test]")
    with pytest.raises(UserError, match="names no file"):
        compose("+task=classify", "dataset.train=[]", "checkpoint=minilm")
    assert DatasetConfig(train=["a.csv", "b.csv"]).places("train") == ["a.csv", "b.csv"]


def test_uncertain_rows_are_near_the_boundary_and_far_from_each_other() -> None:
    generator = np.random.default_rng(0)
    x = np.repeat(np.eye(8, 16, dtype=np.float32), 50, axis=0)  # eight groups of texts
    x += generator.normal(0, 0.01, x.shape).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    sure = generator.uniform(0.97, 1.0, 400)
    sure[::10] = 0.55  # five of each group
    probabilities = np.stack([sure, 1 - sure], axis=1)
    errors = errors_of(probabilities, probabilities.argmax(axis=1))
    choice = uncertain_rows(errors, x, 8, seed=0)
    assert (sure[choice.rows] == 0.55).all()
    assert len(set((choice.rows // 50).tolist())) == 8
    assert len(set(uncertain_rows(errors * 0, x, 400, seed=0).rows.tolist())) == 400


def test_the_distance_of_two_rows_is_that_of_their_gradients() -> None:
    generator = np.random.default_rng(1)
    x = generator.normal(size=(40, 6))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    probabilities = generator.dirichlet(np.ones(3), 40)
    errors = errors_of(probabilities, probabilities.argmax(axis=1)).astype(np.float64)
    gradients = np.einsum("il,id->ild", errors, x).reshape(40, -1)
    distances = (gradients**2).sum(axis=1)
    draws, rows = np.random.default_rng(3), []
    for _ in range(5):
        rows.append(int(draws.choice(40, p=distances / distances.sum())))
        new = ((gradients - gradients[rows[-1]]) ** 2).sum(axis=1)
        distances = np.minimum(distances, new)
        distances[rows] = 0
    assert uncertain_rows(errors, x, 5, seed=3).rows.tolist() == rows


def test_typical_rows_come_from_large_groups_without_a_label() -> None:
    generator = np.random.default_rng(0)
    sizes = (60, 40, 30, 20)
    x = np.repeat(np.eye(4, 8), sizes, axis=0)
    x += generator.normal(0, 0.05, x.shape)
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    group = np.repeat(range(4), sizes)
    choice = typical_rows(x, x[:1], 3, seed=0)
    assert sorted(group[choice.rows]) == [1, 2, 3]
    middle = x[group == 1].mean(axis=0)
    typical = x[choice.rows[group[choice.rows] == 1][0]]
    assert typical @ middle > np.median(x[group == 1] @ middle)


def test_evidence_is_weak_where_the_commonest_label_does_as_well() -> None:
    commonest = np.arange(100) % 2 == 0
    assert is_weak(commonest, commonest)
    assert not is_weak(np.arange(100) < 80, commonest)
    assert is_weak(np.array([True, True, False]), np.array([True, False, True]))


def test_near_duplicates_are_found_across_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = made_up(40, seed=5)
    texts[31] = texts[2] + " so"
    pool = write_pool(Path("pool.csv"), texts)
    whole = scan_pool(PoolFile(pool, "text"), normalised([texts[0]]))
    monkeypatch.setattr("nlp_transfer.data.formats.delimited.WINDOW", 7)
    windows = scan_pool(PoolFile(pool, "text"), normalised([texts[0]]))
    assert windows.kept.tolist() == whole.kept.tolist()
    assert {0, 31}.isdisjoint(whole.kept.tolist())
    assert whole.alike == 2


def groups(seed: int) -> Labelled:
    """Two labels, of which one is rare but for texts that random rows seldom hit."""
    generator = np.random.default_rng(seed)
    means = generator.normal(size=(12, 24))
    group = np.concatenate([np.zeros(700, int), generator.integers(1, 12, 300)])
    x = means[group] + generator.normal(0, 0.3, (1000, 24))
    x = (x - x.mean(axis=0)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    order = generator.permutation(1000)
    x, labels = x[order], (group % 3)[order]
    return Labelled(x[:600], labels[:600], x[600:], labels[600:], 3)


def test_a_simulation_compares_with_random_rows_from_the_same_start() -> None:
    simulation = replay(groups(0), sizes_up_to(64), seeds=3, by=By.uncertain)
    first, *_, last = simulation.points
    assert [point.labels for point in simulation.points] == [16, 32, 64]
    assert first.gain.value == first.gain.low == first.gain.high == 0
    assert last.suggested.value > last.random.value
    assert json.loads(simulation.as_json())["points"][2]["labels"] == 64
    assert "means of 3 seeds" in str(simulation)


def test_a_simulation_begins_with_labels_of_which_some_have_one_row() -> None:
    generator = np.random.default_rng(3)
    labels = generator.choice(6, 400, p=[0.4, 0.3, 0.2, 0.06, 0.02, 0.02])
    x = generator.normal(size=(6, 16))[labels] + generator.normal(0, 0.8, (400, 16))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    rows = Labelled(x[:300].astype(np.float32), labels[:300], x[300:], labels[300:], 6)
    simulation = replay(rows, sizes_up_to(64), seeds=4, by=By.auto)
    assert simulation.points[-1].random.value > simulation.points[0].random.value


@pytest.mark.slow
def test_simulate_prints_a_table_and_writes_json(
    tickets: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["suggest", str(tickets["run"]), "--simulate", "--labels", "32", "--seeds", "2"]
    main([*command, "--file", str(write_csv(Path("known.csv"), make_rows(120))), "--out", "s.json"])
    figures: Any = json.loads(Path("s.json").read_text())
    output = capsys.readouterr().out
    assert figures["judged"] + figures["pool"] == 120
    assert f"{figures['points'][1]['random']['value']:.3f}" in output
