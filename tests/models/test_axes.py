from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.networks import assembled
from wb.core.architecture import Block, Stage, axis_dims
from wb.core.errors import BadArtefact, BadOption
from wb.core.records import Cosformer, ImageInput, Lmu, Mixer, Mlp, PatchStem, Pool, Sla, Softmax
from wb.models.axes import Axes, Couple, CoupleWithin, Leading, Map, Select, SelectWithin, nested, read, remap, write
from wb.models.named import axes_of
from wb.models.network import build

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


IN_HEADS: dict[str, Axes] = {
    "writer": (write("heads"), write("x"), read("embed")),
    "bias": (write("heads"), write("x")),
    "reader": (write("embed"), read("heads"), read("x")),
    "turned": (read("x"), None, read("heads")),
    "other": (write("embed"), read("heads")),
}


def in_heads(heads: int, units: int, seed: int) -> dict[str, torch.Tensor]:
    """A parameter for each of `IN_HEADS`."""
    sizes = {"heads": heads, "x": units, "embed": 3}
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand([sizes[axis.name] if axis else 2 for axis in dimensions], generator=generator)
        for name, dimensions in IN_HEADS.items()
    }


@given(seed=st.integers(0, 2**16), heads=st.integers(1, 4), units=st.integers(1, 5), data=st.data())
def test_within_heads_is_head_by_head(seed: int, heads: int, units: int, data: st.DataObject) -> None:
    """Whatever order the dimensions come in: queries have (heads, qk, embed), outputs (embed, heads, v), SLA (N, heads, qk)."""
    given = in_heads(heads, units, seed)
    generator = torch.Generator().manual_seed(seed)
    kept = data.draw(st.integers(1, units))
    index = torch.stack([torch.randperm(units, generator=generator)[:kept] for _ in range(heads)])
    mapped = remap(given, IN_HEADS, {"x": SelectWithin(index, "heads")})
    for h in range(heads):
        assert torch.equal(mapped["writer"][h], given["writer"][h][index[h]])
        assert torch.equal(mapped["bias"][h], given["bias"][h][index[h]])
        assert torch.equal(mapped["reader"][:, h], given["reader"][:, h][:, index[h]])
        assert torch.equal(mapped["turned"][:, :, h], given["turned"][:, :, h][index[h]])
    assert torch.equal(mapped["other"], given["other"])


@given(seed=st.integers(0, 99), heads=st.integers(1, 4), units=st.integers(1, 5), new=st.integers(1, 6))
def test_matrices_within_heads_act_head_by_head_each_on_its_side(seed: int, heads: int, units: int, new: int) -> None:
    given = in_heads(heads, units, seed)
    w, r = torch.rand(2, heads, new, units, generator=torch.Generator().manual_seed(seed + 1))
    mapped = remap(given, IN_HEADS, {"x": CoupleWithin(w, r, "heads")})
    for h in range(heads):
        torch.testing.assert_close(mapped["writer"][h], w[h] @ given["writer"][h])
        torch.testing.assert_close(mapped["bias"][h], w[h] @ given["bias"][h])
        torch.testing.assert_close(mapped["reader"][:, h], given["reader"][:, h] @ r[h].T)
        torch.testing.assert_close(mapped["turned"][:, :, h], (given["turned"][:, :, h].T @ r[h].T).T)
    assert torch.equal(mapped["other"], given["other"])


@given(seed=st.integers(0, 99), heads=st.integers(1, 4), units=st.integers(1, 5))
def test_permutation_matrices_within_heads_do_what_the_index_does(seed: int, heads: int, units: int) -> None:
    given = in_heads(heads, units, seed)
    index = torch.rand(heads, units, generator=torch.Generator().manual_seed(seed)).argsort(dim=1)
    matrices = torch.eye(units)[index]
    by_matrix = remap(given, IN_HEADS, {"x": CoupleWithin(matrices, matrices, "heads")})
    for name, weight in remap(given, IN_HEADS, {"x": SelectWithin(index, "heads")}).items():
        torch.testing.assert_close(by_matrix[name], weight)


@pytest.mark.parametrize("order", [("heads", "x"), ("x", "heads")])
def test_within_heads_that_are_mapped_in_the_same_call_means_those_afterwards(order: tuple[str, str]) -> None:
    """Whatever comes first in the call: heads are chosen, doubled or mixed, then each has a map of its own."""
    given = in_heads(3, 4, 0)
    generator = torch.Generator().manual_seed(1)
    outer: list[Map] = [
        Select(torch.tensor([2, 0])),
        Leading(2),
        Couple(torch.rand(5, 3, generator=generator), torch.rand(5, 3, generator=generator)),
    ]
    for heads in outer:
        count = remap(given, IN_HEADS, {"heads": heads})["bias"].shape[0]
        w, r = torch.rand(2, count, 6, 4, generator=generator)
        index = torch.rand(count, 4, generator=generator).argsort(dim=1)[:, :3]
        inner: list[Map] = [CoupleWithin(w, r, "heads"), SelectWithin(index, "heads")]
        for within in inner:
            maps = {"heads": heads, "x": within}
            together = remap(given, IN_HEADS, {name: maps[name] for name in order})
            then = remap(remap(given, IN_HEADS, {"heads": heads}), IN_HEADS, {"x": within})
            for name, weight in then.items():
                torch.testing.assert_close(together[name], weight)


def test_within_heads_needs_heads() -> None:
    axes: dict[str, Axes] = {"depthwise": (write("v"), None)}
    with pytest.raises(BadOption, match="depthwise does not lie on heads"):
        remap({"depthwise": torch.ones(3, 2)}, axes, {"v": SelectWithin(torch.tensor([[0]]), "heads")})
    with pytest.raises(BadOption, match="depthwise does not lie on heads"):
        remap(
            {"depthwise": torch.ones(3, 2)},
            axes,
            {"v": CoupleWithin(torch.ones(1, 1, 3), torch.ones(1, 1, 3), "heads")},
        )


def test_gradients_flow_through_matrices_within_heads() -> None:
    given = {name: weight.requires_grad_() for name, weight in in_heads(2, 3, 0).items()}
    ones = torch.ones(2, 1, 3)
    remap(given, IN_HEADS, {"x": CoupleWithin(ones, ones, "heads")})["writer"].sum().backward()
    assert torch.equal(given["writer"].grad, torch.ones(2, 3, 3))  # type: ignore[arg-type]


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
    a = assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=8, blocks=(block, block)),), classes=3)
    found = nested(axes_of(build(a, "meta")), axis_dims(a))
    assert found == {f"s0.b{b}.{axis}": f"s0.b{b}.heads" for b in (0, 1) for axis in expected}
