"""The frequencies of rotary positions, as configurations of transformers say them.

Source: transformers, `modeling_rope_utils.py`; Grattafiori et al., "The Llama 3 Herd of Models", 2024 (llama3); Peng et al.,
"YaRN: Efficient Context Window Extension of Large Language Models", 2023, https://arxiv.org/abs/2309.00071 (yarn).
Differs: what YaRN multiplies cosines and sines by is squared and goes into the scale of the scores.
Limits: frequencies that follow the length of the text that is being run (dynamic, longrope) are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wb.core.errors import BadArtefact, Unsupported, printable

BASE = 10_000.0  # where nothing says another
DEFAULT = "default"
NEW, OLD, THETA = "rope_parameters", "rope_scaling", "rope_theta"  # of transformers 5, and of 4


class Rope(NamedTuple):
    """The base, the frequency of every plane (K,), float32, and what cosines and sines are multiplied by."""

    base: float
    frequencies: Tensor
    sharpness: float = 1.0


def rope_of(config: Mapping[str, Any], planes: int, longest: int) -> Rope:
    """The frequencies that a config.json says for heads of so many planes; of version 5 before those of 4.

    Raises:
        BadArtefact: its numbers are none.
        Unsupported: a scaling that is not known, or follows the length.
    """
    given = config.get(NEW, config.get(OLD)) or {}
    if not isinstance(given, dict) or any(isinstance(value, dict) for value in given.values()):
        raise Unsupported(f"config.json has rotary positions that differ from layer to layer: {_shown(given)}")
    kind = given.get("rope_type", given.get("type", DEFAULT))
    base = _number({THETA: config.get(THETA, BASE), **given}, THETA, least=1.0)
    if (part := given.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))) != 1.0:
        raise Unsupported(f"config.json turns only {_shown(part)} of the channels of a head; networks of wb turn all")
    if not isinstance(kind, str) or kind not in SCALINGS:
        raise Unsupported(
            f"config.json has rotary positions of type {_shown(kind)}; known are {', '.join(SCALINGS)}; others follow the "
            "length of the text, or are not known"
        )
    plain = 1.0 / (base ** (torch.arange(0, 2 * planes, 2, dtype=torch.float32) / (2 * planes)))
    frequencies, sharpness = SCALINGS[kind](given, plain, base, longest)
    return Rope(base, frequencies, sharpness)


def rope_settings(config: Mapping[str, Any], base: float) -> dict[str, Any]:
    """The keys of a config.json that say the frequencies, for both versions; scalings as `config` has them.

    Version 4 does not look at those of 5, and would take 10000 for the base.
    """
    given = {**(config.get(NEW, config.get(OLD)) or {})}
    kind = given.pop("rope_type", given.pop("type", DEFAULT))
    scaling = None if kind == DEFAULT else {**given, "rope_type": kind}
    return {THETA: base, OLD: scaling, NEW: {**given, "rope_type": kind, THETA: base}}


def _plain(given: Mapping[str, Any], plain: Tensor, base: float, longest: int) -> tuple[Tensor, float]:
    return plain, 1.0


def _linear(given: Mapping[str, Any], plain: Tensor, base: float, longest: int) -> tuple[Tensor, float]:
    return plain / _number(given, "factor"), 1.0


def _llama3(given: Mapping[str, Any], plain: Tensor, base: float, longest: int) -> tuple[Tensor, float]:
    """Slow planes slower by a factor, fast ones as they are, and a mixture of both between."""
    factor, low, high = (_number(given, key) for key in ("factor", "low_freq_factor", "high_freq_factor"))
    before = _number({"original_max_position_embeddings": longest, **given}, "original_max_position_embeddings")
    if not low < high:
        raise BadArtefact(
            f"config.json has low_freq_factor={low:g} and high_freq_factor={high:g}; expected less than it"
        )
    wavelengths = 2 * math.pi / plain
    slow, fast = wavelengths > before / low, wavelengths < before / high
    share = (before / wavelengths - low) / (high - low)
    mixed = (1 - share) * plain / factor + share * plain
    return torch.where(slow, plain / factor, torch.where(fast, plain, mixed)), 1.0


def _yarn(given: Mapping[str, Any], plain: Tensor, base: float, longest: int) -> tuple[Tensor, float]:
    """Planes that turn less than `beta_slow` times in the trained length slower by a factor, and scores sharper."""
    factor = _number(given, "factor")
    before = _number({"original_max_position_embeddings": longest, **given}, "original_max_position_embeddings")
    channels = 2 * len(plain)

    def plane(turns: float) -> float:
        """The plane that turns so many times in the length before."""
        return channels * math.log(before / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = plane(_number({"beta_fast": 32, **given}, "beta_fast"))
    high = plane(_number({"beta_slow": 1, **given}, "beta_slow"))
    if given.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, channels - 1)
    ramp = (torch.arange(len(plain), dtype=torch.float32) - low) / ((high - low) or 0.001)
    kept = 1 - ramp.clamp(0, 1)
    return plain / factor * (1 - kept) + plain * kept, _sharpness(given, factor)


def _sharpness(given: Mapping[str, Any], factor: float) -> float:
    """What YaRN multiplies cosines and sines by."""
    if given.get("attention_factor") is not None:
        return _number(given, "attention_factor")

    def grown(by: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * by * math.log(factor) + 1.0

    if given.get("mscale") and given.get("mscale_all_dim"):
        return grown(_number(given, "mscale")) / grown(_number(given, "mscale_all_dim"))
    return grown(1.0)


Scaling = Callable[[Mapping[str, Any], Tensor, float, int], tuple[Tensor, float]]
SCALINGS: Mapping[str, Scaling] = {DEFAULT: _plain, "linear": _linear, "llama3": _llama3, "yarn": _yarn}


def _number(given: Mapping[str, Any], key: str, least: float = 0.0) -> float:
    """A number above `least`. Raises `BadArtefact` for anything else."""
    found = given.get(key)
    if isinstance(found, bool) or not isinstance(found, int | float) or not least < found <= 1e12:
        raise BadArtefact(
            f"config.json has {key}={_shown(found)} for rotary positions; expected a number above {least:g}"
        )
    return float(found)


def _shown(value: object) -> str:
    return printable(repr(value)[:200], 60)
