"""Networks that look at mirror images too, against the same networks run twice."""

from __future__ import annotations

import torch

from tests.networks import assembled
from wb.core.architecture import Architecture, Block, Stage
from wb.core.records import Hash, ImageInput, Mlp, PatchStem, Softmax
from wb.models.counting import count_macs, count_parameters, operations
from wb.models.model import from_network
from wb.models.network import build
from wb.models.passes.base import apply
from wb.models.passes.mirror import Mirror


def test_it_answers_by_the_mean_of_an_image_and_its_mirror_image(image: ImageInput) -> None:
    plain = build(_network(image)).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain.reset()
        images = torch.rand(3, image.channels, image.height, image.width, dtype=torch.float64)
    twin = apply(Mirror(), from_network(plain.architecture, plain)).network().double()
    twin.load_state_dict(plain.state_dict())  # in double precision
    own, other = plain.eval()(images), plain(images.flip(-1))
    assert not torch.allclose(own, other)
    torch.testing.assert_close(twin(images), (own + other) / 2)
    torch.testing.assert_close(twin(images.flip(-1)), twin(images))


def test_it_takes_twice_the_work_of_everything_but_the_head(image: ImageInput) -> None:
    plain = _network(image)
    twin = plain.model_copy(update={"input": image.model_copy(update={"mirrored": True})})
    head = operations(plain)["head"].macs
    assert count_macs(twin).value == 2 * (count_macs(plain).value - head) + head
    assert sum(part.macs for part in operations(twin).values()) == count_macs(twin).value
    assert count_parameters(twin) == count_parameters(plain)


def test_additions_are_twice_as_many_as_well(image: ImageInput) -> None:
    plain = _network(image).with_blocks(lambda _, block: block.model_copy(update={"mixer": Hash.sample()}))
    twin = plain.model_copy(update={"input": image.model_copy(update={"mirrored": True})})
    found, single = operations(twin), operations(plain)
    assert found["s0.b0.mixer.products"].additions == 2 * single["s0.b0.mixer.products"].additions > 0


def test_files_of_other_networks_do_not_mention_it(image: ImageInput) -> None:
    assert "mirrored" not in _network(image).to_json()


def _network(image: ImageInput) -> Architecture:
    block = Block(mixer=Softmax(heads=2, qk=4, v=4), ffn=Mlp(mlp=9))
    return assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=8, blocks=(block,)),), classes=3)
