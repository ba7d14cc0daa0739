"""Sliced recursion against its formula, token by token, and against an unrolled network of blocks with copied weights."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional as F

from tests.networks import assembled, images, random_model
from wb.core.architecture import Architecture, Block, Stage
from wb.core.layout import Layout
from wb.core.records import ImageInput, Mlp, PatchStem, Scale
from wb.core.records.attention import Grouped
from wb.core.records.mixers.recursion import Sliced
from wb.export.counting.graph import count_graph
from wb.export.graph import export
from wb.models.block import build_operator
from wb.models.counting import count_macs, count_parameters
from wb.models.layers.operator import OperatorModule
from wb.models.mixers.attention.group import shuffled
from wb.models.model import Model

EMBED, COUNT = 5, 6
RECORD = Sliced(heads=2, qk=3, v=4, loop_mlp=7, loop_projection=4, groups=2, later=3)
IMAGE = ImageInput(channels=2, height=8, width=8, mean=(0.3, 0.5), std=(0.4, 0.2))


def drawn(record: Sliced = RECORD) -> OperatorModule:
    module = build_operator(record, EMBED, Layout((COUNT,))).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(0, 0.5, generator=generator)
    return module


def tokens() -> Tensor:
    return torch.randn(2, COUNT, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Slow:
    """The formula with loops, of one example (N, D)."""

    def __init__(self, module: OperatorModule, record: Sliced) -> None:
        self.w = {name: weight.detach() for name, weight in module.named_parameters()}
        self.record = record

    def norm(self, z: Tensor, name: str) -> Tensor:
        scaled = (z - z.mean()) / (z.var(correction=0) + 1e-6).sqrt()
        return scaled * self.w[f"{name}_gain"] + self.w[f"{name}_shift"]

    def attended(self, x: Tensor, groups: list[list[int]]) -> Tensor:
        found, w = torch.zeros_like(x), self.w
        for group in groups:
            for i in group:
                y = w["bo"].clone()
                for h in range(self.record.heads):
                    q = w["wq"][h] @ x[i] + w["bq"][h]
                    shares = [math.exp(self.record.factor * float(q @ (w["wk"][h] @ x[j] + w["bk"][h]))) for j in group]
                    values = [w["wv"][h] @ x[j] + w["bv"][h] for j in group]
                    y += w["wo"][:, h] @ sum(s * v for s, v in zip(shares, values, strict=True)) / sum(shares)
                found[i] = y
        return found

    def thought(self, z: Tensor, name: str) -> Tensor:
        up = F.gelu(self.w[f"{name}_up"] @ z + self.w[f"{name}_up_bias"])
        return self.w[f"{name}_down"] @ up + self.w[f"{name}_down_bias"]

    def __call__(self, x: Tensor) -> Tensor:
        y = x
        for t in range(self.record.loops):
            wanted = self.record.later if t else self.record.groups
            order = shuffled(COUNT).tolist() if t and wanted > 1 else list(range(COUNT))
            size = COUNT // wanted
            groups = [order[start : start + size] for start in range(0, COUNT, size)]
            seen = torch.stack([self.norm(z, "attend") for z in y])
            y = (1 + self.w["attend_more"]) * y + self.w["attend_add"] * self.attended(seen, groups)
            for name in ("loop", f"after{t}"):
                given = torch.stack([self.thought(self.norm(z, name), name) for z in y])
                y = (1 + self.w[f"{name}_more"]) * y + self.w[f"{name}_add"] * given
        return y - x


@pytest.mark.parametrize("changes", [{}, {"loops": 1}, {"loops": 3, "later": 1}, {"groups": 1, "scale": 0.7}], ids=str)
def test_it_is_its_formula(changes: dict[str, float]) -> None:
    record = RECORD.model_copy(update=changes)
    module, x = drawn(record), tokens()
    expected = torch.stack([Slow(module, record)(one) for one in x])
    torch.testing.assert_close(module(x), expected, rtol=1e-6, atol=1e-6)


def recursive(**changes: int) -> Architecture:
    record = Sliced.model_validate({"heads": 2, "qk": 3, "v": 4, "loop_mlp": 7, "loop_projection": 5, **changes})
    stage = Stage(embed=8, blocks=(Block(mixer=record), Block(mixer=record)))
    return assembled(input=IMAGE, stem=PatchStem(patch=2), stages=(stage,))


def unrolled(model: Model) -> Model:
    """The untied network: for each time a block of attention and a perceptron, and one of the projection."""
    stage = model.architecture.stages[0]
    weights: dict[str, Tensor] = {}
    blocks: list[Block] = []
    for i, block in enumerate(stage.blocks):
        r = block.mixer
        assert isinstance(r, Sliced)
        for t in range(r.loops):
            groups = r.later if t else r.groups
            mixer = Grouped(heads=r.heads, qk=r.qk, v=r.v, groups=groups, permuted=t > 0)
            given = {
                name.rpartition(".")[2]: w for name, w in model.weights.items() if name.startswith(f"stages.0.{i}.")
            }
            for own, names in (("attend", "mixer"), ("loop", "ffn"), (f"after{t}", "ffn")):
                at = len(blocks) + (own.startswith("after"))
                norm, join = ("norm1", "join1") if names == "mixer" else ("norm2", "join2")
                weights[f"stages.0.{at}.{norm}.gain"] = given[f"{own}_gain"]
                weights[f"stages.0.{at}.{norm}.shift"] = given[f"{own}_shift"]
                weights[f"stages.0.{at}.{join}.scale"] = given[f"{own}_add"]
                parts = [f"{k}{n}" for k in "wb" for n in "qkvo"] if own == "attend" else []
                weights |= {f"stages.0.{at}.mixer.{name}": given[name] for name in parts}
                parts = ["up", "up_bias", "down", "down_bias"] if own != "attend" else []
                weights |= {f"stages.0.{at}.ffn.{name}": given[f"{own}_{name}"] for name in parts}
            scale = Scale(per="layer")
            blocks.append(Block(mixer=mixer, ffn=Mlp(mlp=r.loop_mlp), join=scale))
            blocks.append(Block(ffn=Mlp(mlp=r.loop_projection), join=scale))
    a = model.architecture.model_copy(update={"stages": (stage.model_copy(update={"blocks": tuple(blocks)}),)})
    return Model(a, weights | {name: w for name, w in model.weights.items() if not name.startswith("stages.")})


@pytest.mark.parametrize(("loops", "groups", "later"), [(2, 4, 1), (3, 1, 2), (2, 1, 1)])
def test_loops_are_an_unrolled_network_with_copied_weights(loops: int, groups: int, later: int) -> None:
    model = random_model(recursive(loops=loops, groups=groups, later=later))
    ones = {name: torch.zeros_like(w) if name.endswith("_more") else w for name, w in model.weights.items()}
    model = Model(model.architecture, ones)
    other = unrolled(model)
    x = images(model.architecture)
    torch.testing.assert_close(model.network()(x), other.network()(x), rtol=1e-4, atol=1e-5)
    assert count_macs(model.architecture).value == count_macs(other.architecture).value


def test_work_grows_with_the_loops_and_weights_by_a_projection_for_each(tmp_path: Path) -> None:
    a, b = recursive(loops=2, groups=1), recursive(loops=3, groups=1)
    once = 16 * (8 * 2 * (2 * 3 + 2 * 4) + 2 * 8 * (7 + 5)) + 2 * 16 * 16 * (3 + 4)
    assert count_macs(b).value - count_macs(a).value == 2 * once
    projection = 2 * 8 * 5 + 5 + 8 + 2 * 8 + 2  # two maps with biases, a norm, two factors
    assert count_parameters(b).value - count_parameters(a).value == 2 * projection
    sizes = []
    for at, loops in enumerate((2, 3)):
        path = tmp_path / f"{at}.onnx"
        model = random_model(recursive(loops=loops, groups=1))
        assert export(model, path).value <= 1e-4
        assert count_graph(path).readings["macs"].value == count_macs(model.architecture).value
        sizes.append(sum(numpy_helper.to_array(one).size for one in onnx.load(path).graph.initializer))
    assert abs(sizes[1] - sizes[0] - 2 * projection) < 16, "weights of the loop are stored once"


def test_a_group_sees_no_other() -> None:
    module, x = drawn(RECORD.model_copy(update={"loops": 1})), tokens()
    other = x.clone()
    other[:, 4, 0] += 1
    changed = (module(other) - module(x)).abs().amax(dim=(0, 2)) > 1e-12
    assert changed.tolist() == [False] * 3 + [True] * 3
