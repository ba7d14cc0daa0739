"""The text of `model.py` around what is written of a network."""

from __future__ import annotations

from typing import NamedTuple

from wb.core.architecture import Architecture

SOURCE = '''"""A network of {parameters} parameters: {takes} -> {gives}.

Written by wb {version}; needs PyTorch and nothing else.

    from model import load
    {usage}
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = {classes}  # in the order of the scores, where they have names
CONSTANTS = {constants}  # tensors that are not trained


{functions}


class Network(nn.Module):
    """The network with the given tensors, which are found under their names: `stages.0.0.mixer.wq`."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            *path, last = name.split(".")
            module: nn.Module = self
            for step in path:
                if step not in module._modules:
                    module.add_module(step, nn.Module())
                module = module.get_submodule(step)
            if name in CONSTANTS:
                module.register_buffer(last, tensor)
            else:
                module.register_parameter(last, nn.Parameter(tensor))

    def forward(self, {arguments}) -> Tensor:
        """{does}."""
        at = self.get_submodule
{forward}
'''

ENDING = '''

def read(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file."""
    kinds = {{"F32": torch.float32, "I64": torch.int64, "I32": torch.int32, "BOOL": torch.bool, "F64": torch.float64}}
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    tensors = {{}}
    for name, about in json.loads(content[8:start]).items():
        if name != "__metadata__":
            begin, end = about["data_offsets"]
            tensor = torch.frombuffer(content, dtype=torch.uint8, count=end - begin, offset=start + begin)
            tensors[name] = tensor.clone().view(kinds[about["dtype"]]).reshape(about["shape"])
    return tensors


def load(path: Path = Path(__file__).with_name("model.safetensors")) -> Network:
    """The network with the weights in the file beside this one, ready to answer."""
    return Network(read(path)).eval()


if __name__ == "__main__":
    with torch.inference_mode():
        print(load()({example}))
'''


class Saying(NamedTuple):
    """What the text says of a network's arrays."""

    takes: str
    gives: str
    usage: str
    arguments: str
    does: str
    first: tuple[str, ...]  # lines before those of the network
    example: str


def saying(architecture: Architecture) -> Saying:
    """What is said of a network for images, for texts, or for text whose next token is foreseen."""
    a, count = architecture, architecture.head.classes
    if a.input.usual_tokens is None:
        shape = ", ".join(map(str, (a.image.channels, a.image.height, a.image.width)))
        return Saying(
            takes=f"images (B, {shape}) in [0, 1]",
            gives=f"one score for each of {count} classes",
            usage="scores = load()(images)",
            arguments="x: Tensor",
            does=f"Images (B, {shape}) -> scores (B, {count})",
            first=(),
            example=f"torch.rand(1, {shape})",
        )
    longest, vocabulary = int(a.layout.shape[0]), a.input.specs()[0].below
    gives = (
        f"one score for each of {count} classes" if count else f"at each token scores of {vocabulary} that may follow"
    )
    shape = f"(B, {count})" if count else f"(B, N, {vocabulary})"
    return Saying(
        takes=f"texts as ids (B, N), of {longest} tokens at most",
        gives=gives,
        usage="scores = load()(ids, mask)  # the mask is 1 at tokens of a text and 0 at padding behind them",
        arguments="x: Tensor, mask: Tensor | None = None",
        does=f"Ids (B, N) and a mask (B, N), by default of ones -> scores {shape}",
        first=(
            "mask = torch.ones_like(x) if mask is None else mask",
            "if not torch.compiler.is_compiling() and (mask[:, 1:] > mask[:, :-1]).any():",
            '    raise ValueError("padding stands in front of a text, which gives other numbers; put it behind")',
        ),
        example=f"torch.randint(0, {vocabulary}, (1, {min(longest, 5)}))",
    )
