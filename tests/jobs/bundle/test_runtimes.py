"""Files for other runtimes: they are checked by those, or there is no bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.catalogue import TEXT, architecture
from tests.litert import MODE, pretended
from tests.networks import of_digits, random_model
from wb.core.errors import BadArtefact, BadOption, MissingExtra, Unsupported
from wb.core.records import EmbedStem, Softmax
from wb.hardware.runtimes import environment
from wb.jobs.bundle import bundle as module
from wb.jobs.bundle import runtimes
from wb.jobs.bundle.apart import BundleDiffers
from wb.jobs.bundle.bundle import Bundled, Bundling
from wb.jobs.bundle.config import runtimes_of
from wb.jobs.bundle.place import CARD, SUMS
from wb.jobs.bundle.runtimes import FILES, check_runtimes
from wb.jobs.bundle.stored import LOWERED
from wb.models.model import save


@pytest.fixture(autouse=True)
def _untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other graphs are not run on their own, which takes seconds."""
    monkeypatch.setattr(module, "_tried", lambda *_, **__: None)


@pytest.fixture(scope="module")
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pretended(tmp_path_factory.mktemp("environment")):
        yield


def bundled(folder: Path, seed: int = 0, **given: Any) -> Bundled:
    save(random_model(of_digits(depth=1), seed=seed), folder / "m.safetensors", force=True)
    return Bundling(**given)(folder / "m.safetensors", folder / "out", lambda *_: None, lambda _: None)


@pytest.mark.usefixtures("_environment")
def test_files_of_litert_are_checked_there_and_named(tmp_path: Path) -> None:
    bundled(tmp_path, runtimes="litert-int8, litert")
    out = tmp_path / "out"
    card = json.loads((out / CARD).read_text())
    assert card["others"] == {
        "model_b1.tflite": {"package": "ai-edge-litert", "tolerance": None},
        "model_b1_int8.tflite": {"package": "ai-edge-litert", "tolerance": LOWERED},
    }
    sums, readme = (out / SUMS).read_text(), (out / "README.md").read_text()
    assert all(f"  {name}\n" in sums and f"python infer.py --check {name}" in readme for name in card["others"])
    assert "whose accuracy was not measured" not in readme
    names = [name for name in card["readings"] if name.startswith("accuracy")]
    assert names == ["accuracy (digits, test)", "accuracy (digits, test)@litert-int8"]
    whole, rounded = (card["readings"][name] for name in names)
    assert whole["value"] == rounded["value"]  # the stand-in does not round
    assert "litert-int8 2.0" in rounded["device"]
    done = subprocess.run([sys.executable, out / "infer.py", "--check"], capture_output=True, text=True, check=True)
    assert "tflite" not in done.stdout  # the graphs of ONNX Runtime are checked where nothing else is installed


@pytest.mark.usefixtures("_environment")
@pytest.mark.parametrize(
    ("seed", "mode", "error", "words"),
    [  # what was converted is not converted again, so that each has a network of its own
        (1, "wrong", BundleDiffers, r"model_b1\.tflite: differs by .* which is too much"),
        (2, "fails", BadArtefact, "Frobnicate"),
    ],
)
def test_a_bad_conversion_leaves_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, mode: str, error: type[Exception], words: str
) -> None:
    monkeypatch.setenv(MODE, mode)
    with pytest.raises(error, match=words):
        bundled(tmp_path, seed=seed, runtimes="litert")
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_what_is_not_there_is_told_before_work_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(environment.VARIABLE, str(tmp_path / "nowhere"))
    monkeypatch.setattr(module, "Measuring", None)
    with pytest.raises(MissingExtra, match="make it"):
        bundled(tmp_path, runtimes="litert")
    monkeypatch.setattr(runtimes, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"pip install 'wb\[openvino\]'"):
        bundled(tmp_path, runtimes="openvino")


@pytest.mark.parametrize("names", ["tflite", "litert,litert", "litert,,openvino", ""])
def test_only_runtimes_that_there_are(names: str) -> None:
    with pytest.raises(BadOption, match="give some of litert, litert-int8, openvino"):
        runtimes_of(names)


def test_texts_are_refused() -> None:
    with pytest.raises(Unsupported, match="any number of tokens"):
        check_runtimes(["openvino"], architecture(Softmax.sample(), stem=EmbedStem(), input=TEXT))


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
def test_files_of_openvino_are_checked(tmp_path: Path) -> None:
    bundled(tmp_path, runtimes="openvino")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {FILES["openvino"].file, "model_b1.bin"} <= names
