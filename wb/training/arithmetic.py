"""The number format and the memory layout of a training step: those with which convolutions are fastest; and who multiplies.

Weights, gradients and the optimizer stay in float32. Measured on networks of dense convolutions, one thread of a processor with
bf16 instructions: channels last take 0.65 of the time, bf16 with it 0.4. Attention gains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import Tensor

from wb.training.recipes.recipe import Recipe

MATMUL = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # an object takes the module's place
LEAVE = "bf16"  # of `fp32_precision`
ROUNDING = 1e-5  # of float32, relative to the largest number of a product; bf16 leaves 1e-2


def has_bf16(device: str) -> bool:
    """Whether a kind of device computes products in bf16; a processor that only emulates it is slower than in float32."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    known = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return device == "cpu" and any(bool(supported()) for supported in known if supported is not None)


def computed(network: Callable[[Tensor], Tensor], images: Tensor, recipe: Recipe) -> Tensor:
    """The outputs of a network in training, as the recipe computes: (B, channels, height, width) -> (B, classes) in float32."""
    if not recipe.bf16:
        return network(images)
    laid = images.contiguous(memory_format=torch.channels_last) if images.dim() == 4 else images
    with torch.autocast(images.device.type, torch.bfloat16):
        return network(laid).float()


@contextmanager
def quick_products() -> Iterator[None]:
    """Products of matrices in float32 are oneDNN's meanwhile, not MKL's, on processors where both give the same.

    MKL keeps to AVX2 on AMD's: one core with AVX-512 took 0.57 of the time for blocks of ViT-Base, 0.57 to 0.78 for those of
    width 64, and 0.68 for a step of training such a transformer (measured). Sums are taken in another order, so that weights
    differ in their last digits from those of other processors. torch has no other switch for it than leave to round to bf16, of
    which oneDNN makes use where that is faster, on processors with AMX. `_alike` finds out; there products stay MKL's.
    """
    before = MATMUL.fp32_precision
    if _alike():
        MATMUL.fp32_precision = LEAVE
    try:
        yield
    finally:
        MATMUL.fp32_precision = before


@cache
def _alike() -> bool:
    """Whether products with leave to round to bf16 are those of float32 nevertheless, up to the order of sums."""
    if not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(512, 512, generator=generator) for _ in range(2))
    before, exact = MATMUL.fp32_precision, a @ b
    try:
        MATMUL.fp32_precision = LEAVE
        found = a @ b
    finally:
        MATMUL.fp32_precision = before
    return bool((found - exact).abs().max() <= ROUNDING * exact.abs().max())
