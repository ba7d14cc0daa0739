"""What four processes compute in a line is what one computes, and one that ends is named by all others."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from tests.catalogue import CATALOGUE
from tests.networks import of_digits, random_model, wired
from tests.processes import Program
from tests.scale.line.four import BATCH, EXAMPLES, KILLED, PLACES
from wb.core.architecture import Architecture, Block
from wb.core.records import Mlp, Softmax
from wb.models.model import save

CODE = """
import os, sys
from pathlib import Path
rank, port, folder = sys.argv[1:]
os.environ.update(RANK=rank, WORLD_SIZE="4", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
from tests.scale.line.four import main
main(Path(folder))
"""
EMBED, TOKENS, DEPTH, CLASSES = 16, 16, 4, 10


def texts() -> Architecture:
    """A small network for texts, four blocks of heads that four processes can divide."""
    block = Block(mixer=Softmax(heads=4, qk=2, v=3), ffn=Mlp(mlp=8))
    a = CATALOGUE["text-softmax"]
    return a.model_copy(update={"stages": (a.stages[0].model_copy(update={"blocks": (block,) * DEPTH}),)})


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each of the four has found (`tests.scale.line.four`); None of the one that was killed."""
    folder = tmp_path_factory.mktemp("line")
    digits = of_digits(embed=EMBED, depth=DEPTH, heads=4, mlp=24)
    for name, a in {"pre": digits, "ladder": wired(digits, "ladder"), "texts": texts()}.items():
        save(random_model(a), folder / f"{name}.safetensors")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ended = [one.end() for one in [Program(CODE, rank, port, folder) for rank in range(4)]]
    assert [one.returncode for one in ended if one.returncode >= 0] == [0, 0, 0], ended
    files = [folder / f"{rank}.json" for rank in range(4)]
    return [json.loads(file.read_text()) if file.exists() else None for file in files]


def test_a_line_of_processes_is_one_process(found: list[Any]) -> None:
    apart = {name: one["apart"] for name, one in found[0].items() if name != "lost"}
    assert len(apart) == 3 * len(PLACES) + 2
    near = {name: 1e-5 if name in ("float32", "resident") else 1e-12 for name in apart}
    assert not {name: value for name, value in apart.items() if not value < near[name]}


def test_each_process_holds_its_part(found: list[Any]) -> None:
    for name in PLACES:
        one = found[0][f"pre {name}"]
        assert max(one["held"]) < 0.6 * one["alone"]


def test_bytes_are_those_of_the_tokens_that_count(found: list[Any]) -> None:
    """A stream goes from stage to stage, two in ladder wiring; a ring's sums follow every sub-layer."""
    stream, answers = EXAMPLES * TOKENS * EMBED * 8, EXAMPLES * CLASSES * 8
    assert found[0]["pre pipeline"]["sent"] == [stream, stream, stream, answers]
    assert found[0]["ladder pipeline"]["sent"] == [2 * stream] * 3 + [answers]
    sums = 2 * DEPTH * 2 * 3 * stream // 4
    assert found[0]["pre tensor"]["sent"] == [sums] * 4
    texts = found[0]["texts pipeline"]["sent"]
    assert texts[0] < EXAMPLES * 7 * 8 * 8  # less than the longest for all
    assert BATCH < EXAMPLES


def test_a_process_that_ends_is_named_by_all_others(found: list[Any]) -> None:
    assert found[KILLED] is None
    for rank in (0, 1, 3):
        assert found[rank]["lost"].startswith("process 2 (stage 2 of 2, share 1 of 2) has ended or does not answer"), (
            rank
        )
        assert "and so the others end" in found[rank]["lost"]
