from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact
from wb.core.layout import Layout
from wb.core.records import ImageInput
from wb.core.space import random_choices
from wb.data import Dataset
from wb.models.network import NO_DROPOUT, Dropout, skeleton
from wb.search.supernet import Supernet, sandwich, train_supernet
from wb.spaces.columnar.options import options_with
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit
from wb.spaces.operators import OFFERED
from wb.training.fit import Batch, Recipe


def named(name: str) -> Callable[[str], str]:
    """A message that says which weight it is about."""
    return lambda message: f"{name}: {message}"


@pytest.fixture
def space(image: ImageInput) -> Vit:
    return Vit(options_with(TINY, {"embed": [8, 16], "depth": [1, 2], "stem_width": [4, 8]}), image, 3)


def test_mixers_share_what_has_the_same_name(space: Vit) -> None:
    """One store; the three attention variants have one set of projections."""
    names = Supernet.fresh(space, 0).weights
    assert sum(name.startswith("stages.0.0.mixer.wq") for name in names) == 1
    softmax, sla = (Supernet.fresh(space, 0).views(space.largest(kind)) for kind in ("softmax", "sla"))
    assert {name for name in sla if "mixer" in name} > {name for name in softmax if "mixer" in name}
    store = Supernet.fresh(space, 0)
    a, b = store.views(space.largest("softmax")), store.views(space.largest("cosformer"))
    assert a["stages.0.1.mixer.wo"].data_ptr() == b["stages.0.1.mixer.wo"].data_ptr()


def test_parameters_of_one_name_on_other_axes_are_apart(image: ImageInput, stripes: Dataset) -> None:
    """All mixers in one supernet: what two of them call `wu`, or `out`, need not be the same."""
    mixers = [kind for kind, mixer in OFFERED.items() if mixer.lacks(Layout((4, 4))) is None]
    sizes = {"embed": [8, 16], "depth": [1], "hidden": [3, 5], "inner": [4, 24], "memory": [4]}
    space = Vit(options_with(TINY, {"mixer": mixers, **sizes}), image, 3)
    supernet, x = Supernet.fresh(space, 0), torch.rand(2, 1, 8, 8)
    assert len(mixers) > 20
    assert supernet.weights["stages.0.0.mixer.wu"].shape == (1, 16)
    assert supernet.weights["stages.0.0.mixer.wu+1"].shape == (24, 16)
    for kind in mixers:
        a = space.largest(kind)
        assert supernet.run(a, x).shape == (2, 3)
        if not skeleton(a).statistics():  # which are those of the batch while a supernet runs
            torch.testing.assert_close(
                supernet.extract(a, stripes.train).network()(x), supernet.run(a, x), msg=named(kind)
            )


def test_a_supernet_of_an_earlier_version_is_read(image: ImageInput, tmp_path: Path) -> None:
    """It kept parameters of one name and shape as one, on whatever axes."""
    space = Vit(options_with(TINY, {"mixer": ["window", "relative"]}), image, 3)
    supernet = Supernet.fresh(space, 0)
    apart = {name for name in supernet.weights if "+" in name}
    assert apart
    Supernet(space, {name: w for name, w in supernet.weights.items() if name not in apart}).save(tmp_path / "s")
    found = Supernet.load(tmp_path / "s", space)
    for name in supernet.weights:
        torch.testing.assert_close(found.weights[name], supernet.weights[name.partition("+")[0]])


def test_an_extracted_network_computes_what_the_sub_network_does(space: Vit, stripes: Dataset) -> None:
    supernet, rng = Supernet.fresh(space, 0), random.Random(0)
    x = torch.rand(4, 1, 8, 8)
    for _ in range(20):
        a = space.decode(random_choices(space, rng))
        torch.testing.assert_close(supernet.extract(a, stripes.train).network()(x), supernet.run(a, x))


def test_only_the_largest_network_is_trained_with_dropout(space: Vit, stripes: Dataset) -> None:
    supernet, seen = Supernet.fresh(space, 0), list[tuple[Architecture, float]]()
    run = supernet.run

    def watched(a: Architecture, images: Tensor, dropout: Dropout = NO_DROPOUT) -> Tensor:
        seen.append((a, dropout.head))
        return run(a, images, dropout)

    supernet.run = watched  # type: ignore[method-assign, assignment]
    x, labels = torch.from_numpy(stripes.train.pixels()[:4]), torch.from_numpy(stripes.train.labels[:4])
    sandwich(supernet, Recipe(head_dropout=0.5), 0, 0.0)(Batch(x, labels, 0, 1))
    assert [share for _, share in seen] == [0.5, *[0.0] * (len(seen) - 1)]
    assert seen[0][0] in space.tops()
    with torch.no_grad():
        a = space.largest()
        assert torch.equal(run(a, x), run(a, x))
        assert not torch.equal(run(a, x), run(a, x, Dropout(head=0.5)))


@pytest.mark.parametrize("changes", [{"stem": ["conv", "patch"]}, {"mixer": ["softmax", "pool"]}, {"mixer": ["none"]}])
def test_the_store_has_every_option_of_every_gene(image: ImageInput, changes: dict[str, list[str]]) -> None:
    space = Vit(options_with(TINY, {"embed": [8, 16], "depth": [1, 2], **changes}), image, 3)
    supernet, rng = Supernet.fresh(space, 0), random.Random(0)
    x = torch.rand(2, 1, 8, 8)
    for name, options in space.genes.items():
        for option in options:
            a = space.decode({**random_choices(space, rng), name: option})
            assert supernet.run(a, x).shape == (2, 3)


def test_extraction_is_a_copy(space: Vit, stripes: Dataset) -> None:
    supernet = Supernet.fresh(space, 0)
    model = supernet.extract(space.largest(), stripes.train)
    before = model.weights["head"].clone()
    with torch.no_grad():
        supernet.weights["head"].add_(1)
    assert torch.equal(model.weights["head"], before)


def test_a_checkpoint_of_other_data_is_refused(space: Vit, stripes: Dataset, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    train_supernet(space, stripes, Recipe(epochs=1), seed=1, checkpoint=checkpoint)
    with pytest.raises(BadArtefact, match="belongs to a run with other settings"):
        train_supernet(space, replace(stripes, fingerprint="1"), Recipe(epochs=1), seed=1, checkpoint=checkpoint)


def test_training_teaches_the_largest_and_the_smallest(space: Vit, stripes: Dataset) -> None:
    supernet = train_supernet(space, stripes, Recipe(epochs=12), seed=0)
    pixels, labels = torch.from_numpy(stripes.test.pixels()), torch.from_numpy(stripes.test.labels)
    for a, least in ((space.largest("softmax"), 0.8), (space.largest("lmu"), 0.8), (space.smallest(), 0.6)):
        right = (supernet.run(a, pixels).argmax(1) == labels).float().mean().item()
        assert right > least, a.to_json()  # by chance 0.33


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(
    space: Vit, stripes: Dataset, tmp_path: Path
) -> None:
    recipe, checkpoint = Recipe(epochs=4), tmp_path / "checkpoint.pt"
    whole = train_supernet(space, stripes, recipe, seed=1)

    class Killed(Exception):
        pass

    def kill(epoch: int, epochs: int, loss: float) -> None:
        if epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        train_supernet(space, stripes, recipe, seed=1, checkpoint=checkpoint, report=kill)
    resumed = train_supernet(space, stripes, recipe, seed=1, checkpoint=checkpoint)
    for name, weight in whole.weights.items():
        torch.testing.assert_close(resumed.weights[name], weight, msg=named(name))


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_refused(
    space: Vit, stripes: Dataset, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint.pt"
    train_supernet(space, stripes, Recipe(epochs=1), seed=1, checkpoint=checkpoint)
    with pytest.raises(BadArtefact, match="belongs to a run with other settings"):
        train_supernet(space, stripes, Recipe(epochs=2), seed=1, checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(BadArtefact, match=r"is damaged .* delete it to train from the start"):
        train_supernet(space, stripes, Recipe(epochs=1), seed=1, checkpoint=checkpoint)


def test_the_file_gives_the_weights_back_and_knows_its_space(space: Vit, image: ImageInput, tmp_path: Path) -> None:
    path = tmp_path / "supernet.safetensors"
    supernet = Supernet.fresh(space, 3)
    supernet.save(path)
    again = Supernet.load(path, space)
    assert all(torch.equal(again.weights[name], weight) for name, weight in supernet.weights.items())
    with pytest.raises(BadArtefact, match="does not belong to this space"):
        Supernet.load(path, Vit(TINY, image, 3))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BadArtefact, match=r"is damaged .* the supernet is then trained again"):
        Supernet.load(path, space)


@pytest.mark.parametrize("damage", ["int32", "float16", "nan", "cut", "flipped header", "pipe", "folder"])
def test_a_damaged_file_is_named(space: Vit, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "supernet.safetensors"
    weights = {name: weight.detach() for name, weight in Supernet.fresh(space, 3).weights.items()}
    if damage in ("int32", "float16"):
        weights["head"] = weights["head"].to(getattr(torch, damage))
    elif damage == "nan":
        weights["head"] = weights["head"] * torch.nan
    save_file(weights, path)
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped header":
        path.write_bytes(bytes([content[0], 0xFF]) + content[2:])
    elif damage in ("pipe", "folder"):
        path.unlink()
        os.mkfifo(path) if damage == "pipe" else path.mkdir()
    with pytest.raises(BadArtefact, match=r"delete it and resume"):
        Supernet.load(path, space)
