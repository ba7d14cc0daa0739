"""`wb diff`, of models and graphs, on data and on noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.commands import succeeded, wb
from tests.export.foreign_graphs import constant, floats, linear, model, save, save_beside
from tests.networks import assembled, of_digits, random_model
from wb.core.architecture import Block, Stage
from wb.core.records import ImageInput, PatchStem, Pool
from wb.export.graph import export
from wb.jobs.diff.side import same_graph
from wb.models.model import Model, Step
from wb.models.model import save as save_model

DATA = Step(name="train", arguments={"data": "digits"})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a and b of one architecture, their graphs, and c that takes other images."""
    home = tmp_path_factory.mktemp("models")
    for name, seed in (("a", 0), ("b", 1)):
        one = random_model(of_digits(), seed)
        trained = Model(one.architecture, one.weights, (DATA, Step(name=name)))
        save_model(trained, home / f"{name}.safetensors")
        export(trained, home / f"{name}.onnx")
    image = ImageInput(channels=3, height=12, width=12, mean=(0.3,) * 3, std=(0.4,) * 3)
    other = assembled(input=image, stem=PatchStem(patch=4), stages=(Stage(embed=4, blocks=(Block(mixer=Pool()),)),))
    save_model(random_model(other), home / "c.safetensors")
    return home


def read(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(succeeded("diff", *arguments, "--json").stdout)
    return found


def notes(found: dict[str, Any]) -> str:
    return " ".join(found["notes"])


def test_equal_models_are_equal(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes((made / "a.safetensors").read_bytes())
    result = succeeded("diff", made / "a.safetensors", copy)
    assert result.stdout.splitlines()[-1] == "The two models are equal: the same architecture and the same weights."
    result = succeeded("diff", made / "a.onnx", made / "a.onnx", "--data", "none")
    assert result.stdout.splitlines()[-1] == "The two models are equal: the same graph."


def test_what_differs_is_found_on_the_data_that_both_were_trained_with(made: Path) -> None:
    found = read(made / "a.safetensors", made / "b.safetensors", "--samples", 40)
    assert not found["equal"]
    assert not found["fields"]
    assert (found["outputs"]["images"], found["outputs"]["made_up"]) == (40, False)
    assert found["outputs"]["data"] == "digits, validation split"
    assert found["outputs"]["paired"]["n"] == 40
    assert [len(found["lineage"][who]) for who in ("shared", "a", "b")] == [1, 1, 1]
    assert len(found["layers"]) == 5
    whole = read(made / "a.safetensors", made / "b.safetensors", "--samples", 4, "--all")
    assert len(whole["fields"]) > 20
    assert found["weights"]


def test_without_data_images_are_made_up_and_that_is_said(made: Path) -> None:
    result = succeeded("diff", made / "a.safetensors", made / "b.safetensors", "--data", "none", "--samples", 8)
    assert "On 8 images that are made up (uniform noise)" in " ".join(result.stdout.split())
    assert "name some with --data" in result.stdout


def test_a_model_and_its_graph_compute_the_same(made: Path) -> None:
    found = read(made / "a.safetensors", made / "a.onnx", "--samples", 40)
    assert found["outputs"]["distance"] < 1e-5
    assert found["outputs"]["agreement"]["value"] == 1
    assert not found["lineage"]["a"]
    assert not found["lineage"]["b"]
    assert "a graph does not show the sub-layers of a model" in notes(found)


def test_images_of_other_shapes_are_a_note_and_with_data_an_error(made: Path) -> None:
    pair = made / "a.safetensors", made / "c.safetensors"
    found = read(*pair)
    words = f"{pair[0]} takes images of 1x8x8, and {pair[1]} of 3x12x12"
    assert words in notes(found)
    assert (found["outputs"], found["layers"]) == (None, [])
    assert any(field["place"] == "input" for field in found["fields"])
    result = wb("diff", *pair, "--data", "digits")
    assert result.exit_code == 1
    assert f"error: {words}" in " ".join(result.stderr.split())
    for option in (("--split", "train"), ("--by-index",), ("--samples", 9)):
        result = wb("diff", *pair, *option)
        assert result.exit_code == 2
        assert f"of no use where outputs are not compared, and they are not here: {words}" in " ".join(
            result.stderr.split()
        )


def test_graphs_of_others_are_counted_and_run(made: Path, tmp_path: Path) -> None:
    flat = helper.make_node("Flatten", ["x"], ["f"])
    for name, value in (("a", 1.0), ("b", 2.0)):
        weight = floats("w", 64, 10)
        weight.CopyFrom(helper.make_tensor("w", 1, (64, 10), (value * np.arange(640) % 7).tolist()))
        graph = model([flat, helper.make_node("MatMul", ["f", "w"], ["y"])], [weight], {"x": ["n", 1, 8, 8]})
        save(graph, tmp_path / f"{name}.onnx")
    found = read(tmp_path / "a.onnx", tmp_path / "b.onnx", "--data", "digits", "--samples", 30)
    assert {count["name"]: count["a"]["value"] for count in found["counts"]}["parameters"] == 640
    assert found["weights"][0]["distance"] > 0
    assert found["outputs"]["images"] == 30
    assert "that of a.onnx and b.onnx is not known" in notes(found)
    against = read(made / "a.safetensors", tmp_path / "b.onnx", "--samples", 4, "--mean", 0.5)
    assert "b.onnx gets images in [0, 1], less the mean 0.5" in notes(against)


def test_values_inside_two_graphs_are_compared_by_name(made: Path) -> None:
    found = read(made / "a.onnx", made / "b.onnx", "--data", "digits", "--samples", 16)
    rows = {row["name"]: row for row in found["layers"]}
    assert rows["logits"]["distance"] == pytest.approx(found["outputs"]["distance"], rel=1e-3)
    assert len(rows) > 20
    same = read(made / "a.onnx", made / "a.onnx", "--data", "none", "--samples", 8)
    assert {row["distance"] for row in same["layers"]} == {0}


def test_graphs_that_do_not_show_their_values_are_compared_in_all_else(tmp_path: Path) -> None:
    """As those with weights in files beside, which are not loaded again with more outputs."""
    flat, product = helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])
    for name in "ab":
        graph = model([flat, product], [floats("w", 64, 10)], {"x": ["n", 1, 8, 8]})
        save_beside(graph, tmp_path / f"{name}.onnx", f"{name}.bin")
    found = read(tmp_path / "a.onnx", tmp_path / "b.onnx", "--data", "none", "--samples", 8)
    assert "values inside the graphs are not compared" in notes(found)
    assert "under one name" not in notes(found)
    assert found["outputs"]["distance"] == 0
    assert not found["layers"]


def test_graphs_with_other_weights_in_files_of_one_name_are_not_equal(tmp_path: Path) -> None:
    for value in (1, 2):
        (tmp_path / str(value)).mkdir()
        weight = constant("w", np.full((64, 10), value), np.float32)
        nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
        save_beside(model(nodes, [weight], {"x": ["n", 1, 8, 8]}), tmp_path / str(value) / "a.onnx")
    assert not same_graph(tmp_path / "1" / "a.onnx", tmp_path / "2" / "a.onnx")
    assert same_graph(tmp_path / "1" / "a.onnx", tmp_path / "1" / "a.onnx")


def test_graphs_that_take_no_images_are_compared_in_all_else(tmp_path: Path) -> None:
    for name in "ab":
        save(linear(columns=3 + (name == "b")), tmp_path / f"{name}.onnx")
    found = read(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert "takes no images alone" in notes(found)
    assert found["weights"][0]["note"] == "other shapes"


def test_a_page_is_written_and_named_last(made: Path, tmp_path: Path) -> None:
    page = tmp_path / "d.html"
    arguments = ("diff", made / "a.safetensors", made / "b.safetensors", "--data", "none", "--samples", 4, "-o", page)
    assert succeeded(*arguments).stdout.splitlines()[-1] == f"wrote {page}"
    for more, words in (([], "exists already"), (["-o", tmp_path / "d.png"], "end it in .html")):
        result = wb(*arguments, *more)
        assert result.exit_code == 2
        assert words in result.stderr


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--split", "test"], 2, "there are validation and train"),
        (["--mean", "0.5"], 2, "for networks that are not wb's"),
        (["--data", "none", "--by-index"], 2, "of no use without data"),
        (["--data", "none", "--split", "train"], 2, "of no use without data"),
        (["--data", "imagefolder:/nowhere"], 1, "does not exist"),
    ],
)
def test_options_that_would_do_nothing_are_refused(made: Path, more: list[str], code: int, words: str) -> None:
    result = wb("diff", made / "a.safetensors", made / "b.safetensors", *more)
    assert result.exit_code == code
    assert words in " ".join(result.stderr.split())


def test_files_of_other_kinds_are_told_what_they_are(made: Path, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    result = wb("diff", made / "a.safetensors", tmp_path / "a.json")
    assert result.exit_code == 1
    assert "expected" in result.stderr
