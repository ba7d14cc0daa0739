"""Latencies on the devices that metrics name: each its own, one graph for each way of quantizing, and none guessed."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from tests.hardware.test_tables import written
from wb.core.architecture import Architecture
from wb.core.errors import BadOption, Unsupported
from wb.core.precision import allowed, with_precisions
from wb.core.records import ImageInput
from wb.data import Dataset
from wb.export.devices.nnmeter import wanted
from wb.export.timing.measure import reference_pace
from wb.hardware.device import Device
from wb.hardware.remote import profiles
from wb.hardware.remote.profiles import add_profile, profiles_path
from wb.search.beginning.config import SearchConfig
from wb.search.beginning.metrics import check_metrics
from wb.search.evaluate import Evaluator
from wb.search.places import NOWHERE, places_of
from wb.search.supernet import Supernet
from wb.search.writing import write_graphs
from wb.spaces.columnar.options import options_with
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit

FIELDS = {"embed": [16], "depth": [1, 2], "mixer": ["softmax"], "heads": [2], "qk": [8], "v": [8], "mlp": [2]}


@pytest.fixture(autouse=True)
def _own_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "user_config_dir", lambda _: str(tmp_path))


@pytest.fixture
def space(image: ImageInput) -> Vit:
    return Vit(options_with(TINY, FIELDS), image, 3)


@pytest.fixture
def supernet(space: Vit) -> Supernet:
    return Supernet.fresh(space, 0)


def config(objectives: str, **options: object) -> SearchConfig:
    """A search."""
    return SearchConfig.model_validate({"objectives": objectives, **options})


def table(path: Path, *networks: Architecture) -> Path:
    """A phone that has the blocks of these networks, a millisecond each."""
    return written(path, {key: 1.0 for one in networks for _, keys in wanted(one) for key in keys})


def test_a_candidate_has_a_latency_on_each_device(
    space: Vit, supernet: Supernet, stripes: Dataset, tmp_path: Path
) -> None:
    add_profile("phone", f"table:{table(tmp_path / 'p.json', space.smallest(), space.largest())}")
    add_profile("runner", "local")
    asked = config("acc,latency@cpu", budget=("latency@phone=9ms",), require=("latency@runner<=9s",))
    assert (asked.devices, asked.timed) == (("cpu", "phone", "runner"), False)
    places = places_of(asked)
    places.check(space)
    paced = places.paced(Device(), pace := reference_pace(Device(), cap_s=0.1))
    assert paced.paces["cpu"] == pace
    assert paced.paces.keys() == {"cpu", "runner"}
    found = Evaluator(supernet, stripes, Device(), latency=False, places=paced)(space.smallest()).readings
    assert found["latency@phone"].value == len(list(wanted(space.smallest())))
    assert [found[f"latency@{name}"].how for name in asked.devices] == ["measured", "predicted", "measured"]
    assert "latency" not in found


def test_a_table_has_to_have_the_blocks_of_the_space(space: Vit, tmp_path: Path) -> None:
    add_profile("phone", f"table:{written(tmp_path / 'p.json', {'transffn_4_16_9_hard_swish_ln': 1.0})}")
    with pytest.raises(Unsupported, match=r"latency@phone: .* has no block transattn_\d+_16_hard_swish_1_ln"):
        places_of(config("acc,latency@phone")).check(space)
    with pytest.raises(BadOption, match="--baselines"):
        places_of(config("acc,latency@phone", baselines=True))


def test_names_that_are_no_device_or_mean_something_else_are_refused(space: Vit) -> None:
    with pytest.raises(BadOption, match="latency@pi: there is no device 'pi'"):
        places_of(config("acc,latency@pi"))
    written(profiles_path(), {"prompt": "local"})
    with pytest.raises(BadOption, match="have no latency of a prompt"):
        check_metrics(config("acc,latency@prompt"), space)


def test_another_device_than_before_is_noticed(tmp_path: Path) -> None:
    places = places_of(config("acc,latency@cpu"))
    places.same_as({name: device.text for name, device in places.devices.items()})
    with pytest.raises(BadOption, match="are of a board, and it is now cpu"):
        places.same_as({"cpu": "a board, at ssh:pi"})
    assert NOWHERE.ways == []


def test_each_way_of_quantizing_has_a_graph_where_that_matters(
    supernet: Supernet, stripes: Dataset, tmp_path: Path
) -> None:
    a = supernet.space.smallest()
    plain = supernet.extract(a, stripes.train)
    assert set(write_graphs(plain, tmp_path / "a.onnx", ["dynamic", "static"], stripes, 0).values()) == {
        tmp_path / "a.onnx"
    }
    low = supernet.extract(
        with_precisions(a, {g: "int8" for g, able in allowed(a).items() if "int8" in able}), stripes.train
    )
    found = write_graphs(low, tmp_path / "new" / "b.onnx", ["static", "dynamic"], stripes, 0)
    kinds = {way: {node.op_type for node in onnx.load(path).graph.node} for way, path in found.items()}
    assert found["static"] == tmp_path / "new" / "b.onnx"  # in a folder that was not there
    assert {"QuantizeLinear", "MatMul"} <= kinds["static"]
    assert not any(kind.startswith("Dynamic") for kind in kinds["static"])
    assert "DynamicQuantizeLinear" in kinds["dynamic"]
    metadata = [{entry.key: entry.value for entry in onnx.load(path).metadata_props} for path in found.values()]
    assert metadata[0] == metadata[1]
