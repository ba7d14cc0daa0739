from __future__ import annotations

import pytest
import torch

from wb.core.errors import BadArtefact
from wb.models.axes import Couple, Leading, Select, read, remap, write

AXES = {"w": (write("out"), read("in")), "b": (write("out"),), "fixed": (None, None)}


def weights() -> dict[str, torch.Tensor]:
    return {"w": torch.arange(12.0).reshape(4, 3), "b": torch.arange(4.0), "fixed": torch.ones(2, 2)}


def test_leading_is_a_view_and_gradients_flow_back() -> None:
    shared = {name: weight.requires_grad_() for name, weight in weights().items()}
    small = remap(shared, AXES, {"out": Leading(2), "in": Leading(1)})
    assert small["w"].shape == (2, 1)
    assert small["w"].data_ptr() == shared["w"].data_ptr()
    small["w"].sum().backward()
    assert shared["w"].grad is not None
    assert shared["w"].grad.nonzero().tolist() == [[0, 0], [1, 0]]


def test_each_map_acts_on_its_axis_only() -> None:
    mapped = remap(weights(), AXES, {"in": Select(torch.tensor([2, 0]))})
    assert torch.equal(mapped["w"], weights()["w"][:, [2, 0]])
    assert torch.equal(mapped["b"], weights()["b"])
    assert torch.equal(mapped["fixed"], weights()["fixed"])


def test_a_coupling_uses_its_side() -> None:
    write_matrix, read_matrix = torch.rand(5, 4), torch.rand(2, 3)
    mapped = remap(
        weights(), AXES, {"out": Couple(write_matrix, write_matrix), "in": Couple(torch.rand(2, 3), read_matrix)}
    )
    torch.testing.assert_close(mapped["w"], write_matrix @ weights()["w"] @ read_matrix.T)
    torch.testing.assert_close(mapped["b"], write_matrix @ weights()["b"])


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(BadArtefact, match="the weights have no 'b'"):
        remap({"w": torch.ones(4, 3)}, AXES, {})
