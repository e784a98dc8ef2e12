"""Finds the packages; everything else is in `pyproject.toml`.

`conf/` at the top level is installed as `nlp_transfer.conf`, which discovery alone cannot express.
"""

from setuptools import find_namespace_packages, find_packages, setup

setup(
    packages=[
        *find_packages(include=["nlp_transfer", "nlp_transfer.*"]),
        *(f"nlp_transfer.{name}" for name in find_namespace_packages(include=["conf", "conf.*"])),
    ],
    package_dir={"nlp_transfer": "nlp_transfer", "nlp_transfer.conf": "conf"},
)
