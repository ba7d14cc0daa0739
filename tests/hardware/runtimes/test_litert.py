"""LiteRT: a graph is converted in another environment, compared, and then timed there; bad converters do no harm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.litert import HEARD, MODE, REAL, at, make_environment, pretended
from wb.core.errors import BadArtefact, BadOption, MissingExtra
from wb.export.devices.several import on_each, places
from wb.export.run import Runner
from wb.export.timing.footprint import footprint
from wb.export.timing.measure import measure_latency
from wb.export.timing.reference import overhead_graph, transformer_graph
from wb.hardware.device import Device, example_inputs, parse_device, session
from wb.hardware.runtimes import conversion, environment, litert
from wb.hardware.runtimes.conversion import converted
from wb.hardware.runtimes.litert import converted_to_tflite

GRAPH = transformer_graph(4, 8, 1)
INPUTS = example_inputs(session(GRAPH, Device()))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of what was converted."""
    with pretended(tmp_path_factory.mktemp("environment")) as folder:
        yield folder


@pytest.fixture
def device(kept: Path) -> Device:
    del kept
    return parse_device("litert", finished=True)


def test_it_is_timed_scored_and_weighed_in_its_own_environment(device: Device, tmp_path: Path) -> None:
    assert (device.name, device.runtime, device.version) == ("litert", "litert", "2.0 (by onnx2tf 1.0)")
    assert device.key != Device().key
    path = tmp_path / "a.onnx"
    path.write_bytes(GRAPH)
    found = on_each(path, places("cpu,litert", 1), None, cap_s=0.5)
    assert list(found) == ["cpu", "litert", "litert / cpu"]
    assert found["litert"].device == device.text
    assert "outputs differ from onnxruntime's by" in str(found["litert"].note)
    rounded = parse_device("litert-int8", finished=True)
    assert (rounded.version, rounded.key == device.key) == ("2.0 (by onnx2tf 1.0 and ai-edge-quantizer 3.0)", False)
    several = np.random.default_rng(0).random((3, 4, 8), dtype=np.float32)
    ours, theirs = (Runner(path, one)({"x": several}) for one in (Device(), device.scoring("device")))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert {"load warm", "first run"} <= footprint(path, device, processes=1).readings.keys()


def test_what_was_converted_is_not_converted_again(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = converted_to_tflite(GRAPH, INPUTS)
    monkeypatch.setenv(MODE, "fails")
    model = onnx.load_from_string(GRAPH)
    model.metadata_props.add(key="wb.history", value="another")
    assert converted_to_tflite(model.SerializeToString(), INPUTS) == first
    with pytest.raises(BadArtefact):
        converted_to_tflite(GRAPH, INPUTS, "int8")
    (path,) = kept.iterdir()
    monkeypatch.delenv(MODE)
    for damaged in (b"", b"PK\3\4 and more"):
        path.write_bytes(damaged)
        assert converted_to_tflite(GRAPH, INPUTS) == first == path.read_bytes()


def test_other_versions_convert_anew(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted_to_tflite(GRAPH, INPUTS)
    before, found = len(list(kept.iterdir())), environment.versions()
    assert {"onnx", "numpy"} <= found.keys()
    monkeypatch.setattr(litert, "versions", lambda: {**found, "onnx": "0"})
    converted_to_tflite(GRAPH, INPUTS)
    assert len(list(kept.iterdir())) == before + 1


def test_nothing_of_this_python_is_given_to_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "PYTHONSAFEPATH"):
        monkeypatch.setenv(name, str(tmp_path))
    with pretended(tmp_path):
        converted(GRAPH, parse_device("litert", finished=True), session(GRAPH, Device()), INPUTS)
    assert (tmp_path / HEARD).read_text().splitlines() == 3 * [",,1,"]  # its versions, the runner and the converter


def test_it_may_be_named_from_where_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = make_environment(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(environment.VARIABLE, python.name)
    assert converted_to_tflite(GRAPH, INPUTS)[litert.MAGIC[0]] == litert.MAGIC[1]
    python.write_text("#!/nowhere\n")
    with pytest.raises(MissingExtra, match=r"python does not start \(No such file.*; make it"):
        environment.run_there([], tmp_path, 1.0, "it")


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("fails", r"the conversion for LiteRT failed: .*RuntimeError: no rule for Frobnicate"),
        ("hangs", r"the conversion for LiteRT took longer than 1 s and was ended; it said last: "),
        ("garbage", r"has written no \.tflite file"),
    ],
)
def test_a_bad_converter_is_told_and_leaves_nothing(
    kept: Path, monkeypatch: pytest.MonkeyPatch, mode: str, words: str
) -> None:
    before = sorted(kept.parent.rglob("*"))
    monkeypatch.setenv(MODE, mode)
    if mode == "hangs":
        monkeypatch.setattr(litert, "LIMIT_S", 1.0)
    with pytest.raises(BadArtefact, match=words):
        converted_to_tflite(overhead_graph(), example_inputs(session(overhead_graph(), Device())))
    assert sorted(kept.parent.rglob("*")) == before


def test_another_network_is_not_timed(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODE, "wrong")
    graph = transformer_graph(4, 8, 2)
    with pytest.raises(BadArtefact, match=r"litert 2\.0 \(.*\) computes something else of the graph in memory"):
        measure_latency({"a": graph}, device)
    monkeypatch.setattr(conversion, "ROUNDED", conversion.ALIKE)  # the stand-in does not round
    rounded, ours = parse_device("litert-int8", finished=True), session(graph, Device())
    with pytest.raises(BadArtefact, match="computes something else"):
        converted(graph, rounded, ours, INPUTS)
    monkeypatch.delenv(MODE)  # nothing wrong was kept
    assert all(converted(graph, one, ours, INPUTS).error < 1e-5 for one in (device, rounded))


@pytest.mark.parametrize("spec", ["litert", "local,runtime=litert", "ssh:pi@nowhere.invalid,runtime=litert"])
def test_a_search_is_refused_before_anything_is_started(monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    monkeypatch.setenv(environment.VARIABLE, "/nowhere")
    with pytest.raises(BadOption, match=rf"for finished networks: .* converted .* wb measure FILE --device {spec}"):
        parse_device(spec)


def test_how_the_environment_is_made_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "user_data_dir", lambda _: str(tmp_path / "Application Support"))
    monkeypatch.delenv(environment.VARIABLE, raising=False)
    with pytest.raises(
        MissingExtra, match=r"none yet; make it .*-m venv '.* Support/litert' && '.*pip' install onnx2tf=="
    ):
        environment.versions()
    monkeypatch.setenv(environment.VARIABLE, str(tmp_path / "none"))
    with pytest.raises(MissingExtra, match=r"WB_LITERT names .*none, which is no Python; make it"):
        environment.versions()
    monkeypatch.setenv(environment.VARIABLE, str(make_environment(tmp_path, lacking="onnx2tf")))
    with pytest.raises(MissingExtra, match=r"lacks onnx2tf; make it"):
        environment.versions()


@pytest.mark.skipif(not REAL, reason="WB_LITERT names no environment of LiteRT; its error says how one is made")
def test_the_real_one_computes_what_onnxruntime_does(tmp_path: Path) -> None:
    ours = session(GRAPH, Device())
    with at(str(REAL), tmp_path):
        exact, rounded = (
            converted(GRAPH, parse_device(name, finished=True), ours, INPUTS) for name in ("litert", "litert-int8")
        )
        assert exact.error < 1e-5 < rounded.error
        assert [spec.name for spec in exact.load().get_inputs()] == ["x"]
