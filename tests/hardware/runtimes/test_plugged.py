"""Plugins of ONNX Runtime: a package's part is played by a module, and the registration's by what gives its devices."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.commands import wb
from wb.cli.looking.health import checks
from wb.core.errors import BadArtefact, BadOption, MissingExtra, Unsupported
from wb.core.measures.readings import Reading
from wb.core.specs import IDS, PAST, TOKENS, TOTAL
from wb.export.devices.several import with_nodes
from wb.export.timing.bench import bench_of
from wb.export.timing.footprint import footprint
from wb.export.timing.reference import transformer_graph
from wb.hardware.device import Device, parse_device, session
from wb.hardware.remote.footprint import of_onnxruntime
from wb.hardware.remote.plugins import Plugin, plugins
from wb.hardware.runtimes import ort, plugged
from wb.hardware.runtimes.known import PLUGGED, offered, runtime, way_of
from wb.hardware.runtimes.plugged import Plugged

GRAPH = transformer_graph(4, 8, 1)
MODULE = """
def get_library_path():
    return "{library}"
def get_ep_names():
    return ["{provider}"]
"""


class Card:
    """A device as ONNX Runtime describes it."""

    def __init__(self, kind: str, vendor: str = "ACME", model: int = 0, name: str = "") -> None:
        self.type, self.vendor, self.vendor_id, self.device_id = SimpleNamespace(name=kind), vendor, 0x10DE, model
        self.metadata = {"pci_bus_id": "0000:01:00.0"} | ({"Description": name} if name else {})


def _forgotten() -> None:
    for one in plugins() if plugins.cache_info().currsize else ():
        with suppress(Exception):  # one whose registration was played
            onnxruntime.unregister_execution_provider_library(one.provider)
    plugins.cache_clear()
    ort.providers.cache_clear()


@pytest.fixture(autouse=True)
def _again() -> Iterator[None]:
    _forgotten()
    yield
    _forgotten()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes packages that are on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(module: str, provider: str) -> None:
        (tmp_path / f"{module}.py").write_text(MODULE.format(library=tmp_path / "none.so", provider=provider))
        monkeypatch.delitem(sys.modules, module, raising=False)

    return write


@pytest.fixture
def offers(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Provider -> kinds of the devices that a registration makes it offer; sessions on them are those of the processor."""
    kinds: dict[str, list[str]] = {}
    registered: list[str] = []

    class Options(onnxruntime.SessionOptions):  # type: ignore[misc]  # has no types
        def add_provider_for_devices(self, devices: Any, options: Mapping[str, str]) -> None:
            assert [one.device.type.name for one in devices] == ["GPU"]
            assert options == {}

    def devices() -> list[Any]:
        return [SimpleNamespace(ep_name=name, device=Card(kind)) for name in registered for kind in kinds.get(name, ())]

    available = onnxruntime.get_available_providers
    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", lambda name, _: registered.append(name))
    monkeypatch.setattr(onnxruntime, "get_ep_devices", devices)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*available(), *registered])
    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    return kinds


def test_a_device_of_a_plugin_is_one_of_this_machine(package: Any, offers: dict[str, list[str]]) -> None:
    package("onnxruntime_ep_acme", "AcmeExecutionProvider")
    offers["AcmeExecutionProvider"] = ["GPU"]
    device = parse_device("ep-acme")
    assert device.runtime == PLUGGED
    assert device.processor.startswith("GPU of ACME, ")
    assert device.version == f"acme of unknown version in onnxruntime {onnxruntime.__version__}"
    assert device.key != parse_device("cpu").key
    assert (device.here, device.on_cpu) == (Device(), False)
    assert "acme" not in offered()  # what is registered is available, but no provider of the plain runtime
    assert way_of("ep-acme", "int8") == "dynamic"


def test_it_is_compared_and_timed_with_fixed_shapes_and_its_nodes_are_told(
    package: Any, offers: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package("onnxruntime_ep_acme", "AcmeExecutionProvider")
    offers["AcmeExecutionProvider"] = ["GPU", "NPU"]
    monkeypatch.setattr(plugged, "assigned", lambda _: {"AcmeExecutionProvider": 3})
    device = parse_device("ep-acme-gpu")
    bench = bench_of({"a": GRAPH}, device, 2, 0)
    assert "outputs differ from onnxruntime's by 0 of" in str(bench.notes["a"])
    (tmp_path / "g.onnx").write_bytes(GRAPH)
    count = sum(runtime(PLUGGED).nodes(GRAPH, "ep-acme-gpu", 1).values())
    monkeypatch.setattr(plugged, "assigned", lambda _: {"CPUExecutionProvider": count})
    reading = Reading(value=1, unit="ms", how="measured", note="quiet")
    found = with_nodes({"latency": reading}, tmp_path / "g.onnx", device, batch=2)["latency"]
    assert found.note == f"quiet; {count} nodes on CPUExecutionProvider: {count} of {count} fell back to the processor"


def test_nodes_of_a_further_token_are_those_behind_a_past(
    package: Any, offers: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package("onnxruntime_ep_acme", "AcmeExecutionProvider")
    offers["AcmeExecutionProvider"] = ["GPU"]
    int64 = onnx.TensorProto.INT64
    ids, past, mask, total = (
        onnx.helper.make_tensor_value_info(name, int64, ["batch", axis])
        for name, axis in ((IDS, TOKENS), ("past", PAST), ("mask", TOTAL), ("total", TOTAL))
    )
    whole = onnx.helper.make_node("Concat", ["past", IDS], ["whole"], axis=1)
    masked = onnx.helper.make_node("Mul", ["whole", "mask"], ["total"])
    graph = onnx.helper.make_graph([whole, masked], "g", [ids, past, mask], [total])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), tmp_path / "g.onnx")
    shapes: list[list[int]] = []

    def nodes(_: Plugged, graph: bytes, *__: Any) -> dict[str, int]:
        inputs = onnx.load_from_string(graph).graph.input
        shapes.append([one.type.tensor_type.shape.dim[1].dim_value for one in inputs])
        return {"AcmeExecutionProvider": 1}

    monkeypatch.setattr(Plugged, "nodes", nodes)
    device, reading = parse_device("ep-acme"), Reading(value=1, unit="ms", how="measured")
    for behind in (False, True):
        with_nodes({"latency": reading}, tmp_path / "g.onnx", device, tokens=8, behind=behind)
    assert shapes == [[8, 0, 8], [1, 7, 8]]


@pytest.mark.parametrize(
    ("kinds", "names"), [(["GPU"], ["ep-acme"]), (["CPU", "NPU", "NPU"], ["ep-acme-cpu", "ep-acme-npu"]), ([], [])]
)
def test_several_kinds_of_devices_are_told_apart(
    kinds: list[str], names: list[str], package: Any, offers: dict[str, list[str]]
) -> None:
    package("onnxruntime_ep_acme", "AcmeExecutionProvider")
    offers["AcmeExecutionProvider"] = kinds
    assert sorted(name for name in offered() if name.startswith("ep-")) == names


def test_a_library_that_cannot_be_registered_is_told(package: Any) -> None:
    package("onnxruntime_ep_acme", "AcmeExecutionProvider")
    (found,) = [one for one in plugins() if one.package == "onnxruntime-ep-acme"]
    assert "none.so" in found.why
    row = next(check for check in checks(lambda _: None) if "ep-acme" in check.found)
    assert (row.ok, row.advice) == (False, "update it and onnxruntime")


def test_why_there_is_no_such_device(package: Any, offers: dict[str, list[str]]) -> None:
    package("onnxruntime_ep_acme", "AcmeExecutionProvider")
    with pytest.raises(Unsupported, match=r"onnxruntime-ep-acme .* is installed, .*: it finds no device on this"):
        parse_device("ep-acme")
    _forgotten()
    offers["AcmeExecutionProvider"] = ["CPU", "GPU"]
    with pytest.raises(Unsupported, match=r"it offers ep-acme-cpu, ep-acme-gpu"):
        parse_device("ep-acme")
    with pytest.raises(BadOption, match="no device 'ep-other'"):
        parse_device("ep-other")  # whose package nobody knows
    with pytest.raises(Unsupported, match="wb device check --npu qnn"):
        parse_device("qnn")


def test_a_plugin_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pkgutil, "iter_modules", list)
    with pytest.raises(MissingExtra, match=r"pip install onnxruntime-ep-webgpu$"):
        parse_device("ep-webgpu")


def test_qualcomms_offers_no_device_to_time_on_and_is_not_even_imported(package: Any, tmp_path: Path) -> None:
    package("onnxruntime_qnn", "QNNExecutionProvider")
    (tmp_path / "onnxruntime_qnn.py").write_text("raise SystemExit('its libraries may do so')")
    (found,) = [one for one in plugins() if one.simulates]
    assert (found.names, "simulates them" in found.text) == ({}, True)
    assert not any("qnn" in name for name in offered())
    assert "onnxruntime_qnn" not in sys.modules
    assert any(check.ok and check.advice == "wb device check --npu qnn MODEL" for check in checks(lambda _: None))


def test_a_plugin_is_registered_only_where_a_device_of_one_is_meant(package: Any, offers: dict[str, list[str]]) -> None:
    package("onnxruntime_ep_acme", "AcmeExecutionProvider")
    offers["AcmeExecutionProvider"] = ["GPU"]
    parse_device("cpu")
    assert way_of("cpu", "int8") == "dynamic"
    assert session(GRAPH, Device()).get_providers() == ["CPUExecutionProvider"]
    assert "onnxruntime_ep_acme" not in sys.modules
    parse_device("ep-acme")
    assert "onnxruntime_ep_acme" in sys.modules


def test_equal_cards_have_one_key_and_others_their_own(
    package: Any, offers: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = [Card("GPU", model=0x2335), Card("GPU", model=0x2684), Card("GPU", name="Acme 1"), Card("GPU", "", 0x2335)]
    found = []
    for card in (*cards, Card("GPU", model=0x2335)):
        _forgotten()
        package("onnxruntime_ep_acme", "AcmeExecutionProvider")
        one = SimpleNamespace(ep_name="AcmeExecutionProvider", device=card)
        monkeypatch.setattr(onnxruntime, "get_ep_devices", lambda one=one: [one])
        found.append(parse_device("ep-acme"))
    assert found[0].key == found[-1].key
    assert len({one.key for one in found}) == len(cards)
    told = ["ACME (device 0x2335)", "ACME (device 0x2684)", "ACME (Acme 1)", "vendor 0x10de (device 0x2335)"]
    assert [one.processor.startswith(f"GPU of {text}, ") for one, text in zip(found, told, strict=False)] == [True] * 4


def test_a_graph_of_which_it_takes_no_node_is_not_timed_as_its_own(package: Any, offers: dict[str, list[str]]) -> None:
    package("onnxruntime_ep_acme", "AcmeExecutionProvider")
    offers["AcmeExecutionProvider"] = ["GPU"]
    with pytest.raises(Unsupported, match=r"ep-acme takes none of the \d+ nodes of the graph in memory.*--device cpu"):
        bench_of({"a": GRAPH}, parse_device("ep-acme"), 1, 0)


def test_a_run_that_fails_says_what_to_do(
    package: Any, offers: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    package("onnxruntime_ep_acme", "AcmeExecutionProvider")
    offers["AcmeExecutionProvider"] = ["GPU"]

    class Lost:
        def get_outputs(self) -> list[Any]:
            return [SimpleNamespace(name="y")]

        get_inputs = get_modelmeta = get_outputs

        def run(self, *_: Any) -> None:
            raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : the device was lost")

    monkeypatch.setattr(plugged, "load", lambda *_, **__: Lost())
    with pytest.raises(BadArtefact, match=r"fails when it runs \(the device was lost\); check its driver"):
        bench_of({"a": GRAPH}, parse_device("ep-acme"), 1, 0)


def test_memory_is_read_on_the_plugins_device(package: Any, offers: dict[str, list[str]]) -> None:
    package("onnxruntime_ep_acme", "AcmeExecutionProvider")
    offers["AcmeExecutionProvider"] = ["NPU", "GPU"]
    x = {"x": np.random.default_rng(0).random((1, 4, 8), dtype=np.float32)}
    (given,) = of_onnxruntime(1, "onnxruntime_ep_acme:GPU:AcmeExecutionProvider")(GRAPH)(x)
    np.testing.assert_array_equal(given, session(GRAPH, Device()).run(None, x)[0])


def test_a_driver_that_does_not_start_is_no_fault_of_the_graph(
    package: Any, offers: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    package("onnxruntime_ep_acme", "AcmeExecutionProvider")
    offers["AcmeExecutionProvider"] = ["GPU"]

    def failing(*_: Any, **__: Any) -> None:
        raise RuntimeError(
            "11 : EP_FAIL : a.cc:1 PluginExecutionProviderFactory::CreateProvider(x) was false. No adapter"
        )

    monkeypatch.setattr(plugged, "load", failing)
    with pytest.raises(Unsupported, match=r"ep-acme offers a device, but cannot start it .*No adapter.*driver"):
        runtime(PLUGGED).load(GRAPH, "ep-acme", 1)


def test_a_device_is_told_by_doctor_in_words() -> None:
    found = Plugin("onnxruntime-ep-acme", "1.2", "AcmeExecutionProvider", {"GPU": "ACME"})
    assert found.text == "onnxruntime-ep-acme 1.2: GPU of ACME"
    assert found.names == {"ep-acme": "onnxruntime_ep_acme:GPU:AcmeExecutionProvider"}


REAL = [name for name in ("onnxruntime_ep_webgpu", "onnxruntime_ep_openvino") if find_spec(name) is not None]


@pytest.mark.skipif(not REAL, reason="no plugin of ONNX Runtime is installed")
def test_a_real_plugin_computes_what_the_processor_does_or_says_that_it_finds_no_device(tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(GRAPH)
    for module in REAL:
        (one,) = [one for one in plugins() if one.package == module.replace("_", "-")]
        assert one.provider
        if not one.devices:
            done = wb("measure", tmp_path / "g.onnx", "--device", one.package.removeprefix("onnxruntime-"))
            assert "it finds no device on this machine" in " ".join(done.output.split())
        for name in one.names:
            device = parse_device(name)
            assert one.provider in runtime(PLUGGED).nodes(GRAPH, name, 1)
            assert "outputs differ" in str(bench_of({"a": GRAPH}, device, 1, 0).notes["a"])
            assert footprint(tmp_path / "g.onnx", device).readings
