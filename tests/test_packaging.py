"""The wheel carries everything that a run needs, also outside the checkout."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
COMPOSE_EVERYTHING = """
import json, sys
from importlib import resources
import nlp_transfer
from nlp_transfer import compose
from nlp_transfer.data.corpus import load_corpus

composed = {}
for group in ("task", "checkpoint", "dataset", "strategy", "search"):
    for file in resources.files("nlp_transfer.conf").joinpath(group).iterdir():
        if not file.name.endswith(".yaml"):
            continue
        name = file.name.removesuffix(".yaml")
        plus = "+" if group in ("task", "search") else ""
        overrides = [*([] if group == "task" else ["+task=sentiment"]), f"{plus}{group}={name}"]
        if name in ("classify", "files"):
            overrides.append("dataset.train=mine.csv")
        config = compose(*overrides)
        composed[f"{group}/{name}"] = config.checkpoint.name
corpus = load_corpus(compose("+task=sentiment").dataset, 0)
rows = {name: len(split) for name, split in corpus.splits.items()}
print(json.dumps({"home": nlp_transfer.__file__, "composed": composed, "rows": rows}))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, installed into a folder of its own."""
    copy, target = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("target")
    for name in ("nlp_transfer", "conf"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, copy / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-index"]
    wheel = [*pip, "wheel", *offline, "--no-build-isolation", "-w", str(copy / "dist"), str(copy)]
    subprocess.run(wheel, check=True, capture_output=True)
    built = next((copy / "dist").glob("*.whl"))
    subprocess.run(
        [*pip, "install", *offline, "--target", str(target), str(built)],
        check=True,
        capture_output=True,
    )
    return target


def test_every_config_composes_from_the_wheel_outside_the_checkout(installed: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(installed)!r})\n{COMPOSE_EVERYTHING}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["home"].startswith(str(installed))
    in_checkout = {
        f"{path.parent.name}/{path.stem}" for path in (CHECKOUT / "conf").glob("*/*.yaml")
    }
    assert set(content["composed"]) == in_checkout
    assert set(content["rows"]) == {"train", "validation", "test"}


def test_the_wheel_carries_the_commands_and_what_they_show(installed: Path) -> None:
    for shown in ("serving/page.html", "reporting/html/report.html.j2"):
        assert (installed / "nlp_transfer" / shown).is_file()
    entries = next(installed.glob("nlp_transfer-*.dist-info")) / "entry_points.txt"
    assert "nlp-transfer = nlp_transfer.cli.main:main" in entries.read_text()


def test_the_wheel_carries_the_text_of_the_fresh_process(installed: Path) -> None:
    assert (installed / "nlp_transfer" / "export" / "pipeline_probe.py").is_file()
    assert (installed / "nlp_transfer" / "py.typed").is_file()
