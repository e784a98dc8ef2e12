"""Words as people type them, and terminals as they have them."""

from __future__ import annotations

import errno
import io
import shlex
import sys
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

from nlp_transfer import compose
from nlp_transfer.cli.main import main
from nlp_transfer.errors import ExitCode, UserError, of_the_disk

# Values that a shell hands over as they are, and that Hydra's grammar has no words for.
PLAIN_VALUES = [
    "größe.csv",
    "日本.csv",
    "notes#1.csv",
    "a;b.csv",
    "R&D.csv",
    "new!.csv",
    "a=b.csv",
    "x^2.csv",
    "it's.csv",
    "a<b>.csv",
    "two words.csv",
    r"C:\data\reviews.csv",
]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_what_a_terminal_cannot_show_is_replaced(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(screen, encoding))
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    print("0.9 ± 0.1 → \U0001f600")
    sys.stdout.flush()
    assert end.value.code == 0
    shown = screen.getvalue().decode(encoding)
    lines = {
        "ascii": ("nlp-transfer COMMAND ...", "0.9 +- 0.1 -> ?"),
        "cp1252": ("nlp-transfer COMMAND …", "0.9 ± 0.1 -> ?"),
        "utf-8": ("nlp-transfer COMMAND …", "0.9 ± 0.1 → \U0001f600"),
    }[encoding]
    assert all(line in shown for line in lines)


def test_a_program_without_a_console_has_no_terminal_to_fail_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(SystemExit) as end:
        main(["evaluate", "nothing", "--wrong"])
    assert end.value.code == ExitCode.CONFIG


@pytest.mark.parametrize("command", ["check", "train", "predict"])
def test_a_name_that_the_locale_cannot_read_is_one_message(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "größe.csv".encode().decode("ascii", "surrogateescape")  # as Python hands it over
    with pytest.raises(SystemExit) as end:
        main([command, f"dataset.train={name}"])
    assert end.value.code == ExitCode.CONFIG
    assert "'dataset.train=größe.csv' has letters" in (message := capsys.readouterr().err)
    assert "PYTHONUTF8=1" in message


def test_without_a_folder_for_temporary_files_the_message_names_the_variable() -> None:
    error = FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
    refusal = of_the_disk(error)
    assert refusal is not None
    assert "set TMPDIR to a folder" in str(refusal)


@pytest.mark.parametrize("value", PLAIN_VALUES)
def test_a_file_name_needs_no_quotes_of_hydra(value: str) -> None:
    assert compose("+task=classify", f"dataset.train={value}").dataset.train == value


NAMES = ("Kategorie (neu)", "a[1].csv", 'say "x" (2), b', "O'Brien (1)", "(a) {b}")


@pytest.mark.parametrize("value", NAMES)
def test_a_name_that_the_grammar_of_hydra_refuses_is_taken_as_it_is(value: str) -> None:
    words = [f"dataset.train={value}", f"dataset.text={value}", f"run_dir={value}"]
    config = compose("+task=classify", *words)
    assert (config.dataset.train, config.dataset.text, config.run_dir) == (value, value, value)
    assert compose("+task=classify", f"dataset.label={value}").dataset.label == value
    listed = compose("+task=classify", "dataset.label=[Preis (€),Land (neu)]").dataset
    assert listed.label == ["Preis (€)", "Land (neu)"]


@pytest.mark.parametrize(
    "word",
    ["tokenization.folder={a (b)", "training.loss=a (b)", "evaluation.metrics=[a (b),c]"]
    + ["dataset.label_names={0: gut (sehr),1: schlecht}", "hub.tag=it's (a)"],
)
def test_a_value_that_could_mean_more_is_shown_as_it_has_to_be_typed(word: str) -> None:
    with pytest.raises(UserError, match="cannot be read") as caught:
        compose("+task=classify", word)
    shown = str(caught.value).partition("the whole word in single ones: ")[2]
    (typed,) = shlex.split(shown)
    try:
        compose("+task=classify", typed)
    except UserError as error:
        assert "cannot be read" not in str(error)


def test_several_values_of_one_run_are_refused_with_what_can_be_typed() -> None:
    with pytest.raises(UserError, match="several values") as caught:
        compose("+task=classify", "evaluation.metrics=accuracy,f1_macro")
    assert "evaluation.metrics=[accuracy,f1_macro] for a list" in str(caught.value)
    assert "'evaluation.metrics=\"accuracy,f1_macro\"' for one value" in str(caught.value)


@pytest.mark.parametrize("sign", ",;|/&+^:")
def test_a_sign_between_labels_or_cells_needs_no_quotes_of_hydra(sign: str) -> None:
    signs = (f"dataset.delimiter={sign}", f"dataset.separator={sign}")
    dataset = compose("+task=classify", "dataset.train=x.csv", *signs).dataset
    assert (dataset.delimiter, dataset.separator) == (sign, sign)


def test_columns_may_be_called_by_numbers() -> None:
    files = ("+task=classify", "dataset.train=x.csv", "dataset.text=0")
    assert compose(*files, "dataset.label=1").dataset.label == "1"
    assert compose(*files, "dataset.label=[1,2]").dataset.label_columns == ["1", "2"]
    with pytest.raises(UserError, match=r"dataset\.label=True must be a column"):
        compose(*files, "dataset.label=true")


def test_a_path_may_begin_with_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = compose("+task=sentiment", "run_dir=~/runs/one", "features.folder=~/stored")
    assert config.run_dir == f"{tmp_path}/runs/one"
    assert config.features.folder == f"{tmp_path}/stored"


def test_a_program_that_uses_hydra_composes_and_keeps_its_own() -> None:
    with hydra.initialize(version_base=None, config_path=None):
        own = GlobalHydra.instance().hydra
        for _ in range(2):
            assert compose("+task=sentiment").task == "sentiment"
        assert GlobalHydra.instance().hydra is own
        with pytest.raises(UserError):
            compose("+task=nothing")
        assert GlobalHydra.instance().hydra is own
    assert not GlobalHydra.instance().is_initialized()
