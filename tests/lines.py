"""Processes in a line, forked from one that has loaded everything, in the place of those that torchrun starts; and a model."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from tests.networks import assembled, random_model
from tests.processes import Done, Program
from wb.core.architecture import Block, Stage
from wb.core.records import EmbedStem, Language, Mlp, Softmax, TextInput
from wb.data.texts.vocabulary import CHARACTERS, vocabulary_of
from wb.models.files.header import TOKENIZER
from wb.models.model import Model, Step
from wb.scale import launch

PROSE = "one two three, and three two one; no more than that. " * 8
CODE = """
import importlib, os, sys
rank, port, count, module, *given = sys.argv[1:]
os.environ.update(RANK=rank, WORLD_SIZE=count, MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
importlib.import_module(module).main(*given)
"""


def decoder() -> Model:
    """A network that continues texts, with a tokenizer of their characters."""
    vocabulary = vocabulary_of([PROSE], CHARACTERS, 16, prose=True)
    block = Block(mixer=Softmax(heads=2, qk=4, v=4), ffn=Mlp(mlp=8))
    text = TextInput(vocabulary=vocabulary.size, length=16, tokens=16)
    head = Language()
    stages = (Stage(embed=8, blocks=(block,) * 3),)
    a = assembled(input=text, stem=EmbedStem(), stages=stages, causal=True, head=head)
    return random_model(a).then(Step(name="train", arguments={TOKENIZER: vocabulary.text}))


def beside(processes: int, module: str, *arguments: object) -> list[Done]:
    """How they ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [Program(CODE, rank, port, processes, module, *arguments) for rank in range(processes)]
    return [one.end() for one in started]


def pieces(
    processes: int, module: str, arguments: Sequence[str], progress: Any, say: Any, *, tries: int, lost: object
) -> Iterator[str]:
    """As `wb.scale.launch.pieces`."""
    assert (tries, callable(lost)) == (0, True)
    ended = beside(processes, module, *arguments)
    failed = yield from launch.heard("".join(one.stdout for one in ended).splitlines(), progress, say)
    if failed is not None:
        raise failed
    assert [one.returncode for one in ended] == [0] * processes, ended


def launched(*arguments: Any, **how: Any) -> None:
    """As `wb.scale.launch.launched`."""
    assert list(pieces(*arguments, **how)) == []


def main(*arguments: str) -> None:
    """A whole command of `wb`."""
    from wb.cli.main import main as run

    sys.argv[1:] = arguments
    run()
