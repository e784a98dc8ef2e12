"""The documentation is complete and true: what it names exists, and its commands are valid."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urlsplit

import documented
import pytest
from documented import DOCS, ROOT, blocks, command_lines, pages

sys.path += [str(DOCS / "_ext"), str(ROOT / "scripts")]

import commands_page
import metrics_page
import options_page
from run_notebooks import TUTORIALS, execute

from nlp_transfer import compose
from nlp_transfer.cli.main import COMMANDS, make_parser
from nlp_transfer.cli.train import overrides_of
from nlp_transfer.config.options import STAGE, options
from nlp_transfer.evaluation.registry import metrics_of

LINK = re.compile(r"\]\((?!#)([^)\s]+)\)")
KEY = re.compile(r"`([a-z_]+(?:\.[a-z_<>]+)+)(?:=[^`]*)?`")
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
FILES = (".json", ".yaml", ".html", ".md", ".onnx", ".py")
BLOCKS = [block for page in pages() for block in blocks(page)]
VALID = [b for b in BLOCKS if b.language == "bash" and b.is_command and b.mark != "exit"]


def test_every_option_is_documented_with_its_meaning() -> None:
    shown = re.findall(r"^:::\{confval\} (\S+)$", options_page.markdown(), re.M)
    assert shown == [option.key.replace(STAGE, "<stage>") for option in options()]
    assert [option.key for option in options() if not option.meaning] == []


def test_every_value_of_a_choice_is_documented() -> None:
    texts = {o.key: dict(options_page.values(o)) for o in options() if o.values}
    assert [
        f"{key}={value}"
        for key, of_key in texts.items()
        for value, text in of_key.items()
        if not text
    ] == []


def test_every_command_and_argument_is_documented() -> None:
    page = commands_page.markdown()
    assert re.findall(r"^### (\S+)$", page, re.M) == [command.name for command in COMMANDS]
    for parser in commands_page.subparsers_of(make_parser()).values():
        for action in parser._actions:
            for flag in set(action.option_strings) - {"-h", "--help"}:
                assert flag in page


def test_every_metric_has_a_formula_and_a_source() -> None:
    registered = [metric for kind in metrics_page.kinds() for metric in metrics_of(kind).values()]
    assert [metric for metric in registered if not metric.formula] == []
    page = metrics_page.markdown()
    assert all(f"${metric.formula}$" in page and metric.source in page for metric in registered)


@pytest.mark.parametrize("block", VALID, ids=str)
def test_the_command_lines_of_a_block_are_valid(block: documented.Block) -> None:
    for other in blocks(block.page):
        if other.mark == "file":
            documented.Session(Path()).run(other)
    for command, *arguments in command_lines(block):
        if command == "train" and "--help" not in arguments:
            own = "--config-dir" in arguments
            folder = arguments[arguments.index("--config-dir") + 1] if own else None
            words = [_first(w) for w in overrides_of(arguments) if not w.startswith("hydra")]
            compose(*words, config_dir=folder)
        elif not {"--help", "--version"} & {command, *arguments}:
            make_parser().parse_known_args([command, *arguments])


def _first(override: str) -> str:
    """The first of the values that `--multirun` is given."""
    key, _, value = override.partition("=")
    return override if value[:1] in "[{\"'" else f"{key}={value.split(',')[0]}"


def test_three_of_four_command_blocks_run_and_the_others_say_why() -> None:
    commands = [block for block in BLOCKS if block.is_command]
    skipped = [block for block in commands if not block.runs]
    assert len(skipped) <= len(commands) / 4, documented.counted(BLOCKS)
    assert [str(block) for block in skipped if len(block.value.split()) < 3] == []


def test_every_key_that_the_pages_name_is_an_option() -> None:
    known = {option.key.replace(STAGE, "<stage>") for option in options()}
    sections = {key.partition(".")[0] for key in known if "." in key}
    wrong = [
        f"{page.relative_to(ROOT)}: {key}"
        for page in pages()
        for key in KEY.findall(page.read_text("utf-8"))
        if key.partition(".")[0] in sections
        and not key.startswith("strategy.stages.")
        and key not in known
        and not key.endswith(FILES)
    ]
    assert wrong == []


def test_links_to_files_exist_and_links_to_the_web_are_well_formed() -> None:
    wrong = []
    for page in pages():
        for link in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
            parts = urlsplit(link)
            if parts.scheme:
                right = parts.scheme == "https" and "." in parts.netloc
            else:
                right = (page.parent / parts.path).exists()
            wrong += [] if right else [f"{page.relative_to(ROOT)}: {link}"]
    assert wrong == []


def anchor(key: str) -> str:
    """What stands behind `#confval-` in a link to an option: its key as Sphinx writes it."""
    return key.replace(f".{STAGE}.", ".-stage-.")


def broken_links(site: Path) -> list[str]:
    """Links between the pages of a built site, and to places in them, that lead nowhere."""
    pages = {page.resolve(): page.read_text("utf-8") for page in site.rglob("*.html")}
    places = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    broken = []
    for page, text in pages.items():
        for link in set(re.findall(r'<a\b[^>]*\bhref="([^"]+)"', text)):
            parts = urlsplit(unescape(link))
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            place = unquote(parts.fragment)
            known = target.exists() and (not place or place in places.get(target, {place}))
            broken += [] if known else [f"{page.relative_to(site.resolve())}: {link}"]
    return sorted(broken)


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_without_a_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run([*command, DOCS, tmp_path / "site"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "reference" / "options.html").read_text("utf-8")
    assert [o.key for o in options() if f'id="confval-{anchor(o.key)}"' not in page] == []
    assert broken_links(tmp_path / "site") == []
    guide = (tmp_path / "site" / "guide" / "few-labels.html").read_text("utf-8")
    assert 'href="../reference/options.html#confval-evaluation.folds"' in guide
    loaded = re.findall(r'(?:src|href)="(https?://[^"]+)"', page)
    assert [url for url in loaded if url.endswith((".js", ".css", ".woff2"))] == []


PAGES = [page for page in pages() if any(block.runs for block in blocks(page))]
# These begin where nothing is; the others use what they made.
FROM_NOTHING = ("README.md", "get-started")
MADE = {
    "runs/tickets": "+task=classify dataset.train=tickets.csv dataset.text=body "
    "dataset.label=queue",
    "runs/sentiment": "+task=sentiment strategy=feature_extraction",
}


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of the first pages."""
    folder = tmp_path_factory.mktemp("made")
    documented.copy_data(folder)
    for run_dir, words in MADE.items():
        command = [sys.executable, "-m", "nlp_transfer.train", *words.split(), f"run_dir={run_dir}"]
        environment = documented.environment()
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_commands_of_a_page_run(page: Path, request: pytest.FixtureRequest) -> None:
    folder = Path("page").resolve()
    if not str(page.relative_to(ROOT)).removeprefix("docs/").startswith(FROM_NOTHING):
        shutil.copytree(request.getfixturevalue("made"), folder)
    of_page = blocks(page)
    with documented.session(folder) as session:
        for block, following in zip(of_page, [*of_page[1:], None], strict=True):
            session.run(block, following)


@pytest.mark.slow
@pytest.mark.parametrize("notebook", sorted(TUTORIALS.glob("*.ipynb")), ids=lambda n: n.stem)
def test_a_tutorial_runs_on_the_embedded_model(notebook: Path, tmp_path: Path) -> None:
    executed = execute(notebook, tmp_path)
    assert any(cell.get("outputs") for cell in executed.cells)


def test_every_tutorial_shows_the_output_of_each_command() -> None:
    silent = [
        f"{notebook.name}, cell {place}"
        for notebook in sorted(TUTORIALS.glob("*.ipynb"))
        for place, cell in enumerate(json.loads(notebook.read_text("utf-8"))["cells"])
        if cell["cell_type"] == "code" and cell["execution_count"] is None
    ]
    assert silent == []
