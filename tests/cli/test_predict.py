"""`wb predict` and the script on a run's page give what the classifier gives, for the pictures as they were loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from wb import api
from wb.cli.main import app
from wb.core.architecture import Architecture
from wb.data import load as load_data
from wb.export.graph import export, read_architecture
from wb.jobs.verbs.classifier import Classifier
from wb.models.model import Model, save
from wb.search.page.usage import script
from wb.tasks.classes import CLASSES


def wb(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def files(striped: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, its graph, and pictures of several sizes and modes, one of them transparent."""
    folder = tmp_path_factory.mktemp("predict")
    save(striped, folder / "m.safetensors")
    export(striped, folder / "m.onnx")
    (folder / "pictures" / "more").mkdir(parents=True)
    images = load_data("digits").test.images[:3]
    for number, (image, mode) in enumerate(zip(images, ("L", "RGB", "RGB"), strict=True)):
        picture = Image.fromarray(image[0]).convert(mode)
        picture.resize((8 + 5 * number, 8 + 3 * number)).save(folder / "pictures" / f"{number}.png")
    clear = Image.fromarray(np.random.default_rng(0).integers(256, size=(12, 9, 4), dtype=np.uint8))
    clear.save(folder / "pictures" / "more" / "clear.png")
    return folder


def pictures(files: Path) -> list[Path]:
    return [*(files / "pictures" / f"{number}.png" for number in range(3)), files / "pictures" / "more" / "clear.png"]


def test_a_folder_is_classified_as_its_pictures_are(files: Path) -> None:
    result = wb("predict", files / "m.onnx", files / "pictures", "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["classes"] == ["a", "b", "c"]
    assert [one["picture"] for one in content["pictures"]] == [str(path) for path in pictures(files)]
    classifier = Classifier(files / "m.onnx")
    expected = CLASSES.votes(classifier.scores(pictures(files)))
    np.testing.assert_allclose([one["probabilities"] for one in content["pictures"]], expected, rtol=1e-6)
    assert [one["class"] for one in content["pictures"]] == classifier(pictures(files))
    found = api.predict(files / "m.onnx", [Image.open(path) for path in pictures(files)], quiet=True)
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-6)
    assert found.pictures[3] == "picture 4"


def test_a_model_file_says_what_its_graph_says(files: Path) -> None:
    graph, model = (wb("predict", files / name, *pictures(files), "--top", "2") for name in ("m.onnx", "m.safetensors"))
    assert graph.exit_code == model.exit_code == 0, model.output
    assert graph.stdout.replace("m.onnx", "m.safetensors").split() == model.stdout.split()
    assert "or 2" in model.stdout
    assert "or 3" not in model.stdout


def test_the_background_of_transparent_pictures_may_be_chosen(files: Path) -> None:
    def chances(*more: str) -> list[float]:
        result = wb("predict", files / "m.onnx", pictures(files)[3], "--json", *more)
        return list(json.loads(result.stdout)["pictures"][0]["probabilities"])

    assert chances() == chances("--background", "white") != chances("--background", "black")


@pytest.mark.parametrize(
    ("name", "given", "options", "code", "why"),
    [
        ("m.onnx", ("pictures/0.png", "m.onnx", "none.png"), (), 1, "2 of 3 images cannot be read"),
        ("m.onnx", ("empty",), (), 1, "has no pictures; expected files that end in"),
        ("pictures/0.png", ("pictures/0.png",), (), 1, "is a picture"),
        ("m.safetensors", ("pictures/0.png",), ("--mean", "0.5"), 2, "has its mean and std inside"),
        ("m.onnx", ("pictures/0.png",), ("--mean", "0.5"), 2, "has its mean and std inside"),
        ("m.onnx", ("pictures/0.png",), ("--background", "grue"), 2, "is no colour"),
        ("none.onnx", ("pictures/0.png",), (), 1, "there is no file"),
    ],
)
def test_errors_name_what_is_wrong(
    files: Path, name: str, given: tuple[str, ...], options: tuple[str, ...], code: int, why: str
) -> None:
    (files / "empty").mkdir(exist_ok=True)
    result = wb("predict", files / name, *(files / one for one in given), *options)
    assert result.exit_code == code, result.output
    assert why in " ".join(result.stderr.split())
    assert result.stderr.strip().splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("background", ["white", "black"])
def test_the_script_of_the_page_runs_and_agrees(files: Path, background: str, tmp_path: Path) -> None:
    architecture = read_architecture(files / "m.onnx")
    assert architecture is not None
    code = script("m.onnx", architecture, f"imagefolder,background={background}:x")
    imports = [line for line in code.splitlines() if line.startswith(("import", "from"))]
    assert imports == ["import json, sys", "import numpy as np, onnxruntime", "from PIL import Image, ImageOps"]
    (tmp_path / "use.py").write_text(code)
    command = [sys.executable, "-I", str(tmp_path / "use.py"), *(str(path) for path in pictures(files))]
    said = subprocess.run(command, cwd=files, capture_output=True, text=True, check=True).stdout.splitlines()
    classifier = Classifier(files / "m.onnx", background=background)
    found = classifier.probabilities(classifier.pixels(pictures(files)))
    expected = [
        f"{path}: {'abc'[chances.argmax()]} ({chances.max():.1%})"
        for path, chances in zip(pictures(files), found, strict=True)
    ]
    assert said == expected


def test_the_script_of_a_colour_network_takes_grey_pictures(files: Path) -> None:
    architecture = read_architecture(files / "m.onnx")
    assert isinstance(architecture, Architecture)
    image = architecture.input.model_copy(update={"channels": 3})
    code = script("m.onnx", architecture.model_copy(update={"input": image}), "digits")
    assert '.convert("RGB")' in code
    assert "transpose(2, 0, 1)" in code
