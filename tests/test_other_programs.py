"""The package inside a program: Hydra's state, the libraries' settings, a notebook's manners."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.version import VersionBase

from nlp_transfer import compose

APPLICATION = """
from dataclasses import dataclass
import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig

@dataclass
class Settings:
    depth: int = 1

ConfigStore.instance().store(name="schema", node=Settings)

@hydra.main(version_base="1.1", config_path=None, config_name="schema")
def main(settings):
    from nlp_transfer import compose
    config = compose("+task=sentiment", f"training.batch_size={settings.depth}")
    print(settings.depth, config.training.batch_size, HydraConfig.get().job.name)
    print(hydra.compose("schema", ["depth=9"]).depth)

main()
"""


def test_compose_works_inside_a_hydra_application(tmp_path: Path) -> None:
    file = tmp_path / "application.py"
    file.write_text(APPLICATION)
    command = [sys.executable, "-W", "ignore", str(file), "depth=7", "hydra.run.dir=."]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.split() == ["7", "7", "application", "9"], done.stderr


def test_compose_leaves_hydra_as_it_was() -> None:
    assert not GlobalHydra.instance().is_initialized()
    compose("+task=sentiment")
    assert not GlobalHydra.instance().is_initialized()
    ConfigStore.instance().store(name="of_this_test", node={"depth": 1})
    with hydra.initialize(version_base="1.2", config_path=None):
        before, version = GlobalHydra.instance().hydra, VersionBase.instance().getbase()
        assert compose("+task=sentiment", "seed=5").seed == 5
        assert GlobalHydra.instance().hydra is before
        assert VersionBase.instance().getbase() == version
        assert hydra.compose("of_this_test", ["depth=2"]).depth == 2
