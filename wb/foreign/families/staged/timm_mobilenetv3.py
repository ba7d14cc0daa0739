"""timm's MobileNetV3, large and small.

Source: timm, `mobilenetv3.py`; Howard et al., "Searching for MobileNetV3", 2019. A block that halves the picture or changes the
width is a merge here; pooling and the convolution behind it are the merge of a last stage with one token.
Limits: shapes tell neither strides nor activations: they are those of the published networks, with as many blocks in each of
timm's stages. Networks of TensorFlow (`tf_`), whose pictures are padded at one side and whose norms add another number to
variances, are refused, and so are those without gates (`minimal`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import Unsupported, printable
from wb.core.records import Classify, Merge, Nowhere, Unnormed
from wb.core.records.base import Activation
from wb.core.records.ffns import Inverted, Squeeze
from wb.core.records.merges import Bottleneck, Point, SeparableMerge
from wb.core.records.stems import Separable, SingleStem
from wb.foreign.families.staged.convnext import picture
from wb.foreign.family import Family, Library, Seen, timm_config
from wb.foreign.rule import Rule, pair, rule, within

DEPTHS: Mapping[str, tuple[int, ...]] = {
    "small": (1, 2, 3, 2, 3, 1),
    "large": (1, 2, 3, 4, 2, 3, 1),
}  # of timm's stages
STRIDED: Mapping[str, frozenset[int]] = {"small": frozenset({0, 1, 2, 4}), "large": frozenset({1, 2, 3, 5})}
ACTIVE: Mapping[str, int] = {"small": 2, "large": 3}  # the first stage with hard swish; those before it have ReLU
NEEDED: Mapping[str, object] = {
    "global_pool": "avg", "output_stride": 32, "act_layer": "hard_swish", "bn_eps": 1e-5, "pad_type": "",
}  # fmt: skip
GATES = (
    *pair("se.conv_reduce", "squeeze", "squeeze_bias", "r m -> r m 1 1"),
    *pair("se.conv_expand", "excite", "excite_bias", "m r -> m r 1 1"),
)


class Place(NamedTuple):
    """A block of timm's: its stage and number, and the stage and block that it is here; a merge is no block."""

    stage: int
    number: int
    ours: int
    block: int | None

    @property
    def theirs(self) -> str:
        """What the names of its tensors begin with."""
        return f"blocks.{self.stage}.{self.number}."


class TimmMobileNetV3(Family):
    """Bottlenecks, some with gates; the classifier stands behind a convolution of what is pooled."""

    name = "timm-mobilenetv3"
    title = "MobileNetV3 of timm"
    library: ClassVar[Library] = "timm"
    named: ClassVar[bool] = True
    ignored = (r".*\.num_batches_tracked",)
    options = ("image_size",)

    def recognises(self, seen: Seen) -> bool:
        named = {"conv_stem.weight", "conv_head.weight", "blocks.0.0.conv_dw.weight", "classifier.weight"}
        count = seen.count(r"blocks\.(\d+)\.")
        return named <= seen.shapes.keys() and f"blocks.{count - 1}.0.conv.weight" in seen.shapes

    def architecture(self, seen: Seen) -> Architecture:
        seen.needs(NEEDED)
        size = _checked(seen)
        side, classes = picture(seen), seen.classes("classifier")
        width, channels = seen.shape("conv_stem.weight", 4)[:2]
        stages: list[tuple[int, Merge | None, list[Block]]] = [(width, None, [])]
        for i, depth in enumerate(DEPTHS[size][:-1]):
            for j in range(depth):
                name = f"blocks.{i}.{j}"
                stride = 2 if i in STRIDED[size] and j == 0 else 1
                if (i, j, size) == (0, 0, "large"):  # is the stem's
                    continue
                before, merge, ffn = (
                    stages[-1][0],
                    *_parts(seen, name, stride, "hardswish" if i >= ACTIVE[size] else "relu"),
                )
                after = seen.shape(f"{name}.{_last(name, seen)}.weight", 4)[0]
                if stride == 1 and before == after:
                    stages[-1][2].append(Block(ffn=ffn))
                else:
                    stages.append((after, merge, []))
        last = len(DEPTHS[size]) - 1
        for name, pooled in ((f"blocks.{last}.0.conv", False), ("conv_head", True)):
            stages.append((seen.shape(f"{name}.weight", 4)[0], Point(pooled=pooled), []))
        first = Separable.model_validate({"kernel": _kernel(seen, "blocks.0.0")}) if size == "large" else None
        return Architecture(
            input=seen.image(channels, side, side),
            stem=SingleStem(patch=2, separable=first),
            stages=tuple(Stage(embed=e, merge=m, blocks=tuple(b), plane="map") for e, m, b in stages),
            head=Classify(classes=classes, labels=seen.labels(classes)),
            norm=Unnormed(),
            position=Nowhere(),
            last=None,
        )

    def rules(self, a: Architecture) -> Iterator[Rule]:
        yield from _normed("conv_stem", "bn1", "stem.conv")
        if isinstance(a.stem, SingleStem) and a.stem.separable is not None:
            yield from _normed("blocks.0.0.conv_dw", "blocks.0.0.bn1", "stem.filters")
            yield from _normed("blocks.0.0.conv_pw", "blocks.0.0.bn2", "stem.point")
        for at in _places(a):
            ours = f"merges.{at.ours - 1}." if at.block is None else f"stages.{at.ours}.{at.block}.ffn."
            if at.block is None and isinstance(a.stages[at.ours].merge, SeparableMerge):
                names = [("conv_dw", "bn1", "filters"), ("conv_pw", "bn2", "point")]
            else:
                names = [("conv_pw", "bn1", "up"), ("conv_dw", "bn2", "mid"), ("conv_pwl", "bn3", "down")]
            for conv, norm, weight in names:
                flat = at.block is not None and weight != "mid"
                yield from within(at.theirs, ours, _normed(conv, norm, weight, "a b -> a b 1 1" if flat else ""))
            yield from within(at.theirs, ours, GATES)
        last = len(DEPTHS[_size(a)]) - 1
        yield from _normed(f"blocks.{last}.0.conv", f"blocks.{last}.0.bn1", f"merges.{len(a.stages) - 3}.point")
        yield from pair("conv_head", f"merges.{len(a.stages) - 2}.point", f"merges.{len(a.stages) - 2}.point_bias")
        yield from pair("classifier", "head", "head_bias")

    def config(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
        return timm_config(a, config)  # the name alone says the sizes


def _checked(seen: Seen) -> str:
    """Whether it is a small or a large one. Raises `Unsupported` for any other."""
    name = str(seen.config.get("architecture", ""))
    lacking = {
        "tf_": "pictures are padded at one side",
        "minimal": "the networks have no gates",
        "_rw": "norms are others",
    }
    for part, why in lacking.items():
        if part in name:
            raise Unsupported(
                f"it is a {printable(name, 60)}, where {why}; mobilenetv3_large and _small without that are read"
            )
    found = tuple(seen.depths(r"blocks\.(\d+)\.(\d+)\."))
    size = next((size for size, depths in DEPTHS.items() if depths == found), None)
    if size is None:
        listed = " and ".join(f"{size} {', '.join(map(str, depths))}" for size, depths in DEPTHS.items())
        raise Unsupported(f"its stages have {', '.join(map(str, found))} blocks, and published ones {listed}")
    if "conv_head.bias" not in seen.shapes or "blocks.0.0.conv_dw.bias" in seen.shapes:
        raise Unsupported("its convolutions have other biases than a MobileNetV3's")
    if not name:
        seen.notes.append(f"strides, activations and padding are taken to be those of timm's mobilenetv3_{size}_100")
    return size


def _parts(seen: Seen, name: str, stride: int, activation: Activation) -> tuple[Merge, Inverted | None]:
    """A block of timm's as a merge, and as a feed-forward where it can be one."""
    kernel, se = _kernel(seen, name), None
    if f"{name}.se.conv_reduce.weight" in seen.shapes:
        se = Squeeze(width=seen.shape(f"{name}.se.conv_reduce.weight", 4)[0])
    shared = {"kernel": kernel, "activation": activation, "se": se}
    if f"{name}.conv_pwl.weight" not in seen.shapes:
        if stride == 1:
            raise Unsupported(f"{name} has no expansion and does not halve its picture, which no record has")
        return SeparableMerge.model_validate(shared), None
    mlp = seen.shape(f"{name}.conv_dw.weight", 4)[0]
    merge = Bottleneck.model_validate({"mlp": mlp, "stride": stride, **shared})
    return merge, Inverted.model_validate({"mlp": mlp, **shared})


def _last(name: str, seen: Seen) -> str:
    """The convolution that writes what a block gives."""
    return "conv_pwl" if f"{name}.conv_pwl.weight" in seen.shapes else "conv_pw"


def _kernel(seen: Seen, name: str) -> int:
    """The side of a block's filters."""
    return seen.shape(f"{name}.conv_dw.weight", 4)[2]


def _size(a: Architecture) -> str:
    return "large" if isinstance(a.stem, SingleStem) and a.stem.separable is not None else "small"


def _places(a: Architecture) -> Iterator[Place]:
    """Every block of timm's, but that of the stem and the last stage's, with its place here."""
    size = _size(a)
    theirs = [(i, j) for i, depth in enumerate(DEPTHS[size][:-1]) for j in range(depth)][size == "large" :]
    ours = [
        (i, j) for i, stage in enumerate(a.stages[:-2]) for j in ((None,) if i else ()) + (*range(len(stage.blocks)),)
    ]
    for (stage, number), (i, j) in zip(theirs, ours, strict=True):
        yield Place(stage, number, i, j)


def _normed(conv: str, norm: str, ours: str, form: str = "") -> Iterator[Rule]:
    """The rules of a convolution and of the norm behind it."""
    yield rule(f"{conv}.weight", ours, form)
    for theirs, what in (("weight", "gain"), ("bias", "shift"), ("running_mean", "mean"), ("running_var", "variance")):
        yield rule(f"{norm}.{theirs}", f"{ours}_{what}")
