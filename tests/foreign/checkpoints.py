"""Checkpoints for tests: real ones of small random models, and files of any tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

REFERENCES = Path(__file__).parent / "references"
NAMES = sorted(folder.name for folder in REFERENCES.iterdir())


class Answer(NamedTuple):
    """Images in [0, 1], or ids of tokens, and the logits that the library of a checkpoint gives them."""

    images: Tensor
    logits: Tensor


def answer(name: str) -> Answer:
    """What the library gives for the checkpoint of that name."""
    with np.load(REFERENCES / name / "logits.npz") as found:
        given = torch.from_numpy(found["ids"]) if "ids" in found else torch.from_numpy(found["images"]) / 255
        return Answer(given, torch.from_numpy(found["logits"]))


def tensors(name: str) -> dict[str, Tensor]:
    """The tensors of the checkpoint of that name."""
    return load_file(REFERENCES / name / "model.safetensors")


def config(name: str) -> dict[str, Any]:
    """The config.json of the checkpoint of that name."""
    content: dict[str, Any] = json.loads((REFERENCES / name / "config.json").read_text())
    return content


def written(folder: Path, weights: Mapping[str, Tensor], about: Mapping[str, Any] | None = None) -> Path:
    """A folder with those tensors and, if it is given, that config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(weights), folder / "model.safetensors", metadata={"format": "pt"})
    if about is not None:
        (folder / "config.json").write_text(json.dumps(about))
    return folder


def sharded(folder: Path, weights: Mapping[str, Tensor], about: Mapping[str, Any]) -> Path:
    """The same in two files with an index."""
    names = sorted(weights)
    half = len(names) // 2
    parts = {"model-00001-of-00002.safetensors": names[:half], "model-00002-of-00002.safetensors": names[half:]}
    folder.mkdir(parents=True, exist_ok=True)
    for file, held in parts.items():
        save_file({name: weights[name] for name in held}, folder / file, metadata={"format": "pt"})
    where = {name: file for file, held in parts.items() for name in held}
    index = {"metadata": {"total_size": sum(w.nbytes for w in weights.values())}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    (folder / "config.json").write_text(json.dumps(about))
    return folder


def vit_pytorch(**sizes: int) -> dict[str, Tensor]:
    """A state dict in the layout of vit-pytorch: heads of 64 channels, wider than the stream."""
    embed, mlp, inner = sizes.get("embed", 10), sizes.get("mlp", 7), 64 * sizes.get("heads", 2)
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embedding": (1, 5, embed),
        "cls_token": (1, 1, embed),
        "to_patch_embedding.1.weight": (embed, 4 * 4 * 3),
        "to_patch_embedding.1.bias": (embed,),
        "mlp_head.0.weight": (embed,),
        "mlp_head.0.bias": (embed,),
        "mlp_head.1.weight": (3, embed),
        "mlp_head.1.bias": (3,),
    }
    for j in range(2):
        layer = {
            "0.norm.weight": (embed,), "0.norm.bias": (embed,), "0.fn.to_qkv.weight": (3 * inner, embed),
            "0.fn.to_out.0.weight": (embed, inner), "0.fn.to_out.0.bias": (embed,),
            "1.norm.weight": (embed,), "1.norm.bias": (embed,), "1.fn.net.0.weight": (mlp, embed), "1.fn.net.0.bias": (mlp,),
            "1.fn.net.3.weight": (embed, mlp), "1.fn.net.3.bias": (embed,),
        }  # fmt: skip
        shapes |= {f"transformer.layers.{j}.{name}": shape for name, shape in layer.items()}
    return drawn(shapes)


def kwt() -> dict[str, Tensor]:
    """A state dict of a Keyword Transformer: 6 frames of 9 features, one head of 64 channels."""
    shapes: dict[str, tuple[int, ...]] = {
        "proj.weight": (64, 9), "proj.bias": (64,), "cls_token": (1, 1, 64), "pos_embed": (1, 7, 64),
        "head.weight": (3, 64), "head.bias": (3,),
    }  # fmt: skip
    block = {
        "norm1.weight": (64,), "norm1.bias": (64,), "attn.qkv.weight": (192, 64), "attn.proj.weight": (64, 64),
        "attn.proj.bias": (64,), "norm2.weight": (64,), "norm2.bias": (64,), "mlp.fc1.weight": (11, 64), "mlp.fc1.bias": (11,),
        "mlp.fc2.weight": (64, 11), "mlp.fc2.bias": (64,),
    }  # fmt: skip
    return drawn(shapes | {f"blocks.0.{name}": shape for name, shape in block.items()})


def drawn(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Random tensors of those shapes."""
    source = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=source) * 0.3 for name, shape in shapes.items()}
