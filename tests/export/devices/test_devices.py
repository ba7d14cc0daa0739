"""Latencies on several devices, and predicted ones: sums by hand, and what a table lacks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.hardware.test_tables import written
from tests.networks import assembled
from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import BadArtefact, BadOption, Unsupported
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax
from wb.export.devices.nnmeter import wanted
from wb.export.devices.predict import predicted, record
from wb.export.devices.several import device_names, on_each, places
from wb.export.timing.blocks import estimate, parts
from wb.export.timing.reference import transformer_graph
from wb.export.timing.table import LatencyTable
from wb.hardware.device import Device, parse_device

BLOCK = Block(mixer=Softmax(heads=2, qk=8, v=16), ffn=Mlp(mlp=48))
PHONE = {"transattn_4_16_hard_swish_2_ln": 0.25, "transffn_4_16_3_hard_swish_ln": 0.5}


def network(*blocks: Block) -> Architecture:
    """A network with 4 x 4 tokens of 16 channels."""
    image = ImageInput(channels=1, height=8, width=8, mean=(0.0,), std=(1.0,))
    return assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=16, blocks=blocks),))


def test_a_phones_table_adds_up_blocks(tmp_path: Path) -> None:
    device = parse_device(f"table:{written(tmp_path / 'p.json', PHONE)}")
    found = predicted(network(BLOCK, BLOCK), device)
    assert (found.value, found.how, found.unit) == (1.5, "predicted", "ms")
    assert "no stem" in str(found.note)
    assert [keys for _, keys in wanted(network(BLOCK))] == [[key] for key in PHONE]


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (BLOCK.model_copy(update={"ffn": Mlp(mlp=32)}), r"no block transffn_4_16_2_hard_swish_ln.*s0\.b0\.ffn"),
        (BLOCK.model_copy(update={"ffn": Mlp(mlp=40)}), r"no counterpart of s0\.b0\.ffn"),
        (BLOCK.model_copy(update={"mixer": Softmax(heads=2, qk=4, v=16)}), r"no counterpart of s0\.b0\.mixer"),
    ],
)
def test_a_block_that_it_lacks_is_named(tmp_path: Path, block: Block, words: str) -> None:
    device = parse_device(f"table:{written(tmp_path / 'p.json', PHONE)}")
    with pytest.raises(Unsupported, match=words):
        predicted(network(block), device)


def test_what_was_recorded_predicts_what_the_device_itself_would(tmp_path: Path) -> None:
    table, path = LatencyTable(Device(), tmp_path / "cache"), tmp_path / "own.json"
    with pytest.raises(BadOption, match="time them first"):
        record(table, [network(BLOCK)], path)
    own = estimate(network(BLOCK), table)
    assert record(table, [network(BLOCK)], path) == len(list(parts(network(BLOCK))))
    found = predicted(network(BLOCK), parse_device(f"table:{path}"))
    assert found.value == pytest.approx(own.value)
    assert found.interval == pytest.approx(own.interval)
    other = network(BLOCK.model_copy(update={"ffn": Mlp(mlp=8)}))
    with pytest.raises(Unsupported, match=r'lacks 1 of the 2 blocks of this network, the first is block/.*"mlp": 8'):
        predicted(other, parse_device(f"table:{path}"))
    with pytest.raises(BadOption, match="exists"):
        record(table, [network(BLOCK)], path)
    content = json.loads(path.read_text())
    with pytest.raises(BadArtefact, match="record it again"):
        predicted(other, parse_device(f"table:{written(path, {**content, 'keys': 3})}"))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cpu", ["cpu"]),
        ("cpu,ssh:pi@a,cores=big,python=/p,openvino", ["cpu", "ssh:pi@a,cores=big,python=/p", "openvino"]),
        ("cpu,local,runtime=openvino", ["cpu", "local,runtime=openvino"]),
        ("cpu,run:x a,b", ["cpu", "run:x a,b"]),
    ],
)
def test_devices_are_told_from_their_options(text: str, names: list[str]) -> None:
    assert device_names(text) == names


@pytest.mark.parametrize("text", ["", "cpu,", "cpu,cpu"])
def test_no_device_and_one_twice_are_refused(text: str) -> None:
    with pytest.raises(BadOption, match="names no device, or one twice"):
        device_names(text)


def test_several_devices_are_set_against_the_first(tmp_path: Path) -> None:
    graph = tmp_path / "a.onnx"
    graph.write_bytes(transformer_graph(4, 8, 1))
    table = written(tmp_path / "p.json", PHONE)
    where = places(f"cpu,local,table:{table}", 1)
    found = on_each(graph, where, network(BLOCK), cap_s=0.5)
    cpu, local, phone = (place.name for place in where)
    assert list(found) == [cpu, local, phone, f"{local} / cpu", f"{phone} / cpu"]
    assert found[phone].value == 0.75
    assert [found[name].how for name in (f"{local} / cpu", f"{phone} / cpu")] == ["measured", "predicted"]
    assert found[f"{phone} / cpu"].value == pytest.approx(0.75 / found[cpu].value)
    with pytest.raises(Unsupported, match="this graph is none"):
        on_each(graph, where, None)
