"""Where only some libraries can be imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from wb.core.errors import Unsupported
from wb.jobs.bundle.apart import run_apart, tops


def test_only_the_named_libraries_and_what_they_need_are_in_reach(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    code = (
        "import importlib.util as u; print(*(n for n in ('PIL', 'numpy', 'wb', 'torch', 'pydantic') if u.find_spec(n)))"
    )
    done = run_apart(["-c", code], tmp_path, ["PIL"], site)
    assert (done.returncode, done.stdout.split()) == (0, ["PIL"]), done.stderr


def test_what_a_library_requires_comes_with_it() -> None:
    names = {path.name for path in tops(["onnxruntime"])}
    assert {"onnxruntime", "numpy", "flatbuffers"} <= names
    assert "torch" not in names


def test_a_library_that_is_not_there_is_named() -> None:
    with pytest.raises(Unsupported, match="no-such-library is not installed"):
        tops(["no_such_library"])
