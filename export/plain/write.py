"""A model as a folder that needs PyTorch and nothing else: `model.safetensors`, and `model.py`, which reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wb import __version__
from wb.core.architecture import Architecture
from wb.core.errors import BadOption, Unsupported
from wb.core.records import Part
from wb.core.system.files import replacing, write_text
from wb.export.graph import TOLERANCE, ExportDiffers
from wb.export.plain.recording import GIVEN, INPUTS, record_network, record_part
from wb.export.plain.source import ENDING, SOURCE, saying
from wb.export.plain.wording import Writer, merged
from wb.export.refusal import check_exportable
from wb.models.feeds import made_up
from wb.models.files.history import tokenizer_of
from wb.models.files.tensorfile import entries_of, header_of, write_tensors
from wb.models.groups import settle
from wb.models.layers.operator import OperatorModule
from wb.models.model import Model
from wb.models.network import Network
from wb.models.stems.base import StemModule

WEIGHTS, CODE, TOKENIZER = "model.safetensors", "model.py", "tokenizer.json"
_TOKENS = 7  # of the longest text that is recorded


class Function(NamedTuple):
    """A function of the file: its name, and its lines without the `def`."""

    name: str
    text: str
    weights: bool  # whether it is given any


def export_plain(model: Model, folder: Path, *, force: bool = False) -> list[Path]:
    """Writes the weights of a model, and its network as one file of plain PyTorch that reads them; returns the paths.

    The network computes in float32; batch norms are folded, one and two bits rounded for good. That of a network for texts takes
    ids and a mask, and its tokenizer is written beside it.

    Limits: a network that continues texts computes the whole text, without a cache; its ONNX graph has one.

    Raises:
        BadOption: a file exists and `force` is false.
        ExportDiffers: the file does not compute what the model does; nothing is written.
        Unsupported: a part of the network cannot be written as plain PyTorch.
        StorageFailed: a file could not be written.
    """
    check_exportable(model.architecture)
    tokenizer = tokenizer_of(model.history)
    paths = [folder / WEIGHTS, folder / CODE, *([] if tokenizer is None else [folder / TOKENIZER])]
    for path in paths:
        if path.exists() and not force:
            raise BadOption(f"{path} exists already; choose another folder or say --force to replace it")
    network = model.network()
    settle(network)
    code, tensors = written(network)
    _check(code, tensors, network)
    entries = entries_of(tensors)
    with replacing(paths[0], force=force) as temporary:
        write_tensors(temporary, header_of(entries, {"format": "pt"}), entries, tensors.__getitem__)
    write_text(paths[1], code, force=force)
    if tokenizer is not None:
        write_text(paths[2], tokenizer, force=force)
    return paths


def written(network: Network) -> tuple[str, dict[str, Tensor]]:
    """The code of a settled network, and the tensors that it uses by name. Raises `Unsupported`."""
    a = network.architecture
    network.requires_grad_(False)
    runs = [record_network(network, *made_up(a.input.specs(), *size).values()) for size in _runs(a)]
    functions = _Functions(network)
    tensors: dict[str, Tensor] = {}
    own = {**dict(network.named_buffers()), **dict(network.named_parameters())}

    def leaf(name: str) -> str:
        if name in GIVEN and name not in own:
            return name
        tensors[name] = own[name] if name in own else recording.constants[name]
        module, _, last = name.rpartition(".")
        return f'at("{module}").{last}' if module else f"self.{last}"

    def part(name: str) -> Callable[[Sequence[str]], str] | None:
        return functions.called(name, [run.parts[name] for run in runs], tensors)

    try:
        recording = merged(*runs)
        lines = Writer(recording, leaf, part)()
    except Unsupported as error:
        raise Unsupported(f"the network cannot be written as plain PyTorch: it {error}; ONNX can") from error
    tensors = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    trained = {name for name, parameter in network.named_parameters() if name not in _constants(network)}
    said = saying(a)
    code = SOURCE.format(
        parameters=f"{sum(t.numel() for name, t in tensors.items() if name in trained):,}",
        version=__version__,
        classes=_listed(a.head.labels),
        constants=_listed(sorted(tensors.keys() - trained)),
        functions="\n\n\n".join(function.text for function in functions.every()),
        forward="\n".join(f"        {line}" for line in [*said.first, *lines]),
        **{name: getattr(said, name) for name in ("takes", "gives", "usage", "arguments", "does")},
    )
    return code + ENDING.format(example=said.example), tensors


def _runs(architecture: Architecture) -> list[tuple[int, int, int]]:
    """Examples, seed and tokens of the runs that tell which sizes follow what: of images two runs, of texts three."""
    if architecture.input.usual_tokens is None:
        return [(2, 0, 1), (3, 0, 1)]
    longest = int(architecture.layout.shape[0])
    few, many = max(1, min(longest, _TOKENS) - 2), min(longest, _TOKENS)
    return [(2, 0, few), (3, 0, few), (3, 0, many)]


def _constants(network: Network) -> set[str]:
    """The full names of parameters that training does not change."""
    found = {*network.positions.constants, *network.answer.constants}
    for name, module in network.named_modules():
        found |= {f"{name}.{local}" for local in getattr(module, "constants", ())}
    return found


class _Functions:
    """The functions of a file, one for all parts that compute alike."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.by_body: dict[tuple[str, str], Function] = {}
        self.names: dict[str, int] = {}

    def every(self) -> Iterator[Function]:
        """All of them in order of first use."""
        yield from self.by_body.values()

    def called(
        self, name: str, given: Sequence[tuple[Any, ...]], tensors: dict[str, Tensor]
    ) -> Callable[[Sequence[str]], str] | None:
        """What writes a call of the part `name`, which was given these, run by run; its tensors are added to `tensors`."""
        part = self.network.get_submodule(name)
        runs = [record_part(part, *one) for one in given]
        recording = merged(*runs)
        if not recording.calls:
            return None
        used: dict[str, Tensor] = {}
        read = {INPUTS[0]}
        own = {**vars(part), **dict(part.named_buffers()), **dict(part.named_parameters())}

        def leaf(local: str) -> str:
            if local in recording.given:
                read.add(local)
                return local
            used[local] = own[local] if local in own else recording.constants[local]
            return f"w.{local}"

        lines = Writer(recording, leaf)()
        tensors |= {f"{name}.{local}": tensor for local, tensor in used.items()}
        inputs = {place: name for place, name in enumerate(recording.given) if name in read}
        shapes = _shape([tuple(run.given["x"].shape) for run in runs]), _shape([run.shape for run in runs])
        function = self._function(part, lines, [*inputs.values()], shapes, bool(used))
        at = [f'at("{name}")'] if function.weights else []
        return lambda arguments: f"{function.name}({', '.join([*(arguments[i] for i in inputs), *at])})"

    def _function(
        self,
        part: nn.Module,
        lines: list[str],
        inputs: Sequence[str],
        shapes: tuple[str, str],
        weights: bool,
    ) -> Function:
        """The function of these lines; one that is there already if it computes the same."""
        stem, body = _snake(type(part).__name__), "\n".join(f"    {line}" for line in lines)
        if (stem, body) not in self.by_body:
            self.names[stem] = self.names.get(stem, 0) + 1
            name = stem if self.names[stem] == 1 else f"{stem}_{self.names[stem]}"
            arguments = ", ".join([*(f"{one}: Tensor" for one in inputs), *(["w: nn.Module"] if weights else [])])
            title = _title(part)
            said = " -> ".join(shapes)
            text = f'def {name}({arguments}) -> Tensor:\n    """{title[0].upper()}{title[1:]}: {said}."""\n{body}'
            self.by_body[stem, body] = Function(name, text, weights)
        return self.by_body[stem, body]


def _shape(shapes: Sequence[tuple[int, ...]]) -> str:
    """The shape of a tensor in words, of those in all runs: a size that differs among them is that of a text."""
    sizes = ["N" if len(set(each)) > 1 else str(each[0]) for each in list(zip(*shapes, strict=True))[1:]]
    return f"({', '.join(['B', *sizes])})"


def _title(part: nn.Module) -> str:
    """What a part is called in tables."""
    record = part.describe() if isinstance(part, StemModule) else getattr(part, "record", None)
    return str(getattr(record, "title", "")) if isinstance(record, Part) else type(part).__name__


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _listed(names: Any) -> str:
    """Names as a tuple in Python, over as many lines as it takes."""
    found = [json.dumps(str(name), ensure_ascii=False) for name in names]
    short = f"({', '.join(found)}{',' if len(found) == 1 else ''})"
    return short if len(short) <= 100 else "(\n" + "".join(f"    {name},\n" for name in found) + ")"


def _check(code: str, tensors: Mapping[str, Tensor], network: Network) -> None:
    """Runs the code. Raises `ExportDiffers` if it does not give the network's outputs, for one example and for several."""
    space: dict[str, Any] = {"__name__": "plain", "__file__": CODE}
    exec(compile(code, CODE, "exec"), space)  # what was written here a moment ago, of a network that was checked
    plain = space["Network"](tensors).eval()
    jumps = any(isinstance(module, OperatorModule) and module.jumps for module in network.modules())
    for count, tokens in _checks(network.architecture):
        given = made_up(network.architecture.input.specs(), count, tokens, tokens).values()
        with torch.inference_mode():
            expected, found = network(*given), plain(*given)
        worst = float(((found - expected).abs() / expected.abs().amax(dim=-1, keepdim=True).clamp(min=1)).max())
        if not worst <= TOLERANCE and not jumps:
            raise ExportDiffers(
                f"the plain network differs from the model by {worst:.2g} where {TOLERANCE:g} is allowed; nothing was written"
            )


def _checks(architecture: Architecture) -> list[tuple[int, int]]:
    """Examples and tokens of the runs that are compared: of texts five lengths, with tokens among them that do not count."""
    if architecture.input.usual_tokens is None:
        return [(1, 1), (3, 1)]
    longest = int(architecture.layout.shape[0])
    lengths = dict.fromkeys(min(longest, tokens) for tokens in (1, 2, 5, 33, longest))
    return [(1 + 2 * (place % 2), tokens) for place, tokens in enumerate(lengths)]
