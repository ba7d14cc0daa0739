from __future__ import annotations

import torch

from wb.core.architecture import Architecture, Block, ImageInput, Stage
from wb.core.records import ConvStem, Mlp, PatchStem, Softmax
from wb.models.counting import count_macs, count_parameters
from wb.models.network import build


def test_macs_are_those_of_the_formula(image: ImageInput) -> None:
    n, d, h, k, v, m, classes = 16, 12, 3, 4, 5, 20, 10
    block = Block(mixer=Softmax(heads=h, qk=k, v=v), ffn=Mlp(mlp=m))
    a = Architecture(
        input=image, stem=PatchStem(patch=2), stages=(Stage(embed=d, blocks=(block, Block())),), classes=classes
    )
    stem = n * 4 * d
    mixer = n * d * h * (2 * k + 2 * v) + h * n * n * (k + v)
    assert count_macs(a).value == stem + mixer + 2 * n * d * m + d * classes


def test_parameters_are_those_of_the_network(image: ImageInput) -> None:
    a = Architecture(input=image, stem=ConvStem(patch=4, width=6), stages=(Stage(embed=8, blocks=()),), classes=3)
    assert count_parameters(a).value == sum(weight.numel() for weight in build(a).parameters())
    post = a.model_copy(update={"norm": "post"})
    assert count_parameters(a).value - count_parameters(post).value == 2 * 8, "the last norm"
    assert count_macs(a).value == count_macs(post).value
    assert build(a, "meta").head.device == torch.device("meta")
