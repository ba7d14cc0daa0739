"""Path ensembles against the sum of recorded paths; with factors one they are pre-norm; what is cut, kept and renamed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.networks import assembled, images, random_model
from wb.core.architecture import Architecture, Block, Stage
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax
from wb.core.records.wirings import Ensemble, Pre
from wb.models.model import Model, compacted

MIXER, FFN = Softmax(heads=2, qk=3, v=2), Mlp(mlp=5)
BLOCKS = (Block(mixer=MIXER, ffn=FFN), Block(), Block(ffn=FFN), Block(mixer=MIXER, ffn=FFN))
PATHS = (0, 1, 2, 6, 7, 8)


def wired(image: ImageInput, cut: int = 0) -> Architecture:
    stage = Stage(embed=6, blocks=BLOCKS)
    a = assembled(input=image, stem=PatchStem(patch=2), stages=(stage,))
    return a.model_copy(update={"stages": (stage.model_copy(update={"wiring": Ensemble(cut=cut)}),)})


@torch.no_grad()
def by_formula(model: Model, x: Tensor) -> Tensor:
    """x_0 and what every sub-layer adds, each times its factor, but for those that are cut."""
    network = model.network()
    stream = network.tokens(x)
    paths = {0: stream}
    for at in network.walk():
        paths[2 * at.block + (1 if at.kind == "mixer" else 2)] = given = at.operator(at.norm(stream))
        stream = stream + given
    assert tuple(paths) == PATHS
    wiring = model.architecture.stages[0].wiring
    assert isinstance(wiring, Ensemble)
    factors = {path: model.weights.get(f"wirings.0.path{path}") for path in paths}
    left = [paths[path] * factor for path, factor in factors.items() if factor is not None]
    assert len(left) == sum(path >= wiring.cut for path in paths)
    return network.answered(torch.stack(left).sum(dim=0))


@pytest.mark.parametrize("cut", [0, 1, 3, 7])
def test_what_leaves_is_the_weighted_sum_of_the_recorded_paths(image: ImageInput, cut: int) -> None:
    model = random_model(wired(image, cut))
    x = images(model.architecture)
    torch.testing.assert_close(model.network()(x), by_formula(model, x))


def test_with_all_factors_one_it_is_pre_norm(image: ImageInput) -> None:
    model = random_model(wired(image))
    ones = {n: torch.ones(()) if n.startswith("wirings.") else w for n, w in model.weights.items()}
    stage = model.architecture.stages[0].model_copy(update={"wiring": Pre()})
    plain = model.architecture.model_copy(update={"stages": (stage,)})
    x = images(plain)
    expected = Model(plain, {n: w for n, w in ones.items() if not n.startswith("wirings.")}).network()(x)
    torch.testing.assert_close(Model(model.architecture, ones).network()(x), expected)


@pytest.mark.parametrize(("cut", "left"), [(0, 0), (1, 1), (2, 2), (3, 3), (5, 3), (6, 4), (7, 5), (8, 6)])
def test_without_blocks_that_are_off_the_same_paths_are_cut(image: ImageInput, cut: int, left: int) -> None:
    model = random_model(wired(image, cut))
    small = compacted(model)
    small.check()
    wiring = small.architecture.stages[0].wiring
    assert isinstance(wiring, Ensemble)
    assert wiring.cut == left
    x = images(model.architecture)
    assert torch.equal(small.network()(x), model.network()(x))


def test_without_any_path_it_is_refused(image: ImageInput) -> None:
    with pytest.raises(
        ValueError, match=r"stage 0 leaves out all of its paths, the last of which is 8; .*give cut=8 or less"
    ):
        Architecture.model_validate(wired(image, 9).model_dump())
