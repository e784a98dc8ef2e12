"""`nlp-transfer`: its list of commands, options, completion, hints and quick start-up."""

from __future__ import annotations

import os
import pty
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import LABELS, QUIETLY, SAMPLE_TEXTS, make_rows, write_csv
from omegaconf import OmegaConf
from tiny_models import save_classifier

from nlp_transfer import Classifier
from nlp_transfer.cli.main import COMMANDS, GROUPS, main
from nlp_transfer.config.options import STAGE, options
from nlp_transfer.data.sources import SPLITS
from nlp_transfer.errors import ExitCode, UserError
from nlp_transfer.export.exporters import EXPORTERS
from nlp_transfer.hub.files import model_files
from nlp_transfer.inference.engines import ENGINES


@pytest.fixture(scope="module")
def model(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported folder of a classifier with random weights."""
    return save_classifier(checkpoints["bert"], tmp_path_factory.mktemp("commands") / "model")


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one error message of a command line with a mistake."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == ExitCode.CONFIG
    return capsys.readouterr().err


def test_help_lists_every_command_below_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    lines = capsys.readouterr().out.splitlines()
    assert not exit_.value.code
    assert [f"{title}:" for title in GROUPS] == [line for line in lines if line.endswith(":")]
    listed = [line.split()[0] for line in lines if line.startswith("  ") and "--" not in line]
    assert listed == [command.name for command in COMMANDS]
    assert max(map(len, lines)) <= 88


def test_an_error_on_a_terminal_is_broken_between_words() -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "nlp_transfer.cli", "traim"]
    environment = {**os.environ, "COLUMNS": "40"}
    done = subprocess.run(command, stderr=theirs, env=environment)
    printed = os.read(ours, 4096).decode()
    in_a_file = subprocess.run(command, capture_output=True, text=True, env=environment).stderr
    assert done.returncode == ExitCode.CONFIG
    assert max(map(len, printed.splitlines())) <= 40 < max(map(len, in_a_file.splitlines()))
    assert printed.split() == in_a_file.split()


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"nlp-transfer {version('nlp_transfer')}\n"


def test_train_is_the_training_command(capfd: pytest.CaptureFixture[str]) -> None:
    main(["train", "+task=sentiment", "training.batch_size=7", "--cfg", "job"])
    assert "  batch_size: 7\n" in capfd.readouterr().out


def test_help_of_train_lists_the_groups_of_a_folder_of_your_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("mine/strategy").mkdir(parents=True)
    Path("mine/strategy/gentle.yaml").write_text("# Slowly, from the top.\nname: gentle\n")
    main(["train", "--config-dir", "mine", "--help"])
    assert "  gentle               Slowly, from the top.\n" in capsys.readouterr().out


def test_options_tell_every_key_its_type_its_default_and_its_meaning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["options"])
    printed = capsys.readouterr().out
    keys = [line for line in printed.splitlines() if not line.startswith(" ")]
    assert len(keys) == len(options())
    assert "training.batch_size=16\n    int\n    Rows of one optimizer step" in printed
    assert "training.precision=auto\n    auto | fp32 | bf16 | fp16\n" in printed
    assert f"strategy.stages.{STAGE}.layers\n    str (required)\n" in printed
    main(["options", "batch"])
    some = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert "training.batch_size=16" in some
    assert len(some) < len(keys) / 4
    assert "'qwertz'" in refusal(capsys, "options", "qwertz")


def test_a_reader_who_has_seen_enough_is_not_told_so() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "nlp_transfer.cli", "options"]
    ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (141, b"")


def test_options_begin_with_those_that_are_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    main(["options", "epoch"])
    assert capsys.readouterr().out.startswith("strategy.epochs=null\n")


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("trian", "'trian' is not a command. Did you mean train?"),
        ("qwertz", "nlp-transfer --help lists them."),
        ("--epochs", "A command comes first, as in nlp-transfer train +task=sentiment --epochs."),
        ("seed=1", "A command comes first, as in nlp-transfer train +task=sentiment seed=1."),
    ],
)
def test_another_word_than_a_command_is_refused_with_what_is_meant(
    word: str, answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer in refusal(capsys, word)


def test_without_a_word_the_help_is_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Prepare and train:" in refusal(capsys)


# What a person types, and the key that the answer must name.
MISTAKES = {
    "epochs=3": "strategy.epochs?",
    "lr=1e-4": "strategy.learning_rate?",
    "training.learning_rate=1e-4": "strategy.learning_rate?",
    "training.epochs=3": "strategy.epochs?",
    "batch_size=8": "training.batch_size?",
    "max_length=64": "tokenization.max_length?",
    "model=bert": "checkpoint=NAME",
    "output_dir=x": "run_dir?",
    "training.num_train_epochs=3": "strategy.epochs?",
    "text=body": "dataset.text?",
    "name=x": "checkpoint.name or dataset.name",
    "my.csv": "dataset.train=my.csv",
    "--epochs 3": "strategy.epochs=3",
    "--learning-rate=1e-4": "strategy.learning_rate=1e-4",
    "--frobnicate": "nlp-transfer train --help",
}


@pytest.mark.parametrize("typed", MISTAKES)
@pytest.mark.parametrize("command", ["train", "check"])
def test_a_key_that_exists_elsewhere_is_named(
    typed: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refusal(capsys, command, "+task=sentiment", *typed.split())
    assert MISTAKES[typed].replace("train --help", f"{command} --help") in message
    assert len(message.splitlines()) == 1


COMPLETED = {
    "nlp-transfer tr": (1, {"train"}),
    "nlp-transfer train training.precision=b": (4, {"bf16"}),
    "nlp-transfer train training.micro": (2, {"training.micro_batch_size="}),
    "nlp-transfer train +task=top": (4, {"topic"}),
    "nlp-transfer train dataset.train=tick": (4, {"tickets.csv"}),
    "nlp-transfer predict --fo": (2, {"--force", "--format"}),
    "nlp-transfer report tick": (2, {"tickets.csv"}),
    "nlp-transfer predict my --backend ": (4, {"torch", "onnx", "int8"}),
    "nlp-transfer predict my --file tick": (4, {"tickets.csv"}),
    "nlp-transfer options hub.re": (2, {"hub.repository", "hub.revision"}),
}


def test_the_shell_completes_commands_flags_options_and_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["completion", "bash"])
    Path("completion.sh").write_text(capsys.readouterr().out)
    Path("tickets.csv").touch()
    script = ["source completion.sh"]
    for line, (place, _) in COMPLETED.items():
        script += [
            f"COMP_LINE='{line}' COMP_POINT={len(line)} COMP_WORDS=({line}) COMP_CWORD={place}",
            '_nlp_transfer 2>/dev/null; echo "${COMPREPLY[*]}"',
        ]
    done = subprocess.run(["bash", "-c", "\n".join(script)], capture_output=True, text=True)
    answers = [set(line.split()) for line in done.stdout.splitlines()]
    assert answers == [words for _, words in COMPLETED.values()], done.stderr


def test_commands_that_only_read_import_neither_torch_nor_transformers(
    finished: Path, checkpoints: dict[str, Path]
) -> None:
    stored = OmegaConf.load(finished / "config.yaml")
    words = ["+task=classify", f"checkpoint.name={checkpoints['bert']}", *QUIETLY]
    words += [f"dataset.{split}={stored.dataset[split]}" for split in SPLITS]
    words += ["strategy=full", "strategy.epochs=8", "strategy.learning_rate=1e-3"]
    typed = [
        ["--help"],
        ["options", "epochs"],
        ["completion", "bash"],
        ["train", "--help"],
        ["train", "epochs=3"],
        ["report", "run"],
        ["compare", "run", "run"],
        ["train", *words, "run_dir=run"],
    ]
    script = f"""
import shutil, sys
from nlp_transfer.cli.main import main
shutil.copytree({str(finished)!r}, "run")
for arguments in {typed!r}:
    try:
        main(arguments)
    except SystemExit:
        pass
    heavy = [name for name in ("torch", "transformers") if name in sys.modules]
    print("imported", heavy, arguments, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "run is finished" in done.stderr
    assert done.stdout.endswith("Report: run/report.html\n")
    lines = [line for line in done.stderr.splitlines() if line.startswith("imported")]
    assert lines == [f"imported [] {arguments}" for arguments in typed], done.stderr


def test_what_is_absent_is_named_before_torch_is_imported() -> None:
    config = ["+task=classify", "dataset.train=absent.csv"]
    Path("model").mkdir()
    folders = [["repeat"], ["suspects"], ["suggest", "--file", "t.csv"], ["export", "--onnx"]]
    typed = [["check", *config], ["estimate", *config], ["learning-curve", *config]]
    typed += [["rank", *config, "--checkpoints", "minilm"], ["distill", "absent", "--layers", "1"]]
    typed += [[command, "absent", *more] for command, *more in folders]
    typed += [["evaluate", "model", "--data", "absent.csv"]]
    Path("t.csv").write_text("text\n")
    script = f"""
import sys
from nlp_transfer.cli.main import main
for arguments in {typed!r}:
    try:
        main(arguments)
    except SystemExit:
        print("torch" in sys.modules, arguments[0])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines() == [f"False {arguments[0]}" for arguments in typed], done.stderr
    errors = done.stderr.splitlines()
    assert len(errors) == len(typed)
    assert all(line.startswith("Error: ") and "absent" in line for line in errors), errors


def test_rows_and_columns_are_refused_before_torch_is_imported(finished: Path) -> None:
    write_csv(Path("few.csv"), make_rows(57))
    few = ["learning-curve", "+task=classify", "dataset.train=few.csv"]
    column = ["evaluate", str(finished), "--data", "few.csv", "--label", "lable"]
    there = ["evaluate", str(finished), "--data", "few.csv", "--out", "few.csv"]
    script = f"""
import sys
from nlp_transfer.cli.main import main
for arguments in {[few, column, there]!r}:
    try:
        main(arguments)
    except SystemExit:
        print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == ["False"] * 3, done.stderr
    errors = done.stderr.splitlines()
    assert "With 57 rows cross-validation decides" in errors[0]
    assert "few.csv" in errors[1] and "'lable'" in errors[1]
    assert "--out few.csv is there already" in errors[2]


def test_without_a_network_a_name_of_the_hub_is_one_message_and_leaves_no_folder(
    typed: Callable[..., list[str]],
) -> None:
    closed = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": "cache", "HF_HUB_OFFLINE": "0"}
    named = typed("checkpoint.name=somebody/some-bert")
    for words in (named, ["+task=topic", "dataset.name=somebody/texts"]):
        command = [sys.executable, "-m", "nlp_transfer.cli", "train", *words]
        environment = {**os.environ, **closed}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode in (ExitCode.CHECKPOINT, ExitCode.DATA)
        assert done.stderr.count("Error: ") == len(done.stderr.splitlines()) == 1
        assert "the Hub cannot be reached (" in done.stderr
        assert "somebody/" in done.stderr
        assert not Path("runs").exists()


@pytest.mark.parametrize("protocol", ["http", "hf"])
def test_data_of_a_server_that_is_silent_is_one_message_after_one_question(
    protocol: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nlp_transfer.network.TIMEOUT", 0.3)
    monkeypatch.setattr("nlp_transfer.network.SILENCE", 0.3)
    monkeypatch.setattr("nlp_transfer.network._reasons", {})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        here = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", here)
        url = f"{here}/a.csv" if protocol == "http" else "hf://datasets/somebody/texts/a.csv"
        with pytest.raises(SystemExit) as leaving:
            main(["train", "+task=classify", f"dataset.train={url}"])
        silent.settimeout(0)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()
    message = capsys.readouterr().err
    assert leaving.value.code == ExitCode.DATA
    assert message.startswith(f"Error: dataset.train='{url}' cannot be read: ")
    assert "the server was silent" in message or "timed out" in message
    assert len(message.splitlines()) == 1 and not Path("runs").exists()


@pytest.mark.parametrize("command", ["predict", "export", "compare"])
def test_a_folder_that_is_no_run_is_answered_with_the_runs_nearby(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("runs/tickets", "runs/mails"):
        Path(name).mkdir(parents=True)
        Path(name, "run.json").write_text("{}")
    more = {"predict": ["a text"], "export": ["--onnx"], "compare": ["runs/mails"]}[command]
    for typed, answer in (("runs/tikets", "Did you mean runs/tickets?"), ("runs", "runs/mails, ")):
        with pytest.raises(SystemExit):
            main([command, typed, *more])
        assert answer in capsys.readouterr().err


# predict and Classifier ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", '{"state": "fin', "run.json is damaged: it is no JSON"),
        ("run.json", "", "run.json is damaged: it is no JSON"),
        ("run.json", "[]", "run.json is damaged: it holds no JSON object"),
        ("run.json", "{}", "run.json is damaged: it does not say how far the run is"),
        ("metrics.json", '{"test": {"rows": 3', "metrics.json is damaged: it is no JSON"),
        ("config.yaml", "", "config.yaml is damaged: it names no task"),
        ("config.yaml", "task: [\n", "config.yaml is damaged: it is no YAML"),
        ("config.yaml", "- a", "config.yaml is damaged: it holds no configuration"),
    ],
)
def test_a_file_of_a_run_that_was_copied_halfway_is_named(
    file: str,
    content: str,
    message: str,
    finished: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copy = Path("copy")
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("*.safetensors", "checkpoints"))
    (copy / file).write_text(content)
    with pytest.raises(SystemExit) as exit_:
        main(["report", str(copy)])
    assert exit_.value.code == ExitCode.RUN_FOLDER
    said = capsys.readouterr().err
    assert message in said
    assert "Copy the whole folder again" in said


def test_sentences_are_answered_at_once(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = [answer.label for answer in Classifier.load(model).predict(SAMPLE_TEXTS[:2])]
    capsys.readouterr()
    main(["predict", str(model), *SAMPLE_TEXTS[:2]])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == expected
    assert [line.endswith(text) for line, text in zip(lines, SAMPLE_TEXTS, strict=False)] == [
        True,
        True,
    ]
    main(["predict", str(model), "--probabilities", "--threads", "1", SAMPLE_TEXTS[0], ""])
    first, second = capsys.readouterr().out.splitlines()
    assert [f"{label} 0." in first or f"{label} 1." in first for label in LABELS] == [True] * 3
    assert second.strip() == "(no text)"
    assert "--file is for a table" in refusal(capsys, "predict", str(model), "a", "--file", "b.csv")
    Path("b.csv").write_text("body\na film\n")
    assert "--text COLUMN is required" in refusal(capsys, "predict", str(model), "--file", "b.csv")


def columns() -> Iterator[tuple[str, object]]:
    """The same three texts as columns of many kinds; `filtered` has an index of its own."""
    texts = SAMPLE_TEXTS[:3]
    yield "list", texts
    yield "generator", (text for text in texts)
    yield "array", np.array(texts)
    yield "series", pd.Series(texts)
    frame = pd.DataFrame({"text": ["dropped", *texts], "keep": [False, True, True, True]})
    yield "filtered", frame[frame["keep"]]["text"]


def test_texts_may_be_a_column_of_any_library_and_blank_ones_have_no_answer(model: Path) -> None:
    classifier = Classifier.load(model)
    expected = classifier.predict(SAMPLE_TEXTS[:3])
    assert len({type(answer) for answer in expected}) == 1
    for kind, column in columns():
        assert classifier.predict(column) == expected, kind  # type: ignore[arg-type]
    blank = [None, SAMPLE_TEXTS[0], "", "  ", float("nan"), pd.NA, SAMPLE_TEXTS[1]]
    answers = classifier.predict(blank)
    assert [answer is None for answer in answers] == [True, False, True, True, True, True, False]
    assert [answers[1].label, answers[6].label] == [a.label for a in expected[:2]]  # type: ignore[union-attr]
    assert np.isnan(classifier.probabilities(blank)).all(axis=1).sum() == 3
    assert classifier.predict([]) == []
    with pytest.raises(TypeError, match=r"\[text\]"):
        classifier.predict("one text")
    with pytest.raises(TypeError, match=r'table\["text"\]'):
        classifier.predict(pd.DataFrame({"text": SAMPLE_TEXTS}))
    with pytest.raises(UserError, match="found a list in row 0"):
        classifier.predict([["a", "list"]])
    for value in (7, 2.5, True, b"bytes", date(2024, 1, 2), {"text": "a"}):
        with pytest.raises(UserError, match="A text is expected, found .* in row 1"):
            classifier.predict(["a text", value])
    with pytest.raises(UserError, match="in row 1 .from 0.: .* is half of a character"):
        classifier.predict(["a text", "cut \ud83d"])
    for column in ({"a", "b"}, frozenset("ab"), b"bytes", None, 7):
        with pytest.raises(TypeError, match="a list of texts is expected"):
            classifier.predict(column)
    assert classifier.predict(["\u200b"]) == [None]
    assert repr(classifier) == (
        "Classifier(single_label, 3 labels: bad, good, neither; TorchEngine)"
    )


# Engines and exporters of other packages ----------------------------------------------------------

OUTSIDE = '''
from nlp_transfer.hub.files import model_files
from nlp_transfer.inference.engines import ENGINES, EngineSpec

def load(model, threads):
    """The torch engine, which is told apart by its labels."""
    engine = ENGINES["torch"].load(model, threads)
    engine.decoder = type(engine.decoder)(tuple(name.upper() for name in engine.decoder.labels))
    return engine

SPEC = EngineSpec(load, ("loud/*.txt",))

def export(folder, request):
    (folder / "loud").mkdir()
    (folder / "loud" / "voice.txt").write_text("loud")
    return f"Written: loud, compared on {len(request.questions.texts)} texts"
'''


def test_another_package_adds_an_engine_and_an_export_format(
    checkpoints: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = save_classifier(checkpoints["bert"], Path("model"))
    package = Path("installed")
    about = package / "outside-1.0.dist-info"
    about.mkdir(parents=True)
    (package / "outside_package.py").write_text(OUTSIDE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    groups = {"engines": "SPEC", "exporters": "export"}
    lines = [f"[nlp_transfer.{g}]\nloud = outside_package:{name}\n" for g, name in groups.items()]
    (about / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(package.resolve()))
    try:
        Path("texts.csv").write_text("text\na lovely film\n")
        main(["export", str(model), "--format", "loud", "--data", "texts.csv"])
        assert "Written: loud, compared on 1 texts" in capsys.readouterr().out
        main(["predict", str(model), "--backend", "loud", "a lovely film"])
        assert capsys.readouterr().out.split()[0] in [label.upper() for label in LABELS]
        assert "loud/voice.txt" in model_files(model)
    finally:
        ENGINES.pop("loud", None)
        EXPORTERS.pop("loud", None)
    monkeypatch.undo()
    assert "'loud' (choose from" in refusal(capsys, "predict", "m", "--backend", "loud", "text")


def test_a_table_has_its_texts_where_the_run_had_them(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("texts.csv").write_text("id,text\n1,a lovely film\n")
    words = ["predict", str(finished), "--file", "texts.csv", "--threads", "1"]
    main([*words, "--out", "answers.csv"])
    assert "texts: 'text', as in the run (--text)" in capsys.readouterr().err
    assert Path("answers.csv").read_text().startswith("id,text,label,score\n1,a lovely film,")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("predict run hello --probabilites", "Did you mean --probabilities?"),
        ("predict run --flie texts.csv", "Did you mean --file?"),
        ("suspects run --neigbours=3", "Did you mean --neighbours?"),
        ("check +task=sentiment --outt x.json", "Did you mean --out?"),
        ("estimate +task=sentiment --stratgies full", "Did you mean --strategies?"),
        ("train +task=sentiment --multirn seed=1,2", "Did you mean --multirun?"),
        ("train +task=sentiment --epochs 3", "typed as KEY=VALUE: strategy.epochs=3"),
        ("predict run --zzz", "unrecognized arguments: --zzz. (nlp-transfer predict --help)"),
        ("train -m +task=sentiment seed=1,2 seed=3", "seed is given twice: seed=1,2 and seed=3."),
    ],
)
def test_what_was_misspelt_is_named_with_what_was_meant(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["nlp-transfer"])  # the training command sets it
    with pytest.raises(SystemExit) as exit_info:
        main(typed.split())
    assert exit_info.value.code == ExitCode.CONFIG
    assert meant in capsys.readouterr().err
