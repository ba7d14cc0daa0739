"""Energy model: arithmetic operations times the published energy of each. A model, not a measurement.

Source: Horowitz, "Computing's Energy Problem (and What We Can Do about It)", ISSCC 2014, figure 1.1.9: picojoules of an
operation in a 45 nm process at 0.9 V. Liu et al., "EcoFormer", 2022, count with the same two numbers for fp32.
Limits: arithmetic only. Memory traffic is ignored, although it takes more energy in most machines (same source: 20 pJ for 64 bits
of a small cache, 1300 and more of DRAM). So are norms, softmax, biases, and the scales of quantized weights and of their inputs.
Zeros of ternary weights count like other weights, because the count depends on the architecture only.
"""

from __future__ import annotations

from typing import NamedTuple

from wb.core.records import Precision

NOTE = "a model: arithmetic operations times their energy at 45 nm (Horowitz 2014), without memory"


class Energy(NamedTuple):
    """Picojoules of one multiplication and of one addition."""

    multiply: float
    add: float


FP32 = Energy(3.7, 0.9)
INT8 = Energy(0.2, 0.03)
INT32 = Energy(3.1, 0.1)


def of_multiply_accumulate(precision: Precision) -> float:
    """Picojoules of one multiply-accumulate with a weight in `precision`.

    int8 takes an 8-bit product and a 32-bit addition. int4 weights are expanded and multiplied in floating point, as in fp32.
    w1 and w2 weights are plus or minus one, or zero, before scaling, so only a floating-point addition remains.
    """
    match precision:
        case "w1" | "w2":
            return FP32.add
        case "int8":
            return INT8.multiply + INT32.add
        case "int4" | "fp32":
            return FP32.multiply + FP32.add


def picojoules(macs: float, precision: Precision = "fp32", additions: float = 0.0) -> float:
    """Picojoules of `macs` multiply-accumulates with weights in `precision`; `additions` of them are plain additions."""
    return (macs - additions) * of_multiply_accumulate(precision) + additions * FP32.add
