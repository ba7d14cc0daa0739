"""A network of a front by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from wb.core.errors import BadOption
from wb.search.results.chosen import network_of

OLD = Path(__file__).parents[2] / "old" / "0.1"


def test_a_run_names_its_networks() -> None:
    graph = OLD / "run" / "models" / "2.onnx"
    assert network_of(f"{OLD / 'run'}:2") == (graph, None)
    found, said = network_of(str(OLD / "run"))
    assert found == graph
    assert said is not None
    assert "network 2" in said


def test_what_is_no_run_is_left_to_others(tmp_path: Path) -> None:
    for source in (str(OLD / "post.pt"), str(tmp_path), str(tmp_path / "none.pt"), "a:b"):
        assert network_of(source) == (Path(source), None)


def test_a_network_that_there_is_not() -> None:
    with pytest.raises(BadOption, match="no network 9; it has 2"):
        network_of(f"{OLD / 'run'}:9")
    with pytest.raises(BadOption, match="no front yet"):
        network_of(str(OLD / "interrupted"))
