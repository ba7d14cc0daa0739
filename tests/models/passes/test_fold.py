"""Folded norms leave the function as it is, wherever there is one that can be folded; what stays says why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.catalogue import CATALOGUE
from tests.commands import succeeded, wb
from tests.networks import exactly, images, normed, of_digits, random_model
from wb import api
from wb.core.architecture import Architecture
from wb.core.errors import BadOption
from wb.core.precision import allowed, with_precisions
from wb.core.records import Pool
from wb.core.records.norms import BatchNorm, RepNorm
from wb.models.layers.convolution import BatchNormed
from wb.models.model import Model, load, save
from wb.models.network import skeleton
from wb.models.norms.base import NormModule
from wb.models.passes.base import apply
from wb.models.passes.fold import FoldNorms, foldings

FOLDABLE = [name for name, a in CATALOGUE.items() if foldings(a)[0]]


def left(a: Architecture) -> list[str]:
    """The batch norms in front of operators and of the head."""
    modules = skeleton(a).named_modules()
    return [name for name, one in modules if isinstance(one, NormModule) and isinstance(one, BatchNormed)]


def test_the_catalogue_has_both_kinds() -> None:
    assert {f"softmax-{kind}-pre" for kind in ("batch", "repbn")} <= {*FOLDABLE}
    assert not {f"softmax-{kind}-post" for kind in ("batch", "repbn")} & {
        name for name in FOLDABLE if set(foldings(CATALOGUE[name])[0]) - {"head"}
    }


@pytest.mark.parametrize("name", FOLDABLE)
@torch.no_grad()
def test_the_function_is_the_same(name: str) -> None:
    """In float64; what is folded is gone, what is named as staying is still there, and nothing else is."""
    model = random_model(CATALOGUE[name])
    model = replace(model, weights={n: w.double() for n, w in model.weights.items()})
    folded, x = apply(FoldNorms(), model), exactly(images(model.architecture))
    found, kept = foldings(model.architecture)

    def run(one: Model) -> torch.Tensor:
        network = one.network().double()
        network.load_state_dict(dict(one.weights))
        given: torch.Tensor = network(x)
        return given

    expected = run(model)
    torch.testing.assert_close(run(folded), expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
    assert len(left(model.architecture)) == len(found) + len(kept)
    assert len(left(folded.architecture)) == len(kept)
    assert folded.history[-1].arguments == {"folded": list(found)}
    with pytest.raises(BadOption, match="no batch norm to fold"):
        FoldNorms()(folded)


def test_what_stays_says_why() -> None:
    plain = of_digits()
    a = normed(plain, BatchNorm())
    pooled = a.with_blocks(lambda name, block: block.model_copy(update={"mixer": Pool()}) if name == "s0.b0" else block)
    folded, kept = foldings(pooled)
    assert folded == ("s0.b1.mixer", "s0.b1.ffn", "head")
    assert kept == {
        "s0.b0.mixer": "has no linear maps right behind it",
        "s0.b0.ffn": "stays like that of s0.b0.mixer",
    }
    rounded = with_precisions(a, {group: "w1" for group, options in allowed(a).items() if "w1" in options})
    assert set(foldings(rounded)[1].values()) >= {"is read by weights of one or two bits"}
    with pytest.raises(BadOption, match=r"no batch norm to fold; `wb convert --norm repbn` gives it some"):
        FoldNorms()(random_model(plain))


def test_the_command_leaves_a_model_and_its_graph(tmp_path: Path) -> None:
    given, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save(random_model(normed(of_digits(depth=1), RepNorm())), given)
    said = succeeded("fold", "norms", given, "-o", out, "--json").stdout
    content = json.loads(said)
    assert content["folded"] == ["s0.b0.mixer", "s0.b0.ffn", "head"]
    assert content["difference"]["value"] < 1e-4
    before, after = (one["value"] for one in content["parameters"])
    assert before - after == 3 * (4 * 16 + 1)
    assert {path.name for path in tmp_path.iterdir()} == {"a.safetensors", "b.safetensors", "b.onnx"}
    assert not left(load(out).architecture)
    again = api.fold_norms(given, out, force=True)
    assert again.model.fingerprint() == load(out).fingerprint()
    refused = wb("fold", "norms", out, "-o", tmp_path / "c.safetensors")
    assert refused.exit_code == 2
    assert "no batch norm to fold" in " ".join(refused.stderr.split())
    onto = wb("fold", "norms", given, "-o", given, "--force")
    assert "is the model that is given; choose another name" in " ".join(onto.stderr.split())
    assert "exists already" in " ".join(wb("fold", "norms", given, "-o", out).stderr.split())
    assert (
        "3 norms folded: s0.b0.mixer, s0.b0.ffn, head" in succeeded("fold", "norms", given, "-o", out, "--force").stdout
    )
