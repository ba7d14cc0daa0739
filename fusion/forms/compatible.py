"""Compatibility of models for fusion: properties that must be equal, and classes matched by name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from wb.core.architecture import Architecture, axis_dims, axis_sizes
from wb.core.errors import BadData, BadOption, Unsupported
from wb.core.records import ImageInput, Input, kind_of
from wb.fusion.forms.vocabularies import check_words, differ, rewritten
from wb.models.axes import Select, nested, remap
from wb.models.model import Model
from wb.models.named import axes_of
from wb.models.network import build, skeleton

_CLOSE = 1e-5  # input means and deviations may differ by rounding


def check_together(
    architectures: Sequence[Architecture],
    names: Sequence[str],
    anchor: int,
    tokenizers: Sequence[str | None] | None = None,
) -> list[str]:
    """Checks that models can be fused, with all others fitting the anchor; returns notes for the user.

    `tokenizers` are those of networks for texts, as JSON, None where one is not known.

    Raises:
        Unsupported: they differ in what cannot be aligned: images, stem, positions, stages, pooling, norms, joins; or their
            tokenizers have too little in common.
        BadOption: their classes are not the same.
    """
    wanted, name = architectures[anchor], names[anchor]
    words = tokenizers or [None] * len(names)
    notes: list[str] = []
    for given, other in zip(architectures, names, strict=True):
        check_scales(given, other)
        check_nesting(given, other)
        _check_head(given, other)
    for i, (given, other) in enumerate(zip(architectures, names, strict=True)):
        if i == anchor:
            continue
        others = differ(words[i], words[anchor])
        for what, a, b in _facts(given, wanted)[1 if others else 0 :]:
            if a != b:
                raise Unsupported(
                    f"{other} has {what} {a} and {name} has {b}; only models of one family and task can be fused: train "
                    "or search one of the two like the other"
                )
        if others:
            notes.append(check_words(given, str(words[i]), other, wanted, str(words[anchor]), name, i + 1))
        notes += _classes(given, wanted, other, name)
        if settings_of_norms(given) != settings_of_norms(wanted):
            own, new = settings_of_norms(given), settings_of_norms(wanted)
            notes.append(f"the norms of {other} have {own}, those of {name} {new}; the latter stays")
    return notes


def check_scales(architecture: Architecture, name: str) -> None:
    """Raises `Unsupported` for a softmax scale of zero or not finite, which queries and keys cannot absorb."""
    for part_name, part in architecture.parts():
        if not (math.isfinite(part.factor) and part.factor):
            place, kind = part_name.rpartition(".")[0], kind_of(type(part))
            raise Unsupported(
                f"the {kind} scale of {place} in {name} is {part.factor:g}; give it a finite one other than zero"
            )


def check_nesting(architecture: Architecture, name: str) -> None:
    """Raises `Unsupported` for parameters on several axes within heads that need each other's maps.

    Groups of queries are none of these: keys and values tell the maps of their channels. One that lies on an axis twice is.
    """
    network = skeleton(architecture)
    axes, sizes = axes_of(network), axis_sizes(architecture)
    within = {axis for axis in nested(axes, axis_dims(architecture)) if sizes[axis] > 1}  # one entry needs no map
    inside = {p: sorted(on.name for on in dims if on is not None and on.name in within) for p, dims in axes.items()}
    told = {inner[0] for inner in inside.values() if len(inner) == 1}
    for parameter, inner in inside.items():
        if len(inner) > len({*inner}) or len({*inner} - told) > 1 or (len(inner) > 1 and not {*inner} - told):
            raise Unsupported(
                f"{parameter} of {name} lies on {' and '.join(inner)}, both within heads, which cannot be aligned together; fuse "
                "networks with other mixers"
            )


def _check_head(architecture: Architecture, name: str) -> None:
    """Raises `Unsupported` for a head with a hidden layer, whose units lie on no axis that could be aligned."""
    hidden = architecture.head.hidden
    if hidden is not None:
        raise Unsupported(
            f"the head of {name} has a layer of {hidden.width} units, which are not aligned; fuse networks whose head "
            "is one linear map"
        )


def check_images(images: Tensor, architecture: Architecture) -> list[str]:
    """Checks images for calibration; returns notes if there are few of them.

    Raises:
        BadData: there are none, or the networks read other images.
    """
    spec, *mask = architecture.input.specs()
    what = "texts" if mask else "images"
    wrong = images.is_floating_point() or images.dim() != 2 if mask else images.shape[1:] != spec.example
    if wrong or not len(images):
        raise BadData(
            f"the calibration set is {'x'.join(map(str, images.shape))}; the models read {what} of "
            f"{spec.text}: name other data with --data"
        )
    widest, size = max(axis_sizes(architecture).items(), key=lambda item: item[1])
    tokens = int((images >= 0).sum()) if mask else len(images) * math.prod(architecture.layout.shape)
    last = architecture.stages[-1].embed
    notes = []
    if tokens < size:
        notes.append(
            f"{len(images)} {what} have {tokens} tokens, fewer than the {size} entries of {widest}: what they say of it is "
            "arbitrary in part; give more with --samples"
        )
    elif len(images) < last:
        notes.append(
            f"{len(images)} {what} are fewer than the {last} channels that the head reads: they do not determine it; give "
            "more with --samples"
        )
    return notes


def adapted(model: Model, to: Architecture, tokenizer: str | None = None) -> Model:
    """`model` with classes in the order of `to`, and a stem for images normalised as in `to`, or tables for its `tokenizer`.

    Raises:
        Unsupported: another normalisation in front of a convolution with padding, which cannot absorb it.
    """
    model = rewritten(classes_ordered(model, to), to, tokenizer)
    if to.input.usual_tokens is not None or _close(model.architecture.image, to.image):
        return _with_input(model, to.input)
    own, new = model.architecture.image, to.image
    old_mean, old_std, mean, std = (torch.tensor(v).double() for v in (own.mean, own.std, new.mean, new.std))
    stem = skeleton(model.architecture).stem
    given = {name: model.weights[f"stem.{name}"] for name in stem.axes}
    absorbed = stem.absorbed(given, std / old_std, (mean - old_mean) / old_std)
    if absorbed is None:
        raise Unsupported(
            f"the models normalise images differently ({own.mean} and {new.mean}), and a padded convolution cannot take that "
            "over; train them on the same training images, from which mean and deviation are taken"
        )
    weights = {f"stem.{name}": weight for name, weight in absorbed.items()}
    return _with_input(replace(model, weights={**model.weights, **weights}), new)


def _facts(one: Architecture, other: Architecture) -> list[tuple[str, object, object]]:
    def read(a: Architecture) -> str:
        longest = "" if a.input.usual_tokens is None else f" and at most {a.layout.shape[0]} of them"
        return (
            ", ".join(spec.text for spec in a.input.specs())
            + longest
            + (", also mirrored" if a.input.views > 1 else "")
        )

    return [
        ("images of" if one.input.usual_tokens is None else "texts of", read(one), read(other)),
        ("the stem", f"{one.stem.kind} of {one.stem.cut}", f"{other.stem.kind} of {other.stem.cut}"),
        ("tokens with", one.position.title, other.position.title),
        ("norms", wirings_of(one), wirings_of(other)),
        ("kinds of norms", norms_of(one), norms_of(other)),
        ("joins", joins_of(one) or joins_of(other), joins_of(other) or joins_of(one)),
        ("a prefix of", f"{one.prefix} tokens", f"{other.prefix} tokens"),
        ("pooling", one.head.pooling, other.head.pooling),
        ("stages", len(one.stages), len(other.stages)),
    ]


def wirings_of(architecture: Architecture) -> str:
    """How the sub-layers are wired, stage by stage where that differs."""
    wirings = [stage.wiring.title for stage in architecture.stages]
    return wirings[0] if len(set(wirings)) == 1 else ", ".join(wirings)


def norms_of(architecture: Architecture) -> str:
    """Of which kind the norms are; networks of one family have that in common, whatever the settings and the depth.

    Blocks are named only where they differ.
    """
    a = architecture
    blocks = {name: (block.norm or a.norm).title for name, _, block in a.blocks() if not block.off}
    kinds = sorted(set(blocks.values()))
    usual = kinds[0] if len(kinds) == 1 else a.norm.title
    own = [f"{title} in {name}" for name, title in blocks.items() if title != usual]
    ends = [f"{norm.title} {where}" for norm, where in ((a.first, "first"), (a.last, "last")) if norm is not None]
    return ", ".join([usual, *own, *ends])


def joins_of(architecture: Architecture) -> str:
    """Of which kinds the joins of its blocks are, "" without blocks; networks of one family have the same."""
    found = [block.join for _, _, block in architecture.blocks() if not block.off]
    return " and ".join(sorted({"none" if join is None else join.said for join in found}))


def settings_of_norms(architecture: Architecture) -> str:
    """What numbers the norms compute with: `eps 1e-06`; those of different norms one after the other."""
    a = architecture
    norms = (a.norm, a.first, a.last, *(block.norm for _, _, block in a.blocks()))
    found = (norm.model_dump(exclude={"kind"}) for norm in norms if norm is not None)
    return ", ".join(dict.fromkeys(f"{name} {value:g}" for numbers in found for name, value in numbers.items()))


def _classes(given: Architecture, wanted: Architecture, name: str, anchor: str) -> list[str]:
    if given.head.labels and wanted.head.labels:
        if len(set(given.head.labels)) < len(given.head.labels) or set(given.head.labels) != set(wanted.head.labels):
            missing = sorted(set(wanted.head.labels) ^ set(given.head.labels))
            raise BadOption(
                f"the classes of {name} and {anchor} are not the same: {', '.join(missing[:5])} in one only; classes are matched "
                "by name and none is dropped: train both for the same classes, with wb train --from"
            )
        return (
            []
            if given.head.labels == wanted.head.labels
            else [f"the classes of {name} are put into the order of {anchor}"]
        )
    if given.head.classes != wanted.head.classes:
        raise BadOption(
            f"{name} has {given.head.classes} classes and {anchor} has {wanted.head.classes}; train both for the same classes"
        )
    return [
        f"{name} or {anchor} has no class names: their {given.head.classes} classes are taken to be in the same order"
    ]


def classes_ordered(model: Model, to: Architecture) -> Model:
    """`model` with classes in the order of `to`."""
    own = model.architecture.head.labels
    if own == to.head.labels:
        return model
    if not own or not to.head.labels:  # classes are assumed to be in the same order
        return replace(model, architecture=model.architecture.with_labels(to.head.labels))
    order = Select(torch.tensor([own.index(label) for label in to.head.labels]))
    axes = axes_of(build(model.architecture, "meta"))
    architecture = model.architecture.with_labels(to.head.labels)
    return replace(model, architecture=architecture, weights=remap(model.weights, axes, {"classes": order}))


def _close(one: ImageInput, other: ImageInput) -> bool:
    pairs = zip((*one.mean, *one.std), (*other.mean, *other.std), strict=True)
    return all(abs(a - b) <= _CLOSE for a, b in pairs)


def _with_input(model: Model, given: Input) -> Model:
    return replace(model, architecture=model.architecture.model_copy(update={"input": given}))
