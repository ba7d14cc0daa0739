"""What runtimes say of graphs that they do not load, in words for a user."""

from __future__ import annotations

import onnx
import pytest

from wb.core.errors import BadArtefact
from wb.export.timing.reference import overhead_graph
from wb.hardware.device import Device, session
from wb.hardware.runtimes.failures import said, why_not_loaded

# Of onnxruntime-web 1.30.0.
WEB = "Can't create a session. ERROR_CODE: {}, ERROR_MESSAGE: {}"
NEWER = (
    "/mnt/x/s/onnxruntime/core/graph/model_load_utils.h:56 void onnxruntime::model_load_utils::ValidateOpsetForDomain(const "
    "std::unordered_map<std::string, int> &, bool, int) ONNX Runtime only *guarantees* support for models stamped with official "
    "released onnx opset versions. Opset 99 is under development and support for this is limited. Current official support for "
    "domain ai.onnx is till opset 26."
)


def test_an_operator_set_that_is_too_new_is_named_with_the_newest() -> None:
    model = onnx.load_from_string(overhead_graph())
    model.opset_import[0].version = 99
    with pytest.raises(
        BadArtefact, match=r"has operator set 99, and onnxruntime .* up to \d\d; export it again with --opset"
    ):
        session(model.SerializeToString(), Device())
    found = why_not_loaded("a.onnx", WEB.format(1, NEWER), "onnxruntime-web 1.30.0", "web")
    assert found.startswith(
        "a.onnx has operator set 99, and onnxruntime-web 1.30.0 reads those up to 26; export it again"
    )
    other = why_not_loaded("a.onnx", NEWER.replace("ai.onnx is till", "ai.onnx.ml is till"), "onnxruntime 1.32", "cpu")
    assert "operator set 99 of ai.onnx.ml" in other
    assert "--opset" not in other, "that is of ai.onnx"


def test_codes_and_places_in_the_source_are_left_out() -> None:
    assert said(WEB.format(1, NEWER)).startswith("ONNX Runtime only *guarantees*")
    assert said("failed to call OrtRun(). ERROR_CODE: 2, ERROR_MESSAGE: Invalid rank") == "Invalid rank"
    damaged = WEB.format(7, "Failed to load model because protobuf parsing failed.")
    assert "cut short" in why_not_loaded("a.onnx", damaged, "onnxruntime-web 1.30.0", "web")
