"""`wb run` says what `wb predict` says, by one process or by several."""

from __future__ import annotations

import json
import signal
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from tests.commands import succeeded, wb
from tests.lines import PROSE, beside, decoder, launched
from tests.networks import assembled, of_digits, random_model
from wb import api
from wb.cli.main import app
from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import BadOption
from wb.core.precision import with_precisions
from wb.core.records import EmbedStem, Mlp, Softmax, TextInput
from wb.data import load as load_data
from wb.data.texts.vocabulary import RARE, WORDS, Vocabulary, vocabulary_of
from wb.jobs.inputs import choose
from wb.jobs.reading import read_data
from wb.jobs.running import processes, running
from wb.models.files.header import TOKENIZER
from wb.models.model import Model, Step, save
from wb.scale import launch
from wb.scale.line.places import Places
from wb.scale.team import ProcessLost
from wb.tasks.next import NEXT

TEXTS = ("one", "two three two", "one two three one two", "three")
SUMMARY = """
Failures:
[1]:
  time      : 2026-11-30_07:49:33
  rank      : 0 (local_rank: 0)
  exitcode  : -15 (pid: 12658)  (SIGTERM)
Root Cause (first observed failure):
[0]:
  time      : 2026-11-30_07:49:33
  rank      : 1 (local_rank: 1)
  exitcode  : {code} (pid: 12659)
"""


def reader() -> Model:
    """A network for texts, with the tokenizer that a training on texts leaves in its history."""
    vocabulary = vocabulary_of([" ".join(TEXTS)] * RARE, WORDS, 8)
    block = Block(mixer=Softmax(heads=2, qk=4, v=4), ffn=Mlp(mlp=8))
    text = TextInput(vocabulary=vocabulary.size, length=8, tokens=4)
    a = assembled(input=text, stem=EmbedStem(), stages=(Stage(embed=8, blocks=(block,) * 2),), labels=("x", "y", "z"))
    model = random_model(a)
    return model.then(Step(name="train", arguments={TOKENIZER: vocabulary.text}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models for pictures and for texts, and pictures."""
    folder = tmp_path_factory.mktemp("run")
    pictures = random_model(of_digits(depth=3))
    save(pictures, folder / "p.safetensors")
    save(pictures, folder / "p.pt")
    save(reader(), folder / "t.safetensors")
    save(decoder(), folder / "d.safetensors")
    (folder / "prose.txt").write_text(PROSE)
    (folder / "pictures").mkdir()
    for number, image in enumerate(load_data("digits").test.images[:5]):
        Image.fromarray(image[0]).resize((8 + number, 8)).save(folder / "pictures" / f"{number}.png")
    (folder / "texts.txt").write_text("\n".join(TEXTS))
    return folder


def said(*arguments: object) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(succeeded(*arguments, "--json").stdout)
    return content


def same(one: dict[str, Any], other: dict[str, Any], noun: str) -> None:
    """The same to rounding."""
    assert one["classes"] == other["classes"]
    for a, b in zip(one[f"{noun}s"], other[f"{noun}s"], strict=True):
        assert (a[noun], a["class"]) == (b[noun], b["class"])
        np.testing.assert_allclose(a["probabilities"], b["probabilities"], atol=1e-5)


def test_pictures_are_named_as_predict_names_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "launched", launched)
    model, pictures = folder / "p.safetensors", folder / "pictures"
    expected = said("predict", model, pictures)
    same(said("run", model, pictures, "--batch", 2), expected, "picture")
    same(said("run", model, pictures, "--pipeline", 2, "--batch", 2), expected, "picture")
    same(said("run", folder / "p.pt", pictures), expected, "picture")
    table = succeeded("run", model, pictures, "--top", 2).stdout
    assert "or 2" in table
    assert "or 3" not in table


def test_texts_are_named_as_predict_names_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "launched", launched)
    model = folder / "t.safetensors"
    expected = said("predict", model, *TEXTS)
    same(said("run", model, folder / "texts.txt", "--pipeline", 2, "--tensor", 2, "--batch", 3), expected, "text")
    lines = CliRunner().invoke(app, ["run", str(model), "--json"], input="\n".join(TEXTS))
    same(json.loads(lines.stdout), expected, "text")
    assert "no texts" in wb("run", model).output


def test_data_are_run_as_their_test_split(folder: Path) -> None:
    model = folder / "p.safetensors"
    found = said("run", model, "--data", "digits", "--batch", 64)
    test = load_data("digits").test
    expected = api.predict(model, list(test.images), quiet=True)
    probabilities = [one["probabilities"] for one in found["pictures"]]
    np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-5)
    assert found["pictures"][2]["picture"] == "picture 3"


def test_a_decoder_says_what_texts_cost_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the whole network, given one text after the other."""
    monkeypatch.setattr(running, "launched", launched)
    path, texts = folder / "d.safetensors", ("two", "no more", "t", "one two three", "")
    model = decoder()
    vocabulary = Vocabulary(str(model.history[-1].arguments[TOKENIZER]), 16, 16)
    expected = list[float | None]()
    for text in texts:
        if len(text) < 2:
            expected.append(None)
            continue
        ids = torch.from_numpy(vocabulary.whole(text))[None]
        with torch.no_grad():
            logs = model.network()(ids).log_softmax(dim=-1)[0, :-1]
        expected.append(float(-logs.gather(1, ids[0, 1:, None]).mean()))
    for how in ((), ("--batch", 1), ("--batch", 3, "--pipeline", 2, "--tensor", 2)):
        found = said("run", path, *texts, *how)
        assert [one["tokens"] for one in found["texts"]] == [max(0, len(text) - 1) for text in texts]
        assert [one["nats"] for one in found["texts"]] == [n if n is None else pytest.approx(n) for n in expected]
        counts = [max(0, len(text) - 1) for text in texts]
        nats = sum(n * count for n, count in zip(expected, counts, strict=True) if n is not None)
        assert found["ppl"]["value"] == pytest.approx(np.exp(nats / sum(counts)))
    table = " ".join(succeeded("run", path, *texts).stdout.split())
    assert "nats a token" in table
    assert "t 0 – –" in table


def test_a_decoder_is_run_on_passages_as_it_is_scored(folder: Path) -> None:
    path, spec = folder / "d.safetensors", f"lm,length=8:{folder / 'prose.txt'}"
    found = said("run", path, "--data", spec)
    data, _ = read_data(path, choose([path], spec, say=lambda _: None), by_index=False)
    with torch.no_grad():
        scores = decoder().network()(torch.from_numpy(data.test.inputs())).numpy()
    assert found["ppl"]["value"] == pytest.approx(NEXT.reading(NEXT.grade(scores, data.test.labels), "cpu").value)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--top", 2, "one"), "names no classes, which --top is of"),
        (("--by-index", "one"), "names no classes, which --by-index is of"),
        (("one €",), "text 1 has '€' that the model has never seen"),
        (("o", "n"), "no text has a token behind its first one"),
        (("one two three, and",), "--truncate"),
    ],
)
def test_texts_that_cannot_be_judged_are_refused(folder: Path, arguments: tuple[object, ...], why: str) -> None:
    result = wb("run", folder / "d.safetensors", *arguments)
    assert result.exit_code in {1, 2}, result.output
    assert why in " ".join(result.output.split())


def test_the_beginnings_of_longer_texts_are_judged(folder: Path) -> None:
    found = said("run", folder / "d.safetensors", "one two three, and", "one", "--truncate")
    assert (found["cut"], found["texts"][0]["tokens"]) == (1, 15)


def test_errors_of_any_process_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second stage has no room for its blocks, which the first one has."""
    monkeypatch.setattr(running, "launched", launched)
    a = of_digits(depth=4).with_blocks(
        lambda name, block: block.model_copy(update={"ffn": Mlp(mlp=400)}) if name == "s0.b3" else block
    )
    save(random_model(a), folder / "large.safetensors")
    result = wb("run", folder / "large.safetensors", folder / "pictures", "--pipeline", 2, "--resident", "40kB")
    assert result.exit_code == 2, result.output
    assert "--resident 40,000 has no room for two blocks and the ends of this part" in result.output


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--pipeline", 4), "4 stages cannot share 3 blocks; choose from 1 to 3 stages"),
        (("--tensor", 3), "2 heads, which 3 processes cannot divide among them"),
        (("--tensor", 0), "tensor: Input should be greater than or equal to 1, not 0"),
        (("--data", "digits"), "--data digits names what the network is run on, and so does"),
        (("--by-index",), "--by-index is of the classes of --data"),
        (("--resident", "1"), "--resident 1 has no room"),
    ],
)
def test_what_cannot_be_run_is_refused(folder: Path, arguments: tuple[object, ...], why: str) -> None:
    result = wb("run", folder / "p.safetensors", folder / "pictures", *arguments)
    assert result.exit_code == 2, result.output
    assert why in " ".join(result.output.split())


def test_networks_and_inputs_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    lines = (
        (("p", "text"), "text (does not exist)"),
        (("none", "x"), "there is no file"),
        (("t", "--background", "white", "x"), "reads texts"),
    )
    for (name, *given), why in lines:
        assert why in " ".join(wb("run", folder / f"{name}.safetensors", *given).output.split())
    (tmp_path / "empty").mkdir()
    assert "has no pictures" in wb("run", folder / "p.safetensors", tmp_path / "empty").output
    text = reader()
    save(Model(text.architecture, text.weights), tmp_path / "t.safetensors")
    assert "without a tokenizer" in " ".join(wb("run", tmp_path / "t.safetensors", "x").output.split())


def test_weights_that_graphs_round_are_said(tmp_path: Path) -> None:
    a: Architecture = with_precisions(of_digits(), {"s0.b0.ffn.in": "int8"})
    save(random_model(a), tmp_path / "q.safetensors")
    notes = list[str]()
    image = load_data("digits").test.images[0]
    running.Running()(tmp_path / "q.safetensors", [image], lambda *_: None, notes.append)
    assert "int8 or int4 in its graph alone" in notes[0]
    with pytest.raises(BadOption, match="picture 1 is in memory, and other processes read files"):
        running.Running(pipeline=2)(tmp_path / "q.safetensors", [image], lambda *_: None, notes.append)


def test_no_room_for_temporary_files_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    for given in (
        (folder / "p.pt", folder / "pictures"),
        (folder / "p.safetensors", folder / "pictures", "--pipeline", 2),
    ):
        result = wb("run", *given)
        assert result.exit_code == 1, result.output
        assert "there is no room for temporary files" in result.output


def test_torchrun_says_who_ended_first() -> None:
    places = Places(2, 1)
    killed = processes.lost(SUMMARY.format(code=-signal.SIGKILL), places)
    assert isinstance(killed, ProcessLost)
    assert str(killed).startswith(
        "process 1 (stage 2 of 2) was ended by SIGKILL, as the system does where memory is short"
    )
    assert "process 1 (stage 2 of 2) ended with exit code 1" in str(processes.lost(SUMMARY.format(code=1), places))
    assert launch.ended("nothing") is None
    assert "the last they said: nothing" in str(processes.lost("", places))


def test_torchrun_may_start_the_whole_command(folder: Path) -> None:
    given = ("run", folder / "p.safetensors", folder / "pictures", "--json", "--pipeline")
    found = beside(2, "tests.lines", *given, 2)
    assert [one.returncode for one in found] == [0, 0], found
    same(json.loads(found[0].stdout), said("predict", *given[1:3]), "picture")
    assert not found[1].stdout
