from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wb.core.architecture import Architecture, Block, ImageInput, Stage
from wb.core.errors import BadArtefact, BadOption
from wb.core.records import Cosformer, Lmu, Mixer, Mlp, PatchStem, Pool, Sla, Softmax
from wb.models.axes import Axes, Couple, Leading, Select, SelectWithin, nested, read, remap, write
from wb.models.network import axes_of, build

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


@given(seed=st.integers(0, 2**16), heads=st.integers(1, 4), units=st.integers(1, 5), data=st.data())
def test_within_heads_is_head_by_head(seed: int, heads: int, units: int, data: st.DataObject) -> None:
    """Whatever order the dimensions come in: queries have (heads, qk, embed), outputs (embed, heads, v), SLA (N, heads, qk)."""
    axes: dict[str, Axes] = {
        "writer": (write("heads"), write("x"), read("embed")),
        "bias": (write("heads"), write("x")),
        "reader": (write("embed"), read("heads"), read("x")),
        "turned": (read("x"), None, read("heads")),
        "other": (write("embed"), read("heads")),
    }
    sizes = {"heads": heads, "x": units, "embed": 3}
    generator = torch.Generator().manual_seed(seed)
    given = {
        name: torch.rand([sizes[axis.name] if axis else 2 for axis in dimensions], generator=generator)
        for name, dimensions in axes.items()
    }
    kept = data.draw(st.integers(1, units))
    index = torch.stack([torch.randperm(units, generator=generator)[:kept] for _ in range(heads)])
    mapped = remap(given, axes, {"x": SelectWithin(index, "heads")})
    for h in range(heads):
        assert torch.equal(mapped["writer"][h], given["writer"][h][index[h]])
        assert torch.equal(mapped["bias"][h], given["bias"][h][index[h]])
        assert torch.equal(mapped["reader"][:, h], given["reader"][:, h][:, index[h]])
        assert torch.equal(mapped["turned"][:, :, h], given["turned"][:, :, h][index[h]])
    assert torch.equal(mapped["other"], given["other"])


def test_within_heads_needs_heads() -> None:
    axes: dict[str, Axes] = {"depthwise": (write("v"), None)}
    with pytest.raises(BadOption, match="depthwise does not lie on heads"):
        remap({"depthwise": torch.ones(3, 2)}, axes, {"v": SelectWithin(torch.tensor([[0]]), "heads")})


@pytest.mark.parametrize(
    ("mixer", "expected"),
    [
        (Softmax(heads=2, qk=3, v=4), {"qk", "v"}),
        (Cosformer(heads=2, qk=3, v=4), {"qk", "v"}),
        (Sla(heads=2, qk=3, v=4), {"qk"}),
        (Lmu(memory=3, hidden=4), set()),
        (Pool(), set()),
        (None, set()),
    ],
)
def test_what_is_nested_in_the_heads(image: ImageInput, mixer: Mixer | None, expected: set[str]) -> None:
    """Each head has channels of its own, but for the values of SLA, whose convolution they share."""
    block = Block(mixer=mixer, ffn=Mlp(mlp=5))
    a = Architecture(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=8, blocks=(block, block)),), classes=3)
    found = nested(axes_of(build(a, "meta")))
    assert found == {f"s0.b{b}.{axis}": f"s0.b{b}.heads" for b in (0, 1) for axis in expected}
