"""A model: an architecture with weights and a history, and its model file."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wb.core.architecture import Architecture, axes_of_part, axis_sizes, resize
from wb.core.errors import BadArtefact, BadOption, Unsupported, printable, reason
from wb.core.records import Part
from wb.core.records.wirings import with_paths
from wb.core.system.files import regular, replacing
from wb.models.axes import Centre, Couple, CoupleWithin, Leading, Map, Select, SelectWithin, remap
from wb.models.exits.record import KEY as EXITS
from wb.models.files.header import EXPECTED, FORMAT, described
from wb.models.files.header import Step as Step
from wb.models.files.header import read_history as read_history
from wb.models.files.tensorfile import entries_of, header_of, write_tensors
from wb.models.files.torchfile import read_torch
from wb.models.named import axes_of
from wb.models.network import Network, build, skeleton

P = TypeVar("P", bound=Part)
_STORED = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_PART = 32 << 20  # bytes of a file to read at a time


@dataclass(frozen=True)
class Model:
    """An architecture, the weights of its network by parameter name, and its history. Never changed in place."""

    architecture: Architecture
    weights: Mapping[str, Tensor] = field(repr=False)
    history: tuple[Step, ...] = ()

    def network(self, device: torch.device | str = "cpu") -> Network:
        """A network in eval mode with a copy of the weights.

        Raises:
            BadArtefact: the weights do not fit the architecture.
        """
        self.check()
        network = build(self.architecture)
        network.load_state_dict(dict(self.weights))  # copies
        return network.to(device).eval()

    def check(self) -> None:
        """Checks, without copies, that the weights have the names and shapes of the architecture's parameters.

        Raises:
            BadArtefact: they do not.
        """
        expected = {name: tuple(p.shape) for name, p in skeleton(self.architecture).named_parameters()}
        given = {name: tuple(w.shape) for name, w in self.weights.items()}
        if expected != given:
            wrong = sorted(name for name in expected.keys() | given.keys() if expected.get(name) != given.get(name))
            name = wrong[0]
            raise BadArtefact(
                f"{len(wrong)} weights do not fit the architecture, the first is {printable(name)}: given "
                f"{given.get(name, 'nothing')}, expected {expected.get(name, 'nothing')}"
            )

    def fingerprint(self) -> str:
        """16 hexadecimal digits of the architecture and the weights; the history does not count."""
        digest = hashlib.sha256(self.architecture.to_json().encode())
        for name, weight in sorted(self.weights.items()):
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def then(self, step: Step) -> Model:
        """The same model with one more step of history."""
        return replace(self, history=(*self.history, step))


def from_network(architecture: Architecture, network: Network, history: tuple[Step, ...] = ()) -> Model:
    """A model with a copy of the network's weights, on the CPU."""
    weights = {name: p.detach().cpu().clone() for name, p in network.named_parameters()}
    return Model(architecture, weights, history)


def compacted(model: Model) -> Model:
    """The same function without the blocks that are switched off; the others are counted anew. Itself if there are none."""
    architecture = model.architecture.compact()
    if architecture == model.architecture:
        return model
    places: dict[str, str] = {}
    paths: dict[str, dict[int, int]] = {}
    for i, (stage, new) in enumerate(zip(model.architecture.stages, architecture.stages, strict=True)):
        left = [j for j, block in enumerate(stage.blocks) if not block.off]
        places |= {f"{i}.{j}": f"{i}.{at}" for at, j in enumerate(left)}
        paths[f"wirings.{i}."] = dict(zip(stage.paths, new.paths, strict=True))
    weights = {}
    for name, weight in model.weights.items():
        if name.startswith("stages."):
            _, number, block, rest = name.split(".", 3)
            name = f"stages.{places[f'{number}.{block}']}.{rest}"
        elif name.startswith("wirings."):
            name = with_paths(name, paths[name[: name.index(".", len("wirings.")) + 1]]) or name
        weights[name] = weight
    return replace(model, architecture=architecture, weights=weights)


def remap_model(model: Model, maps: Mapping[str, Map]) -> Model:
    """`model` with its axes mapped (`wb.models.axes.remap`), architecture and weights together.

    Defaults that depend on a mapped axis are made explicit first (a softmax scale where `qk` changes), so that dropping channels
    equals masking them.

    Raises:
        BadOption: an axis that the model does not have.
    """
    before = axis_sizes(model.architecture)
    unknown = sorted(set(maps) - set(before))
    if unknown:
        raise BadOption(f"no axis named {', '.join(unknown)}; this model has {', '.join(before)}")
    architecture = resize(_settled(model.architecture, maps), {name: _size(m) for name, m in maps.items()})
    axes = axes_of(skeleton(model.architecture))
    weights = {name: w.detach().clone() for name, w in remap(model.weights, axes, maps).items()}
    return Model(architecture, weights, model.history)


def save(model: Model, path: Path, *, force: bool = False) -> None:
    """Writes `.safetensors` (architecture and history as JSON metadata) or `.pt` (the same content), atomically.

    Raises:
        BadOption: another ending, or the file exists and `force` is false.
        StorageFailed: it could not be written.
    """
    metadata = metadata_of(model)
    if path.suffix not in (".safetensors", ".pt"):
        raise BadOption(f"{path.name} is no name for a model file; end it in .safetensors or .pt")
    with replacing(path, force=force) as temporary:
        if path.suffix == ".pt":
            write_torch({"metadata": metadata, "weights": _alone(model.weights)}, temporary)
        else:
            entries = entries_of(model.weights)
            write_tensors(temporary, header_of(entries, metadata), entries, model.weights.__getitem__)


def metadata_of(model: Model) -> dict[str, str]:
    """What a model file says of a model beside its weights."""
    return {
        "wb.format": str(FORMAT),
        "wb.architecture": model.architecture.to_json(),
        "wb.history": json.dumps([step.model_dump(mode="json") for step in model.history]),
    }


def load(path: Path) -> Model:
    """Reads a model that `save` wrote.

    Names and shapes in the file are compared with the architecture before any values are used.

    Raises:
        BadArtefact: no such file, damaged, not a model file of this workbench, weights that do not fit, or that are not
            finite numbers in single precision.
        Unsupported: it has early exits (`wb.models.exits.files` reads those).
    """
    metadata, weights = _read_pt(path) if path.suffix == ".pt" else read_safetensors(path)
    if EXITS in metadata:
        raise Unsupported(
            f"{path} has early exits, and this works on networks without: what it did to the trunk the exits would not follow. "
            "Do it to the model that they were added to, then add exits (`wb exits`); what has exits can be shown, exported, "
            "measured and asked (`wb predict`), and `wb exits` sets its dial anew"
        )
    architecture, history = described(metadata, path)
    try:
        Model(architecture, weights).check()
    except BadArtefact as error:
        raise BadArtefact(f"{path}: {error}") from error
    whole = {name: single(weights.pop(name), name, path) for name in list(weights)}
    check_weights(whole, str(path))
    return Model(architecture, whole, history)


def single(weight: Tensor, name: str, path: Path) -> Tensor:
    """`weight` in single precision; other precisions are only for storage."""
    if weight.dtype not in _STORED:
        raise BadArtefact(
            f"{path} has {weight.dtype} numbers in {name}; expected float32, float16, bfloat16 or float64"
        )
    if weight.untyped_storage().nbytes() < weight.nbytes:
        raise BadArtefact(f"{path} has less numbers in {name} than its shape says; expected one for each place")
    return weight.float()


def check_weights(weights: Mapping[str, Tensor], name: str) -> None:
    """Raises `BadArtefact` if weights are not finite in single precision; `name` names the model in messages."""
    broken = [key for key, weight in weights.items() if not torch.isfinite(weight).all()]
    if broken:
        raise BadArtefact(
            f"{name} has NaN or infinite weights, first in {printable(broken[0])} (in single precision, in which networks "
            "compute); train or export it again"
        )


def write_torch(content: object, path: Path) -> None:
    """`torch.save` through memory, because on a full disk torch raises a RuntimeError that does not say so."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.write_bytes(buffer.getbuffer())


def _alone(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`weights` on the CPU, contiguous, each with its own storage; copies only where necessary."""
    found = {name: weight.detach().cpu().contiguous() for name, weight in weights.items()}
    users = Counter(weight.untyped_storage().data_ptr() for weight in found.values())
    for name, weight in found.items():
        storage = weight.untyped_storage()
        if storage.nbytes() != weight.nbytes or users[storage.data_ptr()] > 1:
            found[name] = weight.clone()
    return found


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and copies of the tensors. Raises `BadArtefact` for a file that is damaged or changes meanwhile.

    An open file is memory-mapped, and all its read pages count as memory. So a large file is closed and reopened between parts.
    """
    regular(path, EXPECTED)
    weights: dict[str, Tensor] = {}
    try:
        before = path.stat()
        while True:
            with safe_open(path, framework="pt") as file:
                metadata, names = file.metadata() or {}, list(file.keys())
                _read_part(file, names, weights)
            if len(weights) >= len(names):
                break
        after = path.stat()
    except (SafetensorError, OSError, ValueError) as error:
        raise BadArtefact(
            f"{path} is no safetensors file or is damaged ({reason(error)}); expected {EXPECTED}"
        ) from error
    if (before.st_ino, before.st_mtime_ns) != (after.st_ino, after.st_mtime_ns):
        raise BadArtefact(f"{path} was replaced while it was read; try again")
    return metadata, weights


def _read_part(file: Any, names: list[str], weights: dict[str, Tensor]) -> None:
    """Adds copies of the next tensors of `file`, about `_PART` bytes."""
    size = 0
    for name in names:
        if name not in weights:
            weights[name] = file.get_tensor(name).clone()
            size += weights[name].nbytes
        if size >= _PART:
            return


def _read_pt(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    content = read_torch(path, EXPECTED)
    if not isinstance(content, dict) or not {"metadata", "weights"} <= set(content):
        raise BadArtefact(f"{path} is a torch file but not a model of `wb`; expected one that `wb` wrote")
    metadata, weights = content["metadata"], content["weights"]
    for what, part, kind, wanted in (("metadata", metadata, str, "texts"), ("weights", weights, Tensor, "tensors")):
        if not isinstance(part, dict) or not all(isinstance(k, str) and isinstance(v, kind) for k, v in part.items()):
            raise BadArtefact(f"{path} has {what} that are no {wanted} by name; expected a model file that `wb` wrote")
    return metadata, weights


def _size(mapping: Map) -> int:
    match mapping:
        case Leading(size) | Centre(size):
            return size
        case Select(index):
            return int(index.shape[0])
        case SelectWithin(index):
            return int(index.shape[1])
        case Couple(write, _):
            return int(write.shape[0])
        case CoupleWithin(write, _):
            return int(write.shape[1])


def _settled(architecture: Architecture, changed: Collection[str]) -> Architecture:
    """`architecture` with explicit values for the defaults that depend on the axes `changed`, such as a softmax scale."""

    def settled(name: str, part: P) -> P:
        return part.settled([axis.rsplit(".", 1)[-1] for axis in axes_of_part(name, part) if axis in changed])

    return architecture.with_parts(settled)
