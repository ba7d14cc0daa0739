"""What is said of a text as its tokens come."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from tests.catalogue import DECODERS
from tests.commands import succeeded
from tests.lines import beside, decoder, pieces
from tests.networks import random_model
from wb.core.errors import BadOption
from wb.core.records import TextInput
from wb.data.texts.vocabulary import BPE, Vocabulary, vocabulary_of
from wb.export.graph import export
from wb.jobs.generate import generating
from wb.jobs.generate.generating import Generating, _Told
from wb.models.model import Step, load, save
from wb.models.staged.further import Further
from wb.models.staged.line import Line
from wb.models.staged.stored import Stored
from wb.scale.line.places import Places
from wb.scale.team import ALONE

TEXT = "Grüße, 世界! Ein  Text — mit Zeichen, deren Bytes 😀 einzeln kommen.\n"


class Counting:
    """A vocabulary that counts the tokens that it reads."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary, self.tokens = vocabulary, 0

    def read(self, ids: list[int]) -> str:
        self.tokens += len(ids)
        return self.vocabulary.read(ids)


@pytest.mark.parametrize("kind", [BPE, "bytes", "characters"])
def test_pieces_are_the_text_and_are_read_a_few_tokens_at_a_time(kind: str) -> None:
    vocabulary = vocabulary_of([TEXT * 3], kind, 64, prose=True)
    ids: list[int] = vocabulary.whole(TEXT * 4).tolist()
    start, reader = 5, Counting(vocabulary)
    told = _Told(reader, start)  # type: ignore[arg-type]
    pieces = [told.more(ids[:end], last=end == len(ids)) for end in range(start + 1, len(ids) + 1)]
    assert "".join(pieces) == vocabulary.read(ids)[len(vocabulary.read(ids[:start])) :]
    assert all("\ufffd" not in piece for piece in pieces[4:-1])
    assert reader.tokens < 20 * len(ids)


def test_a_prompt_longer_than_the_network_reads_is_refused_or_truncated_and_that_is_said() -> None:
    said: list[str] = []
    Generating(prompt="a")._check(8, 8, said.append)
    with pytest.raises(
        BadOption, match="--prompt has 9 tokens, and the network reads 8; give --truncate to continue its end"
    ):
        Generating(prompt="a")._check(9, 8, said.append)
    assert not said
    Generating(prompt="a", truncate=True)._check(9, 8, said.append)
    assert said == ["the prompt has 9 tokens, of which the network reads the last 8: the rest is cut"]


def test_what_no_graph_computes_is_continued_by_torch(tmp_path: Path) -> None:
    """Token by token as from the whole text, also behind as many tokens as it reads, where it begins again with the last."""
    vocabulary = vocabulary_of([TEXT * 3], "characters", 8, prose=True)
    given = TextInput(vocabulary=vocabulary.tokenizer.get_vocab_size(), length=8, tokens=4)
    a = DECODERS["titans"].model_copy(update={"input": given})
    model = random_model(a).then(Step(name="train", arguments={"tokenizer": vocabulary.text}))
    save(model, tmp_path / "a.safetensors")
    network, start = model.network(), 0
    ids: list[int] = vocabulary.whole("Ein").tolist()
    for _ in range(10):
        ids.append(int(network(torch.tensor([ids[start:]]))[0, -1].argmax()))
        if len(ids) - start > 8:
            start = len(ids) - 4
    generating = Generating(prompt="Ein", tokens=10, temperature=0)
    found = generating(tmp_path / "a.safetensors", lambda *_: None, lambda _: None)
    assert found.text == vocabulary.read(ids)[3:]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """One with heads and hidden units for two, and a vocabulary of characters."""
    save(decoder(), tmp_path / "d.safetensors")
    return tmp_path / "d.safetensors"


def of(how: Mapping[str, object], **options: object) -> Generating:
    """What continues a text so."""
    return Generating.model_validate({**how, **options})


def quiet(*_: object) -> None:
    """Nobody listens."""


def test_processes_say_what_one_says(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also behind as many tokens as the network reads."""
    monkeypatch.setattr(generating, "pieces", pieces)
    how = {"prompt": "one", "tokens": 20, "temperature": 0.5, "seed": 3}
    expected = of(how)(model, quiet, quiet).text
    told: list[tuple[str, int, int]] = []
    found = of(how, pipeline=2, tensor=2)(model, lambda *step: told.append(step), quiet)
    assert found.text == expected
    assert told[-1] == ("generating", 20, 20)
    long = {**how, "prompt": "one two" * 30_000, "truncate": True, "tokens": 2}  # no word of a command is so long
    assert of(long, pipeline=2)(model, quiet, quiet).text == of(long)(model, quiet, quiet).text
    some = Stored.at(model)
    whole = Further(Line(Places()), ALONE, some)._part.pool.held
    assert of(how, resident=whole - 4)(model, quiet, quiet).text == expected


def test_the_whole_command_may_be_started_several_times(model: Path) -> None:
    given = ("generate", model, "--prompt", "one", "--tokens", 5, "--temperature", 0)
    found = beside(2, "tests.lines", *given, "--pipeline", 2)
    assert [one.returncode for one in found] == [0, 0], found
    assert [one.stdout for one in found] == [succeeded(*given).stdout, ""]


def test_what_cannot_be_shared_is_refused(model: Path, tmp_path: Path) -> None:
    export(load(model), tmp_path / "d.onnx")
    for file, options, why in (
        (tmp_path / "d.onnx", {"pipeline": 2}, "is a graph, which is run whole; give the model"),
        (model, {"pipeline": 4}, "4 stages cannot share 3 blocks"),
        (model, {"tensor": 3}, "3 processes cannot divide among them"),
        (model, {"resident": 1}, "--resident 1 has no room"),
        (model, {"pipeline": 2, "prompt": "o" * 17}, "--prompt has 17 tokens, and the network reads 16"),
    ):
        with pytest.raises(BadOption, match=why):
            of({"prompt": "one"}, **options)(file, quiet, quiet)
