"""What a network's arithmetic would take in energy: operations times the published energy of each. A model, not a measurement.

Source: Horowitz, "Computing's Energy Problem (and What We Can Do about It)", ISSCC 2014, figure 1.1.9: picojoules of an
operation in a 45 nm process at 0.9 V. Liu et al., "EcoFormer", 2022, count with the same two numbers for fp32.
Limits: arithmetic only. Reading and writing memory, which takes more in most machines (20 pJ for 64 bits of a small cache, 1300
and more of DRAM, in the same source), is left out; so are norms, softmax, biases, and the scales of quantized weights and of
their inputs. Zeros of ternary weights count like the others, since it is the architecture that is counted.
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
    """Picojoules of one product with a weight in `precision`, and of adding it to the sum.

    In int8, an 8-bit product and a 32-bit addition. Weights in int4 are expanded and multiplied in floating point, as in
    fp32. Those in w1 and w2 are plus or minus one, or zero, before the scale: an addition in floating point is all there is.
    """
    match precision:
        case "w1" | "w2":
            return FP32.add
        case "int8":
            return INT8.multiply + INT32.add
        case "int4" | "fp32":
            return FP32.multiply + FP32.add


def picojoules(macs: float, precision: Precision = "fp32", additions: float = 0.0) -> float:
    """Of `macs` multiply-accumulates with weights in `precision`; `additions` of them need no product."""
    return (macs - additions) * of_multiply_accumulate(precision) + additions * FP32.add
