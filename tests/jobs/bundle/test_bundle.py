"""A bundle gives what the model gives, says so itself where `wb` is out of reach, and is there whole or not at all."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from tests.networks import of_digits, random_model
from wb.core.errors import BadOption, StorageFailed, Unsupported, WbError
from wb.core.precision import allowed, with_precisions
from wb.data import load as load_data
from wb.export.graph import export
from wb.jobs.bundle import bundle as module
from wb.jobs.bundle import stored
from wb.jobs.bundle.apart import BundleDiffers
from wb.jobs.bundle.bundle import FIXED, MODEL, Bundled, Bundling
from wb.jobs.bundle.place import CARD, publish
from wb.jobs.bundle.stored import LOWERED
from wb.jobs.verbs.classifier import Classifier
from wb.models.model import Model, save


def bundled(file: Path, out: Path, *, force: bool = False, **given: Any) -> Bundled:
    return Bundling(**given)(file, out, lambda *_: None, lambda _: None, force=force)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "small.safetensors"
    save(random_model(of_digits()), path)
    return path


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that was tried out."""
    out = tmp_path_factory.mktemp("bundles") / "small"
    bundled(model, out, licence="Apache-2.0")
    return out


@pytest.fixture
def _untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundles are not run on their own, which takes seconds."""
    monkeypatch.setattr(module, "_tried", lambda *_, **__: None)


def script(folder: Path) -> ModuleType:
    """The script of a bundle, imported."""
    spec = importlib.util.spec_from_file_location("infer", folder / "infer.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_all_is_there_as_its_hashes_say(whole: Path) -> None:
    lines = (whole / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert {*sums, "SHA256SUMS"} == {path.name for path in whole.iterdir()}
    assert all(hashlib.sha256((whole / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())
    assert {MODEL, FIXED, CARD, "README.md", "model.py", "model.safetensors", "labels.txt", "check.npz"} <= sums.keys()
    card = json.loads((whole / CARD).read_text())
    assert card["labels"] == list("0123456789") == (whole / "labels.txt").read_text().split()
    assert card["licence"] == "Apache-2.0"
    assert {"latency", "size", "macs", "params", "accuracy (digits, test)"} <= card["readings"].keys()
    assert all(name in (whole / "README.md").read_text() for name in (*card["readings"], "Apache-2.0", FIXED))


def test_its_script_says_of_pictures_what_the_model_says(whole: Path, tmp_path: Path) -> None:
    pictures = []
    for number, (image, mode) in enumerate(zip(load_data("digits").test.images[:3], ("L", "RGB", "P"), strict=True)):
        pictures.append(tmp_path / f"{number}.png")
        Image.fromarray(image[0]).convert(mode).resize((9 + 5 * number, 8 + 3 * number)).save(pictures[-1])
    clear = np.random.default_rng(0).integers(256, size=(12, 9, 4), dtype=np.uint8)
    pictures.append(tmp_path / "clear.png")
    Image.fromarray(clear).save(pictures[-1])
    command = [sys.executable, str(whole / "infer.py"), *map(str, pictures)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.splitlines()
    assert [line.split(": ")[1].split()[0] for line in said] == Classifier(whole / MODEL)(list(map(str, pictures)))


@pytest.mark.parametrize("given", [(), ("--graph",), ("--graph", FIXED)])
def test_its_script_says_how_it_is_used(whole: Path, given: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, str(whole / "infer.py"), *given], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "python infer.py --graph FILE PICTURE..." in done.stderr
    assert "Traceback" not in done.stderr


def test_the_graph_for_one_example_has_no_dynamic_size(whole: Path) -> None:
    graph = onnx.load(whole / FIXED).graph
    sizes = [dim for value in (*graph.input, *graph.output) for dim in value.type.tensor_type.shape.dim]
    assert sizes
    assert all(dim.dim_value > 0 and not dim.dim_param for dim in sizes)


def test_another_network_does_not_pass_the_check(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert script(whole).check() == 0
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in whole.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    export(random_model(of_digits(), seed=5), copy / FIXED, force=True)
    assert script(copy).check() == 1
    assert f"{FIXED}: differs by" in capsys.readouterr().out


def test_a_bundle_that_fails_its_own_check_is_not_left(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is as near as a tolerance below zero asks for."""
    monkeypatch.setattr(stored, "TOLERANCE", -1.0)
    with pytest.raises(BundleDiffers, match="which is too much"):
        bundled(model, tmp_path / "b")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_untried")
def test_weights_in_few_bits_are_checked_less_exactly(tmp_path: Path) -> None:
    a = of_digits(depth=1)
    low = with_precisions(a, {group: "int8" for group, options in allowed(a).items() if "int8" in options})
    save(Model(low, random_model(a).weights), tmp_path / "m.pt")
    made = bundled(tmp_path / "m.pt", tmp_path / "b")
    assert float(np.load(tmp_path / "b" / "check.npz")["tolerance"]) == LOWERED
    assert any("rounded in the graphs only" in note for note in made.notes)
    assert json.loads((tmp_path / "b" / CARD).read_text())["precision"]
    assert script(tmp_path / "b").check() == 0


@pytest.mark.usefixtures("_untried")
def test_a_graph_alone_has_no_part_for_torch(model: Path, tmp_path: Path) -> None:
    export(random_model(of_digits()), tmp_path / "g.onnx")
    made = bundled(tmp_path / "g.onnx", tmp_path / "alone")
    assert not (tmp_path / "alone" / "model.py").exists()
    assert any("no model file beside the graph" in note for note in made.notes)
    (tmp_path / "g.safetensors").write_bytes(model.read_bytes())
    bundled(tmp_path / "g.onnx", tmp_path / "beside")
    assert (tmp_path / "beside" / "model.py").exists()
    assert (tmp_path / "beside" / MODEL).read_bytes() == (tmp_path / "g.onnx").read_bytes()


@pytest.mark.usefixtures("_untried")
def test_features_are_no_pictures(model: Path, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(60, 1, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "f.npz", x=values, y=np.arange(60) % 10)
    bundled(model, tmp_path / "b", data=f"npz,values=features:{tmp_path / 'f.npz'}", by_index=True)
    infer = script(tmp_path / "b")
    with pytest.raises(SystemExit, match=r"takes no pictures but arrays \[1, 8, 8\]"):
        infer.prepared("a.png")
    np.save(tmp_path / "one.npy", values[0])
    assert np.array_equal(infer.prepared(str(tmp_path / "one.npy")), values[0])


@pytest.mark.usefixtures("_untried")
def test_only_a_bundle_is_replaced_and_only_if_told_so(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "b"
    bundled(model, out)
    with pytest.raises(BadOption, match="say --force"):
        bundled(model, out)
    (out / "mine").touch()
    with pytest.raises(BadOption, match=r"not of its bundle \(mine\)"):
        bundled(model, out, force=True)
    (out / "mine").unlink()
    bundled(model, out, force=True, licence="MIT")
    assert json.loads((out / CARD).read_text())["licence"] == "MIT"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    for place, words in (("mine", "is no bundle"), ("mine/notes.txt", "is no folder"), ("x.onnx", "is no folder")):
        with pytest.raises(BadOption, match=words):
            bundled(model, tmp_path / place, force=True)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / CARD).write_text('{"trading": "cards"}')
    (tmp_path / "link").symlink_to(out)
    monkeypatch.chdir(out)
    for place, words in (("cards", "is no bundle"), ("link", "is a link"), ("b", "that you are in"), (".", "above it")):
        with pytest.raises(BadOption, match=words):
            bundled(model, tmp_path / place, force=True)


def test_an_older_bundle_stays_if_the_new_one_cannot_be_put_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, out = tmp_path / "made", tmp_path / "out"
    for folder, text in ((made, "new"), (out, "old")):
        folder.mkdir()
        (folder / CARD).write_text(text)
    rename = Path.rename

    def full(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        with pytest.raises(StorageFailed, match="No space left"):
            publish(made, out)
    assert (out / CARD).read_text() == "old"
    publish(made, out)
    assert (out / CARD).read_text() == "new"
    assert {path.name for path in tmp_path.iterdir()} == {"made", "out"}


@pytest.mark.usefixtures("_untried")
def test_the_text_of_a_licence_is_put_in(model: Path, tmp_path: Path) -> None:
    (tmp_path / "OURS.txt").write_text("all yours")
    bundled(model, tmp_path / "b", licence=str(tmp_path / "OURS.txt"))
    assert (tmp_path / "b" / "LICENSE").read_text() == "all yours"
    with pytest.raises(BadOption, match="there is no file"):
        bundled(model, tmp_path / "c", licence=str(tmp_path / "none.txt"))


def test_what_is_not_ours_is_refused(tmp_path: Path) -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1, 4])],
        [onnx.helper.make_tensor_value_info("y", 1, [1, 4])],
    )
    onnx.save(onnx.helper.make_model(graph), tmp_path / "f.onnx")
    with pytest.raises(Unsupported, match="no graph of wb"):
        bundled(tmp_path / "f.onnx", tmp_path / "b")
    (tmp_path / "t.txt").touch()
    with pytest.raises(WbError, match=r"t\.txt"):
        bundled(tmp_path / "t.txt", tmp_path / "b")


def test_plain_torch_gives_the_stored_scores(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(whole)
    space: dict[str, Any] = {"__name__": "model", "__file__": str(whole / "model.py")}
    exec(compile((whole / "model.py").read_text(), "model.py", "exec"), space)
    stored = np.load(whole / "check.npz")
    with torch.inference_mode():
        scores = space["load"]()(torch.from_numpy(stored["images"])).numpy()
    assert np.allclose(scores, stored["logits"], atol=1e-3)
