"""The peers of `benchmarks/quantization.py`: quantizers by their own functions, and a stock network for them.

Each takes the file of a float graph and writes another. `Calibration` are images as the graph takes them, float32
(n, channels, height, width).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch_pruning_vit import PlainAttention, PlainViT

Calibration = NDArray[np.float32]
Peer = Callable[[Path, Path, Calibration], None]
INPUT = "pixel_values"
LINEAR = ["MatMul", "Gemm", "Conv"]


class OneProduct(nn.Module):
    """Softmax attention with q, k and v in one product, as timm and the published code have it; the weights of another."""

    def __init__(self, attention: PlainAttention) -> None:
        super().__init__()
        parts = (attention.q, attention.k, attention.v)
        self.heads, self.scale, self.out = attention.heads, attention.scale, attention.out
        self.qkv = nn.Linear(parts[0].in_features, 3 * parts[0].out_features)
        with torch.no_grad():
            self.qkv.weight.copy_(torch.cat([part.weight for part in parts]))
            self.qkv.bias.copy_(torch.cat([part.bias for part in parts]))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        tokens, wide = int(x.shape[1]), self.out.in_features
        q, k, v = self.qkv(x).reshape(-1, tokens, 3, self.heads, wide // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = ((q * self.scale) @ k.transpose(-1, -2)).softmax(dim=-1) @ v
        return self.out(y.transpose(1, 2).reshape(-1, tokens, wide))


def stock(plain: PlainViT) -> PlainViT:
    """A copy with q, k and v of every block in one product."""
    twin = copy.deepcopy(plain)
    for block in twin.blocks:
        block.attention = OneProduct(block.attention)
    return twin


def dynamic(**options: Any) -> Peer:
    """ONNX Runtime's dynamic quantization."""

    def make(source: Path, path: Path, images: Calibration) -> None:
        from onnxruntime.quantization import quantize_dynamic

        quantize_dynamic(source, path, **options)

    return make


def static(**options: Any) -> Peer:
    """ONNX Runtime's static quantization to QDQ, activations in 8 bits without sign, weights with, per channel."""

    def make(source: Path, path: Path, images: Calibration) -> None:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.calibrate import CalibrationDataReader

        class Reader(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                self.left = iter(images)

            def get_next(self) -> Mapping[str, Calibration] | None:
                image = next(self.left, None)
                return None if image is None else {INPUT: image[None]}

        quantize_static(
            source,
            path,
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            **options,
        )

    return make


def nncf(source: Path, path: Path, images: Calibration) -> None:
    """NNCF's post-training quantization for transformers."""
    import nncf as library

    calibration = library.Dataset([{INPUT: image[None]} for image in images])
    quantized = library.quantize(
        onnx.load(source), calibration, model_type=library.ModelType.TRANSFORMER, subset_size=len(images)
    )
    onnx.save(quantized, path)


def nbits(bits: int) -> Peer:
    """ONNX Runtime's weights of `bits` bits in blocks of 32, products in floating point."""

    def make(source: Path, path: Path, images: Calibration) -> None:
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

        quantizer = MatMulNBitsQuantizer(onnx.load(source), bits=bits, block_size=32, is_symmetric=True)
        quantizer.process()
        onnx.save(quantizer.model.model, path)

    return make


def prepare(source: Path, path: Path) -> None:
    """ONNX Runtime's recommended pre-processing for its quantizers."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(source, path)
