"""ONNX Runtime Web: a graph is compared with ONNX Runtime, and then timed in node by node's clock; a bad node does no harm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.web import MODE, PATH, REAL, asked, make_folder, pretended
from wb.core.errors import BadArtefact, BadOption, MissingExtra, Unsupported
from wb.export.devices.several import device_names, on_each, places
from wb.export.run import Runner
from wb.export.timing.footprint import footprint
from wb.export.timing.measure import measure_latency
from wb.export.timing.reference import transformer_graph
from wb.hardware.device import Device, example_inputs, parse_device, session
from wb.hardware.remote.address import Address, link_to
from wb.hardware.runtimes.conversion import converted
from wb.hardware.runtimes.known import runtime
from wb.hardware.runtimes.web import place, web_session

GRAPH = transformer_graph(4, 8, 1)
INPUTS = example_inputs(session(GRAPH, Device()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a stand-in."""
    with pretended(tmp_path_factory.mktemp("web")) as found:
        yield found


@pytest.fixture
def anew(folder: Path) -> Iterator[Path]:
    """The same, where node is started anew, and ended after."""
    web_session.end_all()
    yield folder
    web_session.end_all()


def test_it_is_timed_scored_and_weighed_beside_ours(folder: Path, tmp_path: Path) -> None:
    device = parse_device("web")
    assert (device.name, device.runtime, device.version) == ("web", "web", "2.0.0 in node 99.1")
    assert device.key != Device().key
    path = tmp_path / "a.onnx"
    path.write_bytes(GRAPH)
    found = on_each(path, places("cpu,web", 1), None, cap_s=0.5)
    assert list(found) == ["cpu", "web", "web / cpu"]
    assert "outputs differ from onnxruntime's by" in str(found["web"].note)
    several = np.random.default_rng(0).random((3, 4, 8), dtype=np.float32)
    ours, theirs = (Runner(path, one)({"x": several}) for one in (Device(), device.scoring("device")))
    np.testing.assert_array_equal(ours, theirs)
    assert {"memory", "load warm", "first run"} <= footprint(path, device, processes=1).readings.keys()


def test_the_time_is_that_of_node(folder: Path) -> None:
    graph = transformer_graph(4, 8, 2)
    loaded = web_session.Session(graph, str(folder))
    before = len(asked(folder))
    for _ in range(3):
        wall, cpu = loaded.timed(["y"], INPUTS, 5)
        assert 0 < cpu < 1.5 * wall
    words = [line[0] for line in asked(folder)[before:]]
    assert words == ["feed", "warm", "time", "time", "time"]  # inputs are sent once, and nothing comes back
    again = web_session.Session(graph, str(folder))
    again.timed(["y"], INPUTS, 1)
    assert [line[0] for line in asked(folder)[before:]].count("warm") == 1
    number = [line[1] for line in asked(folder) if line[0] == "time"][-1]
    del again
    web_session.Session(GRAPH, str(folder))
    assert "release" in [line[0] for line in asked(folder)[-2:]]
    assert loaded.run(None, INPUTS)[0].shape == (1, 4, 8)  # others live on
    assert int(number) > 1


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("wrong", r"web 2\.0\.0 in node 99\.1 computes something else of the graph in memory"),
        ("lacks", r"an operator that onnxruntime-web 2\.0\.0 .* lacks on web: MatMul, at the node "),
        ("fails", r"onnxruntime-web fails on the graph's inputs \(Invalid rank for input: x\)"),
        ("dies", r"node gave no answer to run: it ended, and said last: Fatal process out of memory"),
        ("hangs", r"node gave no answer to run: it took longer than 0\.5 s"),
        ("garbage", r"node gave no answer to start: it ended"),
        ("broken", r"said last: Error: Cannot find module 'onnxruntime-web'"),
    ],
)
def test_a_bad_node_is_told_and_the_next_is_a_new_one(
    anew: Path, monkeypatch: pytest.MonkeyPatch, mode: str, words: str
) -> None:
    monkeypatch.setenv(MODE, mode)
    if mode == "hangs":
        web_session.node_of(str(anew))  # which takes its time to start
        monkeypatch.setattr(web_session, "LIMIT_S", 0.5)
    with pytest.raises(BadArtefact, match=words):
        measure_latency({"a": GRAPH}, parse_device("web"))
    monkeypatch.delenv(MODE)
    monkeypatch.setattr(web_session, "LIMIT_S", 600.0)
    web_session.end_all()
    assert converted(GRAPH, parse_device("web"), session(GRAPH, Device()), INPUTS).error == 0


def test_a_node_that_cannot_load_the_package_is_ended(anew: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODE, "unable")
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def starting(*arguments: object, **how: object) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **how))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", starting)
    with pytest.raises(BadArtefact, match="Cannot find module 'onnxruntime-common'"):
        runtime("web").load(GRAPH, "web", 1)
    assert [one.poll() is not None for one in started] == [True]


def test_nobody_gets_the_answer_that_another_was_interrupted_in_waiting_for(
    anew: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (runtime("web").load(GRAPH, "web", 1) for _ in range(2))

    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "loads", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one.run(None, INPUTS)
    monkeypatch.undo()
    with pytest.raises(BadArtefact, match="node has ended since the graph was loaded"):
        other.run(None, INPUTS)


def test_a_damaged_graph_is_told(anew: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(GRAPH[: len(GRAPH) // 2])
    for path in (tmp_path / "cut.onnx", tmp_path / "none.onnx"):
        with pytest.raises(BadArtefact, match=f"{path.name} cannot be read as an ONNX graph"):
            runtime("web").load(path, "web", 1)


def test_a_session_ends_with_its_node(anew: Path) -> None:
    loaded = runtime("web").load(GRAPH, "web", 1)
    web_session.end_all()
    for _ in range(2):
        with pytest.raises(BadArtefact, match="node has ended since the graph was loaded"):
            loaded.run(None, INPUTS)


def test_what_is_missing_is_said_with_its_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "user_data_dir", lambda _: str(tmp_path / "a b"))
    monkeypatch.delenv(web_session.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(make_folder(tmp_path / "made") / "bin"))
    with pytest.raises(MissingExtra, match=r"--device web needs .* npm install --prefix '.*a b/web' onnxruntime-web@"):
        parse_device("web")
    monkeypatch.setenv(web_session.VARIABLE, str(tmp_path))
    with pytest.raises(MissingExtra, match=r"WB_WEB names .*, and there is no package onnxruntime-web; run: mkdir -p"):
        parse_device("web")
    monkeypatch.setenv(web_session.VARIABLE, str(tmp_path / "made"))
    monkeypatch.setenv(MODE, "mute")
    with pytest.raises(MissingExtra, match=r"does not say its version \(.*node --version says ''"):
        parse_device("web")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtra, match=r"there is no node on the path; install it \(apt"):
        parse_device("web")
    with pytest.raises(MissingExtra, match="does not say its version"):
        runtime("web").version()


def test_it_has_one_thread(folder: Path) -> None:
    if os.cpu_count() == 1:
        pytest.skip("one core has one thread")
    for spec in ("web", "local,runtime=web"):
        with pytest.raises(BadOption, match=f"threads=2 on {spec}, .* 1 at most"):
            parse_device(spec, threads=2)


def test_a_profile_may_name_the_folder(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(web_session.VARIABLE)
    monkeypatch.setattr(place, "user_data_dir", lambda _: str(tmp_path))
    spec = f"local,runtime=web,folder={folder}"
    assert device_names(f"cpu,{spec}") == ["cpu", spec]
    try:
        device = parse_device(spec)
        monkeypatch.setenv(web_session.VARIABLE, str(folder))
        assert device.key == parse_device("web").key  # where it is does not count
        assert measure_latency({"a": GRAPH}, device, cap_s=0.2)["a"].reading.device == device.text
        (folder / "node_modules").rename(folder / "modules")
        with pytest.raises(
            Unsupported, match=r"no ONNX Runtime Web \(.*; make a folder of it there, mkdir -p FOLDER && npm"
        ):
            parse_device(spec)
        (folder / "modules").rename(folder / "node_modules")
    finally:
        link_to(spec).close()


def test_the_folder_is_only_for_what_runs_from_it() -> None:
    with pytest.raises(BadOption, match="folder= is that of runtime=web"):
        Address.parse("ssh:pi@host,folder=/x")
    assert Address.parse("ssh:pi@host,runtime=web,folder=/x").commands
    assert not Address.parse("ssh:pi@host,runtime=web").commands


@pytest.mark.skipif(
    not REAL or shutil.which("node") is None, reason="WB_WEB names no folder of ONNX Runtime Web, or there is no node"
)
def test_the_real_one_computes_what_onnxruntime_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(web_session.VARIABLE, str(REAL))
    monkeypatch.setenv("PATH", PATH)
    try:
        found = converted(GRAPH, parse_device("web"), session(GRAPH, Device()), INPUTS)
        assert found.error < 1e-5
        assert [(spec.name, spec.type) for spec in found.load().get_inputs()] == [("x", "tensor(float)")]
        kinds = {"f": np.float32, "i": np.int64, "b": np.bool_, "h": np.float16}
        loaded = runtime("web").load(_identities(kinds), "web", 1)
        given: dict[str, Any] = {name: np.asarray([[0, 1], [1, 0]], kind) for name, kind in kinds.items()}
        for values, back in zip(given.values(), loaded.run(None, given), strict=True):
            np.testing.assert_array_equal(values, back)
            assert values.dtype == back.dtype
        taken = web_session.Session(GRAPH, str(REAL)).timed([], INPUTS, 3)
        assert min(taken) > 0
    finally:
        web_session.end_all()


def _identities(kinds: dict[str, type]) -> bytes:
    """A graph that gives back each of its inputs."""
    import onnx

    helper, graph = onnx.helper, onnx.GraphProto(name="g")
    for name, kind in kinds.items():
        code = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        graph.input.append(helper.make_tensor_value_info(name, code, ["batch", 2]))
        graph.output.append(helper.make_tensor_value_info(name + "o", code, ["batch", 2]))
        graph.node.append(helper.make_node("Identity", [name], [name + "o"]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())
