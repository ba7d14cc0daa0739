"""A model in the files of another library: those that it came in, or those that the library reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from torch import Tensor

from wb.core.architecture import Architecture, Block
from wb.core.errors import BadArtefact, BadOption, Unsupported
from wb.core.records import Attention, Part
from wb.core.records.attention import Scaled
from wb.core.system.files import write_text
from wb.foreign.checkpoint import CONFIG, INDICES, PREPROCESSORS, parsed
from wb.foreign.families.known import BY_NAME, FAMILIES
from wb.foreign.family import Family, Seen
from wb.foreign.form import Shape
from wb.foreign.given import Given
from wb.foreign.origin import Origin, StoredFile, StoredTensor, origin_of
from wb.foreign.rule import Rule, applying
from wb.foreign.stored import write_safetensors, write_state_dict
from wb.models.model import Model, compacted
from wb.models.network import skeleton

P = TypeVar("P", bound=Part)
To = Literal["hf", "timm", "source"]
LIBRARIES: Mapping[To, str] = {"hf": "transformers", "timm": "timm", "source": "the library that it came from"}
WHOLE = "model.safetensors"
NAMELESS = "it has parts that the layout has no names for"


@dataclass(frozen=True)
class Target:
    """What is to be written: the family, its rules, the shapes of theirs, and its configuration (empty for none)."""

    family: Family
    rules: Sequence[Rule]
    shapes: Mapping[str, Shape]
    config: Mapping[str, Any]
    origin: Origin | None  # None also if the model came as another family's


def export_checkpoint(model: Model, to: To, folder: Path, *, force: bool = False) -> list[Path]:
    """Writes a model for another library; one that came from it and kept its architecture, in the same bytes.

    Blocks that have lost all their sub-layers are left out, and the others counted anew.

    Files are of the types, names and number that they came in, while names and shapes are; otherwise the weights are one
    `model.safetensors`.

    Limits: torch's own files hold the same tensors, but not the same bytes; float64 was rounded by the import.

    Raises:
        BadOption: a file exists and `force` is false, or a model that was not imported is to go back to its source.
        Unsupported: the library's format cannot say the architecture; says why.
        StorageFailed: a file could not be written.
    """
    _ = model.architecture.image  # raises for networks that take something else
    model = compacted(model)
    target = _target(model, to)
    texts = _texts(model.architecture, target)
    tensors = _Theirs(target, model)
    files = _files(target)
    if [file.name for file in files] == [WHOLE]:
        texts = {name: text for name, text in texts.items() if name not in INDICES}
    _check_free([folder / name for name in (*texts, *(file.name for file in files))], force)
    written = []
    for file in files:
        written.append(folder / file.name)
        write = write_safetensors if file.name.endswith(".safetensors") else write_state_dict
        write(written[-1], file, tensors, force=force)
    for name, text in texts.items():
        written.append(folder / name)
        write_text(written[-1], text, force=force)
    return written


def theirs_of(model: Model) -> dict[str, Tensor]:
    """The tensors of a model as its source has them, in float32. Raises as `export_checkpoint` does."""
    model = compacted(model)
    target = _target(model, "source")
    tensors = _Theirs(target, model)
    return {name: tensors(name) for name in target.shapes}


def _check_free(paths: Sequence[Path], force: bool) -> None:
    there = [path for path in paths if path.exists()]
    if there and not force:
        raise BadOption(f"{there[0]} exists already; choose another folder or say --force to replace it")


def _target(model: Model, to: To) -> Target:
    """The first family of that library that says the architecture, that of the model's origin first."""
    origin = origin_of(model.history)
    own = None if origin is None else BY_NAME.get(origin.family)
    if to == "source":
        if own is None:
            raise BadOption(
                "the model was not imported, so that it has no source to go back to; say --to hf, timm or torch"
            )
        families = [own]
    else:
        families = [family for family in FAMILIES if family.library == to]
        families.sort(key=lambda family: family is not own)
    refused: dict[str, list[str]] = {}  # titles by the reason
    for family in families:
        try:
            return _said(family, model.architecture, origin if family is own else None)
        except (Unsupported, BadArtefact, BadOption) as error:
            refused.setdefault(str(error), []).append(family.title)
            if family is own:
                break
    if len(refused) > 1:
        refused.pop(NAMELESS, None)
    why = "; ".join(f"{', '.join(titles)}: {text}" for text, titles in refused.items())
    raise Unsupported(f"{LIBRARIES[to]} cannot say this network ({why}); `--to torch` and ONNX can")


def _said(family: Family, a: Architecture, origin: Origin | None) -> Target:
    """The architecture in the words of a family. Raises unless reading them would give the same architecture again.

    A configuration that says the architecture already stays as it came.
    """
    came = {} if origin is None or CONFIG not in origin.texts else parsed(origin.texts[CONFIG], Path(CONFIG))
    given = origin.given if origin is not None else _given(a, family.options)
    try:
        ours = {name: tuple(p.shape) for name, p in skeleton(a).named_parameters()}
        rules = applying(family.rules(a), ours)
        shapes: dict[str, Shape] = {}
        for one in rules:
            shapes |= one.shapes(ours)
        other = None if origin is None or family.library != "timm" else _resized(a, shapes, origin)
        if other and came and family.named:
            raise Unsupported(
                f"its config.json names {came.get('architecture')}, which stands for all sizes, and "
                f"{other} has another one, or is gone"
            )
        unchanged = origin is not None and not other
        if unchanged and _difference(a, family.architecture(Seen(came, shapes, given))) is None:
            return Target(family, rules, shapes, came, origin)
        config = family.config(a, came)
        lost = _difference(a.with_labels(()), family.architecture(Seen(config, shapes, given)).with_labels(()))
        if lost is None:
            return Target(family, rules, shapes, config, origin)
    except Unsupported:
        raise
    except (ValueError, IndexError, KeyError) as error:  # names and shapes that its table does not have
        raise Unsupported(_uneven(a) or NAMELESS) from error
    raise Unsupported(_uneven(a) or f"the format cannot say {lost}")


def _resized(a: Architecture, shapes: Mapping[str, Shape], origin: Origin) -> str | None:
    """A tensor that has another shape than it came in, is new, or is gone; a classifier for other classes is none."""
    came = origin.shapes()
    for name, shape in shapes.items():
        before = came.get(name)
        if before is None or (shape != before and (shape[:1] != (a.head.classes,) or shape[1:] != before[1:])):
            return name
    return next((name for name in came if name not in shapes and name not in origin.kept), None)


def _given(a: Architecture, options: Sequence[str]) -> Given:
    """What has to be said of a checkpoint with this network; not what the library would have to be told too."""
    mixers = [getattr(block.mixer, "heads", None) for _, _, block in a.blocks()]
    every: dict[str, object] = {
        "heads": next((heads for heads in mixers if heads), None),
        "image_size": a.image.height,
    }
    if a.head.pool != "pair":
        every["pool"] = a.head.pool
    return Given.model_validate({name: value for name, value in every.items() if name in options})


def _difference(a: Architecture, again: Architecture) -> str | None:
    """What of `a` is lost on the way there and back, but for the mean and deviation of images, which other files say."""
    size = (again.image.channels, again.image.height, again.image.width) == (
        a.image.channels,
        a.image.height,
        a.image.width,
    )
    bare = again.model_copy(update={"input": a.input}) if size and not a.image.mirrored else again
    a, bare = _plain(a), _plain(bare)
    given, found = a.model_dump(mode="json"), bare.model_dump(mode="json")
    if given == found:
        return None
    for key in given:
        if given[key] != found.get(key):
            return f"{key} as it is" if key != "stages" else _block_difference(a, bare)
    return "the network"


def _uneven(a: Architecture) -> str | None:
    """Widths of attention that no library's layout has, in words."""
    for name, _, block in a.blocks():
        mixer = block.mixer
        if isinstance(mixer, Attention) and mixer.qk != mixer.v:
            return f"block {name} has heads of {mixer.qk} query/key and {mixer.v} value channels"
    return None


def _plain(a: Architecture) -> Architecture:
    """The same network with defaults where it says the same as they do: scales of scores, first values of layer scales."""

    def unscaled(name: str, part: P) -> P:
        if isinstance(part, Scaled) and part.scale is not None and part.scale == part.qk**-0.5:
            return part.model_copy(update={"scale": None})
        return part

    def joined(name: str, block: Block) -> Block:
        return block if block.join is None else block.model_copy(update={"join": block.join.structure()})

    return a.with_parts(unscaled).with_blocks(joined)


def _block_difference(a: Architecture, again: Architecture) -> str:
    for (name, _, mine), (_, _, theirs) in zip(a.blocks(), again.blocks(), strict=False):
        if mine != theirs:
            return f"block {name}{_first(mine.model_dump(mode='json'), theirs.model_dump(mode='json'))}"
    return "the number of its blocks, or how they are wired"


def _first(mine: Mapping[str, Any], theirs: Mapping[str, Any], place: str = "") -> str:
    """The first field in which two parts differ, in words."""
    key = next(key for key in (*mine, *theirs) if mine.get(key) != theirs.get(key))
    ours, other = mine.get(key), theirs.get(key)
    if isinstance(ours, dict) and isinstance(other, dict):
        return _first(ours, other, f"{place}{key}.")
    return f", whose {place}{key} is {ours} where it would be {other}"


# ---------------------------------------------------------------------------------------------------------------- files


class _Theirs:
    """Their tensors by name, each made when it is asked for: of ours, or kept from the import."""

    def __init__(self, target: Target, model: Model) -> None:
        self.rules = {name: one for one in target.rules for name in one.theirs}
        self.weights, self.kept = model.weights, {} if target.origin is None else target.origin.kept

    def __call__(self, name: str) -> Tensor:
        if name not in self.rules:
            return self.kept[name].tensor()
        return self.rules[name].to_theirs(self.weights)[name]


def _files(target: Target) -> list[StoredFile]:
    """The files of weights, as they came if they had the same tensors, else one."""
    origin = target.origin
    if origin is not None:
        given = origin.shapes()
        left = {name for name in given if name not in target.shapes and name not in origin.kept}
        if not left and all(given.get(name) == shape for name, shape in target.shapes.items()):
            return list(origin.files)
        named = {name: shape for name in given if (shape := target.shapes.get(name)) is not None}
        shapes = {**named, **target.shapes}
    else:
        shapes = dict(sorted(target.shapes.items()))
    dtypes = {} if origin is None else origin.dtypes()
    common = next(iter(dtypes.values()), "F32")
    tensors = tuple(StoredTensor(name=n, dtype=dtypes.get(n, common), shape=shape) for n, shape in shapes.items())
    if origin is not None and len(origin.files) == 1 and origin.files[0].header is None:  # a file of torch stays one
        return [origin.files[0].model_copy(update={"tensors": tensors})]
    name = origin.files[0].name if origin is not None and len(origin.files) == 1 else WHOLE
    return [StoredFile(name=name, tensors=tensors)]


def _texts(a: Architecture, target: Target) -> dict[str, str]:
    """The texts beside the weights: as they came where they say the same."""
    texts = {} if target.origin is None else dict(target.origin.texts)
    if target.config:
        before = parsed(texts[CONFIG], Path(CONFIG)) if CONFIG in texts else None
        if before != dict(target.config):
            texts[CONFIG] = json.dumps(target.config, indent=2, sort_keys=True) + "\n"
    if target.family.library == "hf" and not any(name in texts for name in PREPROCESSORS):
        plain = not any(a.image.mean) and set(a.image.std) == {1.0}
        if target.origin is None or not plain:
            texts[PREPROCESSORS[0]] = json.dumps(_preprocessor(a), indent=2, sort_keys=True) + "\n"
    return texts


def _preprocessor(a: Architecture) -> dict[str, Any]:
    """The settings of transformers' image processor that give what the network takes."""
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": a.image.height, "width": a.image.width},
        "resample": 3,  # bicubic, as wb resizes
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(a.image.mean),
        "image_std": list(a.image.std),
    }
