"""What is counted of a file, and of how many images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from tests.compress.ptq.graphs import model as network
from tests.export.foreign_graphs import constant, floats, linear, model, save
from wb.core.precision import allowed, with_precisions
from wb.core.records import Precision
from wb.export.counting.graph import count_graph
from wb.export.graph import export
from wb.models.model import Model

node = helper.make_node


def test_a_fixed_batch_counts_as_the_same_dynamic_one(tmp_path: Path) -> None:
    nodes, weight = [node("Conv", ["x", "w"], ["y"])], [floats("w", 5, 3, 3, 3)]
    fixed = save(model(nodes, weight, {"x": [4, 3, 8, 8]}), tmp_path / "fixed.onnx")
    dynamic = save(model(nodes, weight, {"x": ["n", 3, 8, 8]}), tmp_path / "dynamic.onnx")
    one, four = count_graph(dynamic).readings["macs"], count_graph(dynamic, 4).readings["macs"]
    assert count_graph(fixed).readings["macs"] == four
    assert four.value == 4 * one.value
    assert (one.note, four.note) == (None, "of one run, which takes 4 images")
    assert count_graph(fixed).readings["params"].note is None


def test_of_what_are_no_images_the_note_says_what_there_are_four_of(tmp_path: Path) -> None:
    path = save(model([node("MatMul", ["x", "w"], ["y"])], [floats("w", 4, 3)], {"x": [4, 4]}), tmp_path / "a.onnx")
    assert count_graph(path).readings["macs"].note == "of one run, which takes 4 along its input's first axis"


def test_shapes_that_the_file_states_of_another_batch_are_not_believed(tmp_path: Path) -> None:
    made = model(
        [node("MatMul", ["x", "w"], ["h"]), node("MatMul", ["h", "v"], ["y"])], [floats("w", 4, 3), floats("v", 3, 2)]
    )
    made.graph.value_info.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, [64, 3]))
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [64, 2]))
    assert count_graph(save(made, tmp_path / "a.onnx")).readings["macs"].value == 4 * 3 + 3 * 2


def test_functions_are_counted_where_they_are_called(tmp_path: Path) -> None:
    made = model(
        [node("F", ["x", "w"], ["a"], domain="d"), node("F", ["a", "w"], ["y"], domain="d")], [floats("w", 4, 4)]
    )
    inside = [node("MatMul", ["v", "m"], ["r"])]
    made.functions.append(helper.make_function("d", "F", ["v", "m"], ["r"], inside, [helper.make_opsetid("", 20)]))
    made.opset_import.append(helper.make_opsetid("d", 1))
    found = count_graph(save(made, tmp_path / "a.onnx")).readings
    assert (found["params"].value, found["macs"].value) == (16, 2 * 16)


def test_operators_that_contradict_each_other_give_no_number(tmp_path: Path) -> None:
    made = linear()
    made.graph.initializer[0].CopyFrom(floats("w", 5, 3))
    found = count_graph(save(made, tmp_path / "a.onnx"))
    assert set(found.readings) == {"params"}
    assert "macs" in found.missing


def test_a_quantized_file_has_the_parameters_and_products_of_the_float_one(tmp_path: Path) -> None:
    floating = network()
    chosen: dict[str, Precision] = {
        group: "int4" if "int4" in options and i % 2 else "int8"
        for i, (group, options) in enumerate(allowed(floating.architecture).items())
    }
    low = Model(with_precisions(floating.architecture, chosen), floating.weights, floating.history)
    for name, made in (("float", floating), ("low", low)):
        export(made, tmp_path / f"{name}.onnx")
    before, after = (count_graph(tmp_path / f"{name}.onnx") for name in ("float", "low"))
    assert set(chosen.values()) == {"int8", "int4"}
    assert after.readings == before.readings
    assert set(after.readings) == {"params", "macs"}


def test_equal_names_in_branches_are_different_values(tmp_path: Path) -> None:
    """Exporters write the branches one by one, and start their names anew: weights, shapes and what the branches give."""

    def file(then: int, other: int) -> Path:
        arms = []
        for width in (then, other):
            nodes = [node("MatMul", ["x", "w"], ["h"]), node("MatMul", ["h", "v"], ["out"])]
            given = [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
            arms.append(helper.make_graph(nodes, "arm", [], given, [floats("w", 4, width), floats("v", width, 3)]))
        choice = node("If", ["c"], ["y"], then_branch=arms[0], else_branch=arms[1])
        return save(model([choice], [constant("c", True, np.bool_)]), tmp_path / f"{then}.onnx")

    different, equal = count_graph(file(8, 32)), count_graph(file(5, 5))
    assert different.readings["params"].value == 7 * 8 + 7 * 32
    assert "which of its branches runs" in different.missing["macs"]
    assert (equal.readings["params"].value, equal.readings["macs"].value) == (2 * 7 * 5, 7 * 5)


def test_equal_names_in_branches_of_a_function_count_apart(tmp_path: Path) -> None:
    given = [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
    arms = [
        helper.make_graph([node("MatMul", ["v", "w"], ["out"])], "arm", [], given, [floats("w", 4, 3)])
        for _ in range(2)
    ]
    made = model([node("F", ["x", "c"], ["y"], domain="d")], [constant("c", True, np.bool_)])
    inside = [node("If", ["flag"], ["r"], then_branch=arms[0], else_branch=arms[1])]
    made.functions.append(helper.make_function("d", "F", ["v", "flag"], ["r"], inside, [helper.make_opsetid("", 20)]))
    made.opset_import.append(helper.make_opsetid("d", 1))
    found = count_graph(save(made, tmp_path / "a.onnx")).readings
    assert (found["params"].value, found["macs"].value) == (24, 12)
