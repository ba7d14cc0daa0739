"""What two processes compute together is what one computes."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.processes import Program

CODE = """
import os, sys
from pathlib import Path
rank, port, out = sys.argv[1:]
os.environ.update(RANK=rank, WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
from tests.scale.pair import main
main(Path(out))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the two have found (`tests.scale.pair`)."""
    folder = tmp_path_factory.mktemp("pair")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first, second = (Program(CODE, rank, port, folder) for rank in (0, 1))
    ended = first.end()
    second.end()
    assert ended.returncode == 0, ended.stderr
    return json.loads((folder / "found.json").read_text())


def test_attention_is_that_of_one_process_and_sends_what_the_formula_says(found: Any) -> None:
    wrong = {name: value for name, value in found["attention"].items() if "bytes" not in name and value > 1e-12}
    assert not wrong
    assert [value for name, value in found["attention"].items() if "bytes" in name] == [0] * 6


def test_a_decoder_whose_tokens_are_spread_is_trained_alike(found: Any) -> None:
    assert found["decoder"] < 1e-12
    assert abs(found["perplexity"]) < 1e-9


def test_a_supernet_is_trained_alike(found: Any) -> None:
    """After some steps in float64, with divided states, the last of a batch of one image; in float32 after an epoch."""
    assert found["float64"] < 1e-12
    assert found["float32"] < 1e-5


@pytest.mark.parametrize(("kind", "moments"), [("adamw", 2 * (48 + 8 + 32 + 4)), ("muon", 48 + 32 + 2 * (8 + 4))])
def test_states_that_are_divided_are_those_of_a_whole_optimizer(found: Any, kind: str, moments: int) -> None:
    divided = found["divided"][kind]
    assert (divided["weights"], divided["states"], divided["again"]) == (0, 0, 0)
    assert moments / 4 < divided["held"] < moments * 3 / 4  # of the first process


def test_files_of_the_first_process_are_read_by_all(found: Any) -> None:
    assert found["copied"] == "content"
    assert found["none"] is False
    assert found["word"] == "there"


def test_a_process_that_ends_is_an_error_and_not_waited_for(found: Any) -> None:
    assert found["lost"].startswith("True another of the 2 processes that train together has ended")
    assert found["lost"].endswith("the same command continues at the last finished epoch")
