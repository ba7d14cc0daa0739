"""Which data a command works on, which class of them is which of the model's, and how images are shown to other networks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.linear_model import LogisticRegression
from typer.testing import Result

from tests.commands import succeeded, wb
from tests.networks import assembled
from wb.compress.quantize.record import Quantization
from wb.core.architecture import Block, Stage
from wb.core.measures.readings import Reading
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax
from wb.data import load as load_data
from wb.export.foreign.opening import read_metadata
from wb.export.timing.measure import Latency
from wb.jobs.inputs import about
from wb.models.model import Model, load, save
from wb.training.fit import Recipe
from wb.training.train import train


@pytest.fixture(autouse=True)
def _untimed(monkeypatch: pytest.MonkeyPatch, unpaged: None) -> None:
    """Nothing is timed, and no page is drawn: they take as long as all the rest."""

    def latency(graphs: Mapping[str, Path | bytes], *_: object, **__: object) -> dict[str, Latency]:
        reading = Reading(value=1, unit="ms", how="measured", interval=(0.99, 1.01))
        return dict.fromkeys(graphs, Latency(reading, reading.model_copy(update={"unit": "x"}), 1, 0, 1.0))

    pace = Reading(value=1.0, unit="ms", how="measured")
    for place in (
        "export.timing.runs",
        "compress.depgraph.job",
        "export.timing.table",
    ):
        monkeypatch.setattr(f"wb.{place}.measure_latency", latency)
    monkeypatch.setattr("wb.jobs.frame.begin.reference_pace", lambda *_: pace)
    monkeypatch.setattr("wb.compress.depth.report.write_depth_report", lambda *_, **__: None)


# ---------------------------------------------------------------------------------------------- networks that are not ours


def scaled(mean: float, std: float, scale: float = 1.0) -> LogisticRegression:
    train = load_data("digits").train
    pixels = (scale * train.pixels().reshape(len(train), -1) - mean) / std
    return LogisticRegression(max_iter=300).fit(pixels, train.labels)


def foreign(path: Path, found: LogisticRegression, classes: int = 10) -> Path:
    """A logistic regression of the digits as another tool would export it: Flatten, Gemm, and no word of its loader."""
    order = np.arange(classes) % 10
    constants = [("w", found.coef_[order]), ("b", found.intercept_[order])]
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1, name="product"),
    ]
    shapes: list[tuple[str, list[str | int]]] = [("x", ["n", 1, 8, 8]), ("y", ["n", classes])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes)
    weights = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants]
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def centred(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float, float]:
    """The graph of a regression on (digits - 0.5) / 0.25, and its accuracy with that preparation and without."""
    found, test = scaled(0.5, 0.25), load_data("digits").test
    pixels = test.pixels().reshape(len(test), -1)
    path = foreign(tmp_path_factory.mktemp("foreign") / "g.onnx", found)
    return path, found.score((pixels - 0.5) / 0.25, test.labels), found.score(pixels, test.labels)


def accuracy(result: Result) -> tuple[float, str]:
    assert result.exit_code == 0, result.output
    ((_, reading),) = [item for item in json.loads(result.stdout).items() if item[0].startswith("accuracy")]
    return reading["value"], reading["note"] or ""


def test_a_foreign_graph_sees_what_its_loader_makes_of_images(
    centred: tuple[Path, float, float], tmp_path: Path
) -> None:
    path, prepared, plain = centred
    value, note = accuracy(wb("measure", path, "--data", "digits", "--mean", 0.5, "--std", 0.25, "--json"))
    assert value == pytest.approx(prepared, abs=0.003)
    assert note.startswith("images in [0, 1], less the mean 0.5, over the std 0.25")
    value, note = accuracy(wb("measure", path, "--data", "digits", "--json"))
    assert value == pytest.approx(plain, abs=0.003)
    assert plain < prepared - 0.05
    assert note.startswith("images in [0, 1], no mean and std; say --mean, --std, --scale or --preprocessor")
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps({"image_mean": [0.5], "image_std": [0.25], "do_normalize": True}), encoding="utf-8")
    said = wb("measure", path, "--data", "digits", "--preprocessor", file)
    assert f"{100 * prepared:.2f} %" in said.stdout
    assert "less the mean 0.5" in " ".join(said.stdout.split())
    large = foreign(tmp_path / "large.onnx", scaled(127.5, 64, 255))
    options = ("--scale", 255, "--mean", 127.5, "--std", 64)
    value, note = accuracy(wb("measure", large, "--data", "digits", *options, "--json"))
    assert value > 0.95
    assert note.startswith("images in [0, 255], less the mean 127.5, over the std 64")


@pytest.mark.parametrize("policy", ["int8", "int8-dynamic"])
def test_a_quantized_foreign_graph_is_shown_the_same_from_then_on(
    centred: tuple[Path, float, float], tmp_path: Path, policy: str
) -> None:
    path, prepared, _ = centred
    out = tmp_path / "q.onnx"
    options = ("--data", "digits", "--mean", 0.5, "--std", 0.25)
    result = succeeded("quantize", path, "--policy", policy, "-o", out, *options)
    record = Quantization.read(out.with_suffix(".json"))
    assert record.floating["test"].value == pytest.approx(prepared, abs=0.003)
    assert record.quantized["test"].value > prepared - 0.02
    assert record.notes[0] == "images in [0, 1], less the mean 0.5, over the std 0.25"
    assert record.notes[0] in result.stdout
    assert json.loads(read_metadata(out)["wb.images"])["std"] == [0.25]
    value, note = accuracy(wb("measure", out, "--data", "digits", "--json"))
    assert value == record.quantized["test"].value
    assert note.startswith(record.notes[0])


def test_a_quantized_graph_does_not_tell_where_the_given_one_was_made(
    centred: tuple[Path, float, float], tmp_path: Path
) -> None:
    graph, where = onnx.load(centred[0]), 'File "/home/ann/net.py", line 3, in forward'
    for part in (graph, graph.graph, *graph.graph.node, *graph.graph.input, *graph.graph.initializer):
        part.doc_string = where
    for node in graph.graph.node:
        node.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=where)
    step = {"name": "train", "arguments": {"data": "imagefolder:/home/ann/photos"}}
    graph.metadata_props.add(key="wb.history", value=json.dumps([step]))
    graph.metadata_props.add(key="author", value="somebody")
    onnx.save(graph, tmp_path / "g.onnx")
    for policy in ("int8-dynamic", "int8"):
        out = tmp_path / f"{policy}.onnx"
        succeeded("quantize", tmp_path / "g.onnx", "--policy", policy, "-o", out, "--data", "digits")
        assert b"ann" not in out.read_bytes()
        metadata = read_metadata(out)
        assert metadata["author"] == "somebody"
        assert json.loads(metadata["wb.history"])[0]["arguments"] == {"data": "imagefolder:photos"}


def test_images_of_a_folder_to_calibrate_on_are_prepared_too(
    centred: tuple[Path, float, float], tmp_path: Path
) -> None:
    path, _, _ = centred
    digits = load_data("digits").train
    home = tmp_path / "pictures"
    home.mkdir()
    for i in range(40):
        Image.fromarray(digits.images[i, 0]).save(home / f"{i:02d}.png")
    arguments = ("quantize", path, "--policy", "int8", "--calibration", home)
    shown = {}
    for name, options in (("plain", ()), ("prepared", ("--mean", 0.5, "--std", 0.25))):
        out = tmp_path / f"{name}.onnx"
        succeeded(*arguments, "-o", out, *options)
        assert Quantization.read(out.with_suffix(".json")).notes[0].startswith("images in [0, 1], ")
        graph = onnx.load(out).graph
        scale = next(node for node in graph.node if node.op_type == "QuantizeLinear").input[1]
        shown[name] = float(next(numpy_helper.to_array(t) for t in graph.initializer if t.name == scale))
        assert str(home).encode() not in out.read_bytes()
    assert shown["prepared"] > 1.5 * shown["plain"]  # of the range -2 to 2, where the plain one goes from 0 to 1


def test_a_graph_at_chance_promises_nothing(tmp_path: Path) -> None:
    found = scaled(0.5, 0.25)
    found.coef_, found.intercept_ = (np.roll(a, 3, axis=0) for a in (found.coef_, found.intercept_))
    path, out = foreign(tmp_path / "g.onnx", found), tmp_path / "q.onnx"
    options = ("--data", "digits", "--mean", 0.5, "--std", 0.25)
    _, note = accuracy(wb("measure", path, *options, "--json"))
    assert "is near chance (the largest class has 10" in note
    for word in ("--mean, --std, --scale", "layout of the channels", "order of its classes"):
        assert word in note
    result = succeeded("quantize", path, "--policy", "int8", "-o", out, *options)
    assert "which says nothing, for the float graph itself cannot be told from chance" in result.stdout.splitlines()[-4]
    assert any("is near chance" in text for text in Quantization.read(out.with_suffix(".json")).notes)


def test_classes_of_a_foreign_graph_are_counted(centred: tuple[Path, float, float], tmp_path: Path) -> None:
    path = foreign(tmp_path / "g.onnx", scaled(0, 1), 12)
    refused = wb("measure", path, "--data", "digits")
    assert refused.exit_code == 1
    assert "digits has 10 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9), and" in refused.stderr
    assert "has 12, which are not named" in refused.stderr
    assert accuracy(wb("measure", path, "--data", "digits", "--by-index", "--json"))[0] > 0.9
    assert "for " in accuracy(wb("measure", centred[0], "--data", "digits", "--json"))[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mean", "0.5"], "are of no use"),
        (["--data", "digits", "--mean", "grey"], "--mean 'grey' is no list of numbers"),
        (["--data", "digits", "--mean", "0.5,0.4"], "2 numbers of mean for images of 1 channel; give one"),
        (["--data", "digits", "--std", "0"], "a std and a scale are above 0"),
        (["--data", "digits", "--scale", "nan"], "wrong numbers for the images"),
        (["--data", "digits", "--scale", "2", "--preprocessor", "p.json"], "say the same thing twice"),
        (["--data", "digits", "--preprocessor", "none.json"], "there is no file none.json"),
    ],
)
def test_preparations_that_cannot_be(centred: tuple[Path, float, float], options: list[str], message: str) -> None:
    for command in (["measure"], ["quantize", "-o", "nowhere.onnx"]):
        result = wb(*command, centred[0], *options)
        assert result.exit_code in (1, 2)
        assert message in result.stderr


# --------------------------------------------------------------------------------------------------------- names of classes


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `photos` of dark `one` and bright `zero`, a model `m.safetensors` that was trained on 24 of them."""
    folder = tmp_path_factory.mktemp("place")
    pictures(folder / "photos", ("one", "zero"))
    spec = f"imagefolder:{folder / 'photos'}"
    data = load_data(spec, image_size=8, limit=24)
    block = Block(mixer=Softmax(heads=2, qk=4, v=4), ffn=Mlp(mlp=12))
    image = ImageInput(channels=1, height=8, width=8, mean=data.mean, std=data.std)
    a = assembled(
        input=image,
        stem=PatchStem(patch=4),
        stages=(Stage(embed=8, blocks=(block,)),),
        classes=2,
        labels=data.classes,
    )
    save(train(a, data, Recipe(epochs=8, learning_rate=1e-2)), folder / "m.safetensors")
    return folder


def pictures(folder: Path, names: tuple[str, str], side: int = 8) -> Path:
    rng = np.random.default_rng(0)
    for level, name in zip((40, 160), names, strict=True):
        (folder / name).mkdir(parents=True)
        for i in range(30):
            pixels = rng.integers(level, level + 60, (side, side), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:02d}.png")
    return folder


def turned(model: Model) -> Model:
    """The same function with its two classes in the other order."""
    head = {name: model.weights[name].flip(0) for name in ("head", "head_bias")}
    labels = tuple(reversed(model.architecture.head.labels))
    return replace(model, weights={**model.weights, **head}, architecture=model.architecture.with_labels(labels))


def commands(model: Path, out: Path) -> dict[str, list[object]]:
    """Every command that brings a model and data together, as short as it can be."""
    return {
        "measure": ["measure", model],
        "quantize": ["quantize", model, "-o", out / "q.onnx"],
        "prune depth": ["prune", "depth", model, "-o", out / "d.pt", "--budget", "macs=0.8x", "--finetune", 0],
        "prune nvit": [
            "prune",
            "nvit",
            model,
            "-o",
            out / "p.pt",
            "--budget",
            "macs=0.8x",
            "--finetune",
            0,
            "--rounds",
            1,
        ],
        "analyze": ["analyze", "depth", model, "-o", out / "a.html"],
        "binarize": ["binarize", model, "-o", out / "b.safetensors", "--finetune", 0],
        "fuse": ["fuse", model, model, "-o", out / "f.safetensors"],
    }


COMMANDS = tuple(commands(Path(), Path()))


@pytest.mark.parametrize("command", COMMANDS)
def test_classes_with_other_names_are_refused(place: Path, tmp_path: Path, command: str) -> None:
    other = pictures(tmp_path / "fotos", ("uno", "cero"))
    arguments = commands(place / "m.safetensors", tmp_path / "out")[command]
    result = wb(*arguments, "--data", f"imagefolder:{other}")
    assert result.exit_code == 1
    assert "are cero, uno, and those of" in result.stderr
    assert "one, zero: cero, uno are not among the latter; rename them" in result.stderr
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_the_same_names_are_matched_in_any_order(place: Path, tmp_path: Path) -> None:
    spec = f"imagefolder:{place / 'photos'}"
    save(turned(load(place / "m.safetensors")), tmp_path / "t.safetensors")
    values = [
        accuracy(wb("measure", path, "--data", spec, "--json"))
        for path in (place / "m.safetensors", tmp_path / "t.safetensors")
    ]
    assert values[0][0] == values[1][0] == 1
    exported = tmp_path / "t.onnx"
    assert wb("export", tmp_path / "t.safetensors", "-o", exported).exit_code == 0
    assert accuracy(wb("measure", exported, "--data", spec, "--json"))[0] == 1
    succeeded("quantize", tmp_path / "t.safetensors", "-o", tmp_path / "q.onnx", "--data", spec)
    assert Quantization.read(tmp_path / "q.json").floating["test"].value == 1
    analysed = wb("analyze", "depth", tmp_path / "t.safetensors", "-o", tmp_path / "a.html", "--data", spec, "--json")
    assert json.loads(analysed.stdout)["quality"]["value"] == 1


def test_by_index_is_to_be_insisted_on(place: Path, tmp_path: Path) -> None:
    spec = f"imagefolder:{pictures(tmp_path / 'fotos', ('uno', 'cero'))}"  # cero, the bright ones, comes first
    value, note = accuracy(wb("measure", place / "m.safetensors", "--data", spec, "--by-index", "--json"))
    assert value == 0
    assert "as --by-index says: cero as one, uno as zero" in note
    result = succeeded(
        "analyze", "depth", place / "m.safetensors", "-o", tmp_path / "a.html", "--data", spec, "--by-index"
    )
    assert "cero as one, uno as zero" in result.stderr


def test_an_architecture_that_is_trained_anew_has_the_classes_of_its_data(place: Path, tmp_path: Path) -> None:
    other = pictures(tmp_path / "fotos", ("uno", "cero"))
    options = ("--architecture", place / "m.safetensors", "--data", f"imagefolder:{other}", "--epochs", 1)
    succeeded("train", *options, "-o", tmp_path / "n.safetensors")
    assert load(tmp_path / "n.safetensors").architecture.head.labels == ("cero", "uno")


# ------------------------------------------------------------------------------------------------- data that a model knows


@pytest.mark.parametrize("command", COMMANDS)
def test_the_data_of_the_history_are_taken(place: Path, tmp_path: Path, command: str) -> None:
    """With its size and its limit, and without its place in what is exported."""
    result = succeeded(*commands(place / "m.safetensors", tmp_path)[command], "--json")
    told = f"data: imagefolder:{place / 'photos'} at 8x8, 24 training images, as the history of {place / 'm.safetensors'} says"
    assert told in result.stderr
    if command == "measure":
        assert accuracy(result)[0] == 1
    elif command != "analyze":
        config = json.loads(result.stdout)["config"]
        assert (config["data"], config["image_size"], config["limit"]) == (f"imagefolder:{place / 'photos'}", 8, 24)
    for path in tmp_path.rglob("*.onnx"):
        assert str(place).encode() not in path.read_bytes()
        history = json.loads(read_metadata(path)["wb.history"])
        assert history[0]["arguments"]["data"] == "imagefolder:photos"
        assert len(history[0]["arguments"]["fingerprint"]) == 16


@pytest.mark.parametrize("command", COMMANDS)
def test_data_that_are_gone_are_named(place: Path, tmp_path: Path, command: str) -> None:
    model = load(place / "m.safetensors")
    step = model.history[0].model_copy(
        update={"arguments": {**model.history[0].arguments, "data": "imagefolder:/gone"}}
    )
    save(replace(model, history=(step,)), tmp_path / "m.safetensors")
    result = wb(*commands(tmp_path / "m.safetensors", tmp_path / "out")[command])
    optional = command in ("measure", "fuse")
    assert result.exit_code == (0 if optional else 2), result.output
    assert f"{tmp_path / 'm.safetensors'} was trained with imagefolder:/gone, which is not there; name" in result.stderr


def test_a_history_without_data_gets_digits_only_where_they_fit(place: Path, tmp_path: Path) -> None:
    model = load(place / "m.safetensors")
    save(replace(model, history=()), tmp_path / "m.safetensors")
    result = wb("quantize", tmp_path / "m.safetensors", "-o", tmp_path / "q.onnx")
    assert result.exit_code == 2
    assert "does not say with what it was trained; name data that fit it with --data" in result.stderr
    assert "no accuracy: say which --data" in wb("measure", tmp_path / "m.safetensors").stderr
    wrong = wb("quantize", tmp_path / "m.safetensors", "-o", tmp_path / "q.onnx", "--data", "digits")
    assert "the classes of digits are 0, 1" in wrong.stderr


def test_a_graph_knows_its_data_by_the_model_beside_it(place: Path, tmp_path: Path) -> None:
    """The graph alone has no place to look at."""
    exported = tmp_path / "m.onnx"
    assert wb("export", place / "m.safetensors", "-o", exported).exit_code == 0
    alone = wb("measure", exported)
    assert alone.exit_code == 0
    assert "was trained with imagefolder:photos, which is not there; name some with --data" in alone.stderr
    shutil.copy(place / "m.safetensors", tmp_path)
    assert accuracy(wb("measure", exported, "--json"))[0] == 1
    old = onnx.load(exported)
    for entry in old.metadata_props:
        if entry.key == "wb.history":
            entry.value = entry.value.replace("imagefolder:photos", f"imagefolder:{place / 'photos'}")
    onnx.save(old, tmp_path / "old.onnx")
    assert accuracy(wb("measure", tmp_path / "old.onnx", "--json"))[0] == 1
    made = wb(
        "quantize", exported, "--policy", "int4-weights", "-o", tmp_path / "q.onnx"
    )  # a graph of nobody's, from here on
    assert made.exit_code == 0, made.output
    value, note = accuracy(wb("measure", tmp_path / "q.onnx", "--data", f"imagefolder:{place / 'photos'}", "--json"))
    assert (value, note) == (1, "images in [0, 1], no mean and std")
    refused = wb("measure", exported, "--mean", 0.5)
    assert refused.exit_code == 2
    assert "are for networks that are not wb's" in refused.stderr


def test_pictures_get_the_size_that_the_model_takes(place: Path, tmp_path: Path) -> None:
    large = pictures(tmp_path / "large", ("one", "zero"), side=20)
    assert accuracy(wb("measure", place / "m.safetensors", "--data", f"imagefolder:{large}", "--json"))[0] == 1


def test_changed_data_are_noticed(place: Path, tmp_path: Path) -> None:
    home = pictures(tmp_path / "photos", ("one", "zero"))
    model = load(place / "m.safetensors")
    arguments = {**model.history[0].arguments, "data": f"imagefolder:{home}"}
    save(replace(model, history=(model.history[0].model_copy(update={"arguments": arguments}),)), tmp_path / "m.pt")
    assert "has changed" not in wb("measure", tmp_path / "m.pt").output
    shutil.copy(home / "one" / "00.png", home / "one" / "zz.png")
    assert "has changed since the model was trained with it" in " ".join(
        wb("measure", tmp_path / "m.pt").output.split()
    )


def test_fusing_may_be_told_to_look_at_nothing(place: Path, tmp_path: Path) -> None:
    model = place / "m.safetensors"
    result = succeeded("fuse", model, model, "-o", tmp_path / "f.pt", "--data", "none", "--json")
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["config"]["data"] is None
    assert found["config"]["settings"]["method"] == "orth"
    assert about(tmp_path / "f.pt")[1][-1].name == "fuse"
    assert (
        "of no use without data"
        in wb("fuse", model, model, "-o", tmp_path / "g.pt", "--data", "none", "--limit", 3).stderr
    )
    assert "--data none leaves nothing" in wb("fuse", "-o", tmp_path / "g.pt", "--data", "none").stderr
