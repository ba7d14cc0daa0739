"""`wb train --from`: which head a model gets, and that an interruption changes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.networks import answering, of_digits, random_model
from wb.cli.main import app
from wb.core.architecture import Architecture
from wb.core.errors import BadData, BadOption, WbError
from wb.jobs.frame.config import TrainConfig
from wb.jobs.frame.output import config_of
from wb.jobs.verbs.training import Training
from wb.models.model import load, save

SMALL: dict[str, Any] = {"limit": 40, "epochs": 2}
Saved = Callable[..., Path]


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Writes a model of random weights whose head is as said, and gives its file."""

    def of(**head: Any) -> Path:
        file = tmp_path_factory.mktemp("models") / "m.safetensors"
        save(random_model(answering(of_digits(), **head)), file)
        return file

    return of


def train(out: Path, **given: Any) -> list[str]:
    """Trains, and gives what the user was told."""
    said: list[str] = []
    Training(config_of(TrainConfig, "train", {**SMALL, **given}), out)(lambda *_: None, said.append)
    return said


@pytest.mark.parametrize(
    ("head", "given", "words", "steps"),
    [
        ({}, {}, "keeps its head for the 10 classes", ["finetune", "score"]),
        ({"labels": ()}, {}, "its own, whose classes have no names, .* is near chance", ["head", "finetune", "score"]),
        ({"labels": ()}, {"by_index": True}, "taken in their order, as --by-index says", ["finetune", "score"]),
        ({}, {"new_head": True}, "gets a new head for the 10 classes of digits", ["head", "finetune", "score"]),
        ({"labels": (), "classes": 12}, {}, "it had 12$", ["head", "finetune", "score"]),
        ({"labels": tuple("abcdefghij")}, {}, r"it had 10 \(a, b, c", ["head", "finetune", "score"]),
        ({"labels": tuple("abcdefghij")}, {"by_index": True}, "as --by-index says", ["finetune", "score"]),
    ],
)
def test_a_model_keeps_its_head_if_its_classes_are_those_of_the_data(
    saved: Saved, tmp_path: Path, head: dict[str, Any], given: dict[str, Any], words: str, steps: list[str]
) -> None:
    file = saved(**head)
    said = train(tmp_path / "t.pt", model=file, freeze=True, epochs=1, **given)
    assert any(re.search(words, line) for line in said)
    tuned = load(tmp_path / "t.pt")
    assert [step.name for step in tuned.history] == steps
    expected = head["labels"] if "by_index" in given and head["labels"] else tuple("0123456789")
    assert tuned.architecture.head.labels == expected
    body = [name for name in tuned.weights if not name.startswith("head")]
    assert all(torch.equal(tuned.weights[name], load(file).weights[name]) for name in body)


def test_classes_without_names_are_the_models_if_it_knows_them(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wb.jobs.verbs.start.near", lambda *_: False)
    said = train(tmp_path / "t.pt", model=saved(labels=()), freeze=True, epochs=1)
    assert "keeps its head for the 10 classes: accuracy" in said[-1]
    assert "does not name its own" in said[-2]
    assert load(tmp_path / "t.pt").architecture.head.labels == tuple("0123456789")


def test_it_says_that_training_made_it_worse(saved: Saved, tmp_path: Path) -> None:
    given = {"model": saved(), "new_head": True, "freeze": True, "limit": 300, "epochs": 1}
    said = train(tmp_path / "t.pt", **given, learning_rate=5.0)
    assert re.match(r"training made it worse: accuracy .* before, .* after; fewer --epochs or a lower", said[-1])
    assert "before training" in train(tmp_path / "u.pt", **given, learning_rate=1e-6)[-1]


def test_images_are_brought_to_the_size_of_the_model(saved: Saved, tmp_path: Path) -> None:
    """And data of another model with it are what is in its history."""
    larger = of_digits().model_copy(update={"input": of_digits().input.model_copy(update={"height": 12, "width": 12})})
    save(random_model(larger), file := tmp_path / "m.pt")
    said = train(tmp_path / "t.pt", model=file, epochs=1)
    assert any("images of 8x8 are resized to 12x12" in line for line in said)
    assert load(tmp_path / "t.pt").history[-2].arguments["image_size"] == 12


def test_killed_after_every_write_it_ends_as_if_it_had_not_been(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"model": saved(), "new_head": True}
    train(tmp_path / "whole.pt", **options)
    rename, stopped = Path.replace, set[bytes]()

    def kill(source: Path, target: str | Path) -> Path:
        moved = rename(source, target)
        now = Path(target).read_bytes()
        if now in stopped:
            return moved
        stopped.add(now)
        raise Killed

    monkeypatch.setattr(Path, "replace", kill)
    for _ in range(10):
        if (tmp_path / "t.pt").exists():
            break
        with pytest.raises(Killed):
            train(tmp_path / "t.pt", **options)
    assert len(stopped) == 3
    whole, parts = load(tmp_path / "whole.pt"), load(tmp_path / "t.pt")
    assert (parts.fingerprint(), parts.history) == (whole.fingerprint(), whole.history)


def test_a_checkpoint_is_of_one_model(saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another with the same architecture has another body."""
    first = saved()
    with monkeypatch.context() as patch:
        patch.setattr("wb.jobs.verbs.training.save", lambda *_, **__: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            train(tmp_path / "t.pt", model=first, epochs=1, freeze=True, learning_rate=1e-3)
    save(random_model(of_digits(), seed=1), second := tmp_path / "second.pt")
    with pytest.raises(WbError, match="belongs to a run with other settings"):
        train(tmp_path / "t.pt", model=second, epochs=1, freeze=True, learning_rate=1e-3)
    with pytest.raises(WbError, match="belongs to a run with other settings"):
        train(tmp_path / "t.pt", model=first, epochs=1, learning_rate=1e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"freeze": True}, "--freeze is for a trained model; say which with --from"),
        ({"model": "m.pt", "preset": "tiny"}, "--preset names another"),
        ({"model": "m.pt", "architecture": "a.json"}, "--architecture names another"),
        ({"model": "m.pt", "new_head": True, "by_index": True}, "--by-index keeps the head"),
    ],
)
def test_options_that_exclude_each_other_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        config_of(TrainConfig, "train", given)


def test_an_architecture_is_trained_for_the_classes_of_the_data(saved: Saved, tmp_path: Path) -> None:
    (said,) = train(tmp_path / "t.pt", architecture=saved(labels=(), classes=7), epochs=1)
    assert "has 7 classes, and digits 10: those are learned" in said
    assert load(tmp_path / "t.pt").architecture.head.classes == 10


def test_grey_images_are_given_to_a_network_that_takes_colour(tmp_path: Path) -> None:
    taken = of_digits().input.model_copy(update={"channels": 3, "mean": (0.5,) * 3, "std": (0.5,) * 3})
    save(random_model(of_digits().model_copy(update={"input": taken})), file := tmp_path / "m.pt")
    said = train(tmp_path / "t.pt", model=file, epochs=1)
    assert any("grey ones are given to it three times" in line for line in said)
    tuned = load(tmp_path / "t.pt")
    assert tuned.architecture.image.channels == 3
    with pytest.raises(BadData, match=r"it takes grey images: say --data npz,colours=grey:\S+, or name other data"):
        train(tmp_path / "u.pt", model=_grey(tmp_path), data=_coloured(tmp_path))
    grey = _coloured(tmp_path).replace("npz:", "npz,colours=grey:")
    assert any(
        "keeps its head" in line for line in train(tmp_path / "u.pt", model=_grey(tmp_path), data=grey, epochs=1)
    )


def _grey(folder: Path) -> Path:
    save(random_model(of_digits()), folder / "grey.pt", force=True)
    return folder / "grey.pt"


def _coloured(folder: Path) -> str:
    images = np.random.default_rng(0).integers(0, 256, (100, 8, 8, 3), dtype=np.uint8)
    np.savez(folder / "c.npz", x=images, y=np.arange(100) % 10)
    return f"npz:{folder / 'c.npz'}"


def test_images_that_cannot_be_brought_are_refused(tmp_path: Path) -> None:
    def of(**size: Any) -> Architecture:
        changed = of_digits().input.model_copy(update=size)
        return of_digits().model_copy(update={"input": changed})

    for architecture, advice in ((of(height=4), "takes 1x4x8; name other data"),):
        save(random_model(architecture), file := tmp_path / f"{architecture.key}.pt")
        with pytest.raises(BadData, match=advice):
            train(tmp_path / "t.pt", model=file)
    values = np.random.default_rng(0).standard_normal((40, 1, 6, 6)).astype(np.float32)
    np.savez(tmp_path / "f.npz", x=values, y=np.arange(40) % 4)
    save(random_model(of_digits()), file := tmp_path / "square.pt")
    with pytest.raises(BadData, match="takes 1x8x8; name other data"):
        train(tmp_path / "t.pt", model=file, data=f"npz,values=features:{tmp_path / 'f.npz'}", limit=None)


def test_other_commands_offer_it(saved: Saved) -> None:
    file = saved(labels=(), classes=7)
    runs = (["prune", "nvit", file], ["quantize", file], ["search", "--from", file])
    for words in runs:
        result = CliRunner().invoke(app, [*map(str, words), "--data", "digits"])
        assert result.exit_code == 1, result.output
        assert f"wb train --from {file} --data digits -o NEW.safetensors" in result.stderr.replace("\n", " ")


def test_the_plan_says_what_becomes_of_the_head(saved: Saved) -> None:
    words = ["train", "--from", saved(labels=(), classes=7), "--data", "digits", "--limit", 40, "-o", "t.pt"]
    result = CliRunner().invoke(app, [*map(str, words), "--dry-run", "--json"])
    stages = {stage["name"]: stage["what"] for stage in json.loads(result.stdout)["stages"]}
    assert "20 epochs" in stages["training"]
    assert stages["head"].startswith("fitted to what the model makes of ")
