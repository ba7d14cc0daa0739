"""Parts of convolutions compute what torch's own layers do, in training, with found statistics, and folded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.networks import of_channels
from wb.core.layout import Layout
from wb.core.records.ffns import Fused
from wb.core.records.merges import Conv3x3, Dw3
from wb.core.records.mixers import Depthwise
from wb.core.records.norms import BatchNorm
from wb.core.records.stems import MobileStem
from wb.models.ffns.fused import Fused as FusedModule
from wb.models.groups import settle
from wb.models.layers.convolution import BatchNormed
from wb.models.merges.conv3 import Conv3x3 as Conv3x3Module
from wb.models.merges.dw3 import Dw3 as Dw3Module
from wb.models.mixers.maps.depthwise import Depthwise as DepthwiseModule
from wb.models.norms.batch import BatchNorm as BatchNormModule
from wb.models.stems.mobile import MobileStem as MobileStemModule

LAYOUT = Layout((6, 8), plane="map")


def filled(module: Any) -> Any:
    """Random weights and statistics, variances positive."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.normal_(0, 0.5, generator=generator)
            if name.endswith("variance"):
                weight.abs_().add_(0.2)
    return module.double()


def image(channels: int = 4) -> Tensor:
    return torch.randn(5, channels, 6, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def norm(module: nn.Module, name: str, y: Tensor, eps: float = 1e-5) -> Tensor:
    """Torch's batch norm with the parameters of the norm called `name`."""
    gain, shift, mean, variance = (
        module.get_parameter(f"{name}_{what}" if name else what) for what in ("gain", "shift", "mean", "variance")
    )
    return (
        F.batch_norm(y, mean.detach(), variance.detach(), gain, shift, training=False, eps=eps)
        if not (module.training)
        else F.batch_norm(y, None, None, gain, shift, training=True, eps=eps)
    )


def depthwise(m: Any, x: Tensor) -> Tensor:
    return norm(m, "filters", F.conv2d(x, m.filters, padding=m.filters.shape[-1] // 2, groups=4)) + norm(m, "point", x)


def fused(m: Any, x: Tensor) -> Tensor:
    y = norm(m, "fused", F.conv2d(x, m.fused, padding=1)).relu()
    return norm(m, "down", F.conv2d(y, m.down[:, :, None, None]))


def dw3(m: Any, x: Tensor) -> Tensor:
    y = norm(m, "filters", F.conv2d(x, m.filters, stride=2, padding=1, groups=4))
    return norm(m, "point", F.conv2d(y, m.point))


def conv3(m: Any, x: Tensor) -> Tensor:
    return norm(m, "conv", F.conv2d(x, m.conv, stride=2, padding=1))


def mobile(m: Any, x: Tensor) -> Tensor:
    y = norm(m, "conv", F.conv2d(x, m.conv, stride=2, padding=1)).relu()
    y = norm(m, "filters0", F.conv2d(y, m.filters0, stride=2, padding=1, groups=5))
    return norm(m, "point", F.conv2d(y, m.point))


CASES: dict[str, tuple[Callable[[], Any], Callable[[Any, Tensor], Tensor]]] = {
    "depthwise": (lambda: DepthwiseModule(Depthwise(kernel=5), 4, LAYOUT), depthwise),
    "fused": (lambda: FusedModule(Fused(mlp=7), 4, LAYOUT), fused),
    "dw3": (lambda: Dw3Module(Dw3(), 4, LAYOUT, 6), dw3),
    "conv3": (lambda: Conv3x3Module(Conv3x3(), 4, LAYOUT, 6), conv3),
    "mobile": (lambda: MobileStemModule(MobileStem(patch=4, width=5), of_channels(4), 6), mobile),
    "batch": (lambda: BatchNormModule(BatchNorm(eps=1e-3), 4), lambda m, x: norm(m, "", x, 1e-3)),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_it_computes_what_torch_does(case: str, training: bool) -> None:
    make, oracle = CASES[case]
    module, x = filled(make()).train(training), image()
    torch.testing.assert_close(module(x), oracle(module, x))


@pytest.mark.parametrize("case", CASES)
def test_folding_keeps_the_function(case: str) -> None:
    make, _ = CASES[case]
    module, x = filled(make()).eval(), image()
    expected = module(x).detach()
    settle(module)
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize("case", CASES)
def test_at_first_norms_are_neutral_and_convolutions_are_not_all_the_same(case: str) -> None:
    make, _ = CASES[case]
    module = make()
    module.reset()
    assert isinstance(module, BatchNormed)
    for name, value in module.neutral.items():
        assert bool((module.get_parameter(name) == value).all()), name
    for name, weight in module.named_parameters():
        if name not in module.neutral:
            bound = 1 / weight[0].numel() ** 0.5
            assert 0 < weight.std() <= bound
            assert weight.abs().max() <= bound


@pytest.mark.parametrize("case", ["dw3", "conv3"])
def test_a_merge_takes_tokens_as_well(case: str) -> None:
    make, _ = CASES[case]
    module, x = filled(make()).eval(), image()
    torch.testing.assert_close(module(x.flatten(2).transpose(1, 2)), module(x))


def test_a_batch_of_one_value_becomes_the_shift() -> None:
    module = filled(BatchNormModule(BatchNorm(), 3)).train()
    x = torch.randn(1, 3, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(module(x).flatten(), module.shift)
