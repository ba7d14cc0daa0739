"""The policy where none is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.networks import hybrid, of_digits, random_model
from wb.compress.quantize.begin import files_of
from wb.compress.quantize.given import configured
from wb.core.architecture import Architecture
from wb.models.model import save


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
@pytest.mark.parametrize(
    ("architecture", "given", "policy"),
    [
        (hybrid(), {}, "int8"),
        (hybrid(), {"budget": ("size=0.5x",)}, "mixed"),
        (hybrid(), {"policy": "int8-dynamic"}, "int8-dynamic"),
        (of_digits(), {}, "int8-dynamic"),
    ],
)
def test_maps_are_static_by_default(
    architecture: Architecture, given: dict[str, object], policy: str, ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"model.{ending}"
    save(random_model(architecture), path)
    config = configured(path, {"data": "digits", **given})
    assert config.policy == policy
    written = {file.suffix for file in files_of(config, path, tmp_path / "out.onnx")}
    assert (".safetensors" in written) == (policy == "int8-dynamic")  # no model file has fixed ranges


def test_what_is_no_model_is_refused_where_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"nothing")
    assert configured(path, {"data": "digits"}).policy == "int8-dynamic"
