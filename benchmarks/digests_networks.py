"""The networks of `digests.py`: architectures as JSON in the form of version 0.1, which later versions still read."""

from __future__ import annotations

import copy
from typing import Any

Json = dict[str, Any]

WIDTHS = {"heads": 2, "qk": 4, "v": 6}
MIXERS: dict[str, Json] = {
    "softmax": {"kind": "softmax", **WIDTHS},
    "softmax scaled": {"kind": "softmax", **WIDTHS, "scale": 0.3},
    "sla": {"kind": "sla", **WIDTHS, "kernel": 3},
    "cosformer": {"kind": "cosformer", **WIDTHS},
    "pool": {"kind": "pool", "kernel": 3},
    "lmu": {"kind": "lmu", "memory": 6, "hidden": 10},
    "lmu forward": {"kind": "lmu", "memory": 6, "hidden": 10, "bidirectional": False},
    "hash": {"kind": "hash", **WIDTHS, "bits": 8, "anchors": 9},
    "hash official": {"kind": "hash", **WIDTHS, "bits": 8, "anchors": 9, "form": "official"},
}
PATCH: Json = {"kind": "patch", "patch": 2}
CONV: Json = {"kind": "conv", "patch": 2, "width": 4}


def network(*mixers: str, precision: str = "fp32", kept: str = "fp32", stem: Json = PATCH, **fields: Any) -> Json:
    """An architecture as JSON: a block per mixer, in two stages with "stages"; linear maps in `precision`, others in `kept`."""
    linear = {} if precision == "fp32" else {"reads": precision, "writes": precision}
    blocks: list[Json] = []
    for name in mixers:
        mixer = copy.deepcopy(MIXERS.get(name))
        if mixer is not None and name != "pool":
            mixer |= linear
        blocks.append({"mixer": mixer, "ffn": {"kind": "mlp", "mlp": 20, **linear}})
    blocks[-1]["ffn"] = blocks[-1]["ffn"] if len(blocks) == 1 else None  # the last of several is a mixer alone
    half = len(blocks) // 2 if fields.pop("stages", 1) == 2 else len(blocks)
    stages: list[Json] = [{"embed": 16, "blocks": blocks[:half]}]
    if half < len(blocks):
        stages.append({"embed": 24, "blocks": blocks[half:], "merge": kept})
    image = {"channels": 1, "height": 8, "width": 8, "mean": [0.3], "std": [0.4]}
    content: Json = {"input": image, "stem": stem | {"precision": kept}, "stages": stages, "classes": 10}
    return content | ({} if precision == "fp32" else {"head": precision}) | fields


NETWORKS: dict[str, Json] = {
    **{name: network(name) for name in MIXERS},
    "no mixer": network("none", "softmax"),
    "conv stem": network("sla", "lmu", stem=CONV),
    "class token": network("softmax", "cosformer", pool="cls"),
    "post-norm": network("softmax", "lmu", norm="post", norm_eps=1e-5),
    "post-norm, class token": network("softmax", "hash", norm="post", pool="cls"),
    "two stages": network("sla", "pool", "softmax", "cosformer", stem=CONV, stages=2),
    "two stages, post-norm": network("softmax", "none", "lmu", "softmax", norm="post", stages=2),
    "int8": network("softmax", "sla", "lmu", "cosformer", precision="int8"),
    "int8, convolutions": network("softmax", "pool", "softmax", precision="int8", kept="int8", stem=CONV, stages=2),
    "int8, patches": network("softmax", kept="int8", pool="cls"),
    **{p: network("softmax", "sla", "lmu", "cosformer", precision=p) for p in ("int4", "w1", "w2")},
    "w2, hash": network("hash", "softmax", precision="w2", norm="post"),
}

# What the jobs start from.
PARENT = network("softmax", "softmax", "softmax", stem=CONV)
