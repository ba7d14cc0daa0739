"""Files of latency tables, and the devices that they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from wb.core.errors import BadArtefact, BadOption
from wb.export.timing.bench import bench_of
from wb.export.timing.reference import overhead_graph
from wb.hardware.device import parse_device
from wb.hardware.remote import profiles
from wb.hardware.remote.profiles import add_profile, read_profiles
from wb.hardware.tables import Recorded, read_table

PHONE = {"transattn_8_16_hard_swish_1_ln": 0.25, "transffn_8_16_2_hard_swish_ln": 0.5}
OURS: dict[str, Any] = {
    "format": "wb latency table",
    "keys": 4,
    "device": "a board",
    "reference_ms": 2.0,
    "overhead": {"value": 0.1, "low": 0.1, "high": 0.1, "n": 9},
    "blocks": {"block/a": {"value": 1.0, "low": 0.9, "high": 1.1, "n": 9}},
}


@pytest.fixture(autouse=True)
def _own_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "user_config_dir", lambda _: str(tmp_path))


def written(path: Path, content: object) -> Path:
    """The file with that content."""
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_both_kinds_are_devices(tmp_path: Path) -> None:
    phone, ours = (written(tmp_path / f"{name}.json", content) for name, content in (("p6", PHONE), ("own", OURS)))
    assert read_table(phone) == PHONE
    assert isinstance(read_table(ours), Recorded)
    add_profile("phone", f"table:{phone}")
    device = parse_device("phone")
    assert read_profiles() == {"phone": f"table:{phone}"}
    assert (device.runtime, device.here.address) == ("table", None)
    assert "nn-Meter" in device.text
    assert "a board" in parse_device(f"table:{ours}").text
    with pytest.raises(BadOption, match="threads=2"):
        parse_device("phone", threads=2)
    with pytest.raises(BadOption, match="in which nothing is timed"):
        bench_of({"a": overhead_graph()}, device, 1, 0)


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        [1],
        {},
        {"a": 1.0},
        {**PHONE, "transffn_8_16_3_hard_swish_ln": -1.0},
        {**PHONE, "conv_1": "fast"},
        {**OURS, "reference_ms": 0},
        {**OURS, "keys": "x"},
        {**OURS, "blocks": {"a": 1.0}},
        '{"transffn_1": NaN}',
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(BadArtefact, match=r"t\.json .*latency table|t\.json has none of the blocks"):
        parse_device(f"table:{written(tmp_path / 't.json', content)}")


def test_a_table_needs_a_file(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="names no file"):
        parse_device("table:")
    with pytest.raises(BadArtefact, match="none"):
        parse_device(f"table:{tmp_path / 'none.json'}")


@pytest.mark.parametrize("name", ["prompt", "token", "openvino", "table", "a=b"])
def test_names_that_mean_something_else_are_refused(name: str) -> None:
    with pytest.raises(BadOption, match="is no name for a profile"):
        add_profile(name, "ssh:pi")
