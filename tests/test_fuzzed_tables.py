"""Damaged tables: whatever the bytes of a file are, it is read or refused with one error."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

from fuzz_tables import MEGABYTES, mutated_files, peak, read, real_files


@pytest.mark.parametrize("name", real_files())
def test_a_real_file_is_read(name: str, tmp_path: Path) -> None:
    assert read(name, real_files()[name], tmp_path) == "read"


def test_lengths_in_a_damaged_orc_file_get_no_memory(tmp_path: Path) -> None:
    whole = real_files()["q.orc"]  # moved by three bytes, so that other numbers are lengths
    damaged = whole[:2] + b"<\x17\xcd" + whole[2:12] + b"4" + whole[13:230] + whole[233:]
    before = peak()
    assert read("q.orc", damaged, tmp_path) == "refused"  # the library alone takes 7.7 GB
    assert peak() - before < MEGABYTES


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(file=mutated_files())
def test_a_damaged_file_is_read_or_refused_in_bounded_memory(
    file: tuple[str, bytes], tmp_path: Path
) -> None:
    before = peak()
    assert read(*file, tmp_path) in ("read", "refused")
    assert peak() - before < MEGABYTES


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(sorted(real_files())), content=st.binary(max_size=300))
def test_any_bytes_under_any_name_are_read_or_refused(
    name: str, content: bytes, tmp_path: Path
) -> None:
    assert read(name, content, tmp_path) in ("read", "refused")
