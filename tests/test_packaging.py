"""The wheel carries everything that a run needs, also outside the checkout."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
LIST_AND_COMPOSE = """
import json, sys
from importlib import resources
import nlp_transfer
from nlp_transfer import compose
from nlp_transfer.data.corpus import load_corpus

listed = [
    f"{group}/{file.name}"
    for group in ("task", "checkpoint", "dataset", "strategy", "search")
    for file in resources.files("nlp_transfer.conf").joinpath(group).iterdir()
    if file.name.endswith(".yaml")
]
corpus = load_corpus(compose("+task=sentiment", "+search=rates").dataset, 0)
rows = {name: len(split) for name, split in corpus.splits.items()}
print(json.dumps({"home": nlp_transfer.__file__, "listed": listed, "rows": rows}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, unpacked into a folder of its own."""
    copy, target = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("target")
    for name in ("nlp_transfer", "conf"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, copy / name)
    build = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True)
    with zipfile.ZipFile(next((copy / "dist").glob("*.whl"))) as wheel:
        wheel.extractall(target)
    return target


def test_the_wheel_carries_every_config_and_composes_outside_the_checkout(
    installed: Path,
) -> None:
    code = f"import sys; sys.path.insert(0, {str(installed)!r})\n{LIST_AND_COMPOSE}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["home"].startswith(str(installed))
    in_checkout = [f"{path.parent.name}/{path.name}" for path in CHECKOUT.glob("conf/*/*.yaml")]
    assert sorted(content["listed"]) == sorted(in_checkout)
    assert set(content["rows"]) == {"train", "validation", "test"}


def test_the_wheel_carries_the_commands_and_what_they_show(installed: Path) -> None:
    for shown in ("serving/page.html", "reporting/html/report.html.j2"):
        assert (installed / "nlp_transfer" / shown).is_file()
    entries = next(installed.glob("nlp_transfer-*.dist-info")) / "entry_points.txt"
    assert "nlp-transfer = nlp_transfer.cli.main:main" in entries.read_text()


def test_the_wheel_carries_the_text_of_the_fresh_process(installed: Path) -> None:
    assert (installed / "nlp_transfer" / "export" / "pipeline_probe.py").is_file()
    assert (installed / "nlp_transfer" / "py.typed").is_file()
