"""ConvNeXt of transformers and timm, and of the published code.

Source: transformers, `ConvNextForImageClassification`; timm, `convnext.py`; https://github.com/facebookresearch/ConvNeXt.
Limits: stems of one convolution, layer norms with gain and shift, no hidden layer in the classifier, and no global response
normalisation, which the second version has.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import BadArtefact, Unsupported, printable
from wb.core.records import Classify, ImageInput, LayerNorm, Nowhere, PatchStem, Scale
from wb.core.records.base import Activation
from wb.core.records.ffns import ConvNext
from wb.core.records.merges import NormedConv
from wb.foreign.families.hf import activation_name
from wb.foreign.families.staged.timm_swin import image_side
from wb.foreign.family import ACTIVATIONS, Family, Library, Seen, labelled, same, timm_config
from wb.foreign.rule import Rule, norm, pair, rule, within

FLAT = "m d -> m d 1 1"  # a linear map as a convolution
MERGE = (*pair("0", "gain", "shift"), *pair("1", "merge", "merge_bias"))
USUAL = 224  # pixels a side of images
RATIO = 4  # hidden units to a channel, in every published one
# What timm's names of architectures mean where that is not what others have: what norms add, and the activation.
TIMM: Mapping[str, tuple[float, Activation]] = {
    "convnext_xxlarge": (1e-5, "gelu"),
    "test_convnext": (1e-5, "gelu_tanh"),
    "test_convnext2": (1e-5, "gelu_tanh"),
    "test_convnext3": (1e-5, "silu"),
}
REFUSED = {  # parts of names of tensors of timm -> what they are
    "head.pre_logits.": "its classifier has a hidden layer",
    "stem.2.": "its stem has two convolutions",
    "stem.3.": "its stem has two convolutions",
}


def parts(convolution: str, normed: str, up: str, down: str, scale: str, form: str = "") -> tuple[Rule, ...]:
    """The rules of a block, of what a layout calls its parts."""
    return (
        *pair(convolution, "ffn.filters", "ffn.filters_bias"),
        *pair(normed, "ffn.gain", "ffn.shift"),
        *pair(up, "ffn.up", "ffn.up_bias", form),
        *pair(down, "ffn.down", "ffn.down_bias", form),
        rule(scale, "join2.scale"),
    )


def picture(seen: Seen) -> int:
    """The side of images for a network that takes any: what is given, what the configuration says, or else a usual one."""
    side = seen.given.image_size or image_side(seen)
    if side is None:
        seen.notes.append(f"images are taken to be {USUAL}x{USUAL}; --image-size says another size")
    return side or USUAL


class Numbers(NamedTuple):
    """The numbers of a ConvNeXt: widths, depths, sides of kernels and hidden units are of each stage."""

    image: ImageInput
    patch: int
    widths: Sequence[int]
    depths: Sequence[int]
    kernels: Sequence[int]
    mlps: Sequence[int]
    classes: int
    labels: tuple[str, ...]
    activation: Activation
    eps: float
    last: float  # what the last norm adds
    scaled: bool = True  # whether there are layer scales
    pooled: bool = True  # whether the last norm stands behind the pooling


def convnext(p: Numbers) -> Architecture:
    """The architecture of a ConvNeXt."""
    stages = []
    for i, (width, depth, kernel, mlp) in enumerate(zip(p.widths, p.depths, p.kernels, p.mlps, strict=True)):
        ffn = ConvNext.model_validate({"mlp": mlp, "kernel": kernel, "activation": p.activation, "eps": p.eps})
        block = Block(ffn=ffn, join=Scale() if p.scaled else None)
        stages.append(Stage(embed=width, blocks=(block,) * depth, merge=NormedConv(eps=p.eps) if i else None))
    head = {"classes": p.classes, "labels": p.labels, "normed": "pooled" if p.pooled else "tokens"}
    return Architecture(
        input=p.image,
        stem=PatchStem(patch=p.patch),
        stages=tuple(stages),
        head=Classify.model_validate(head),
        norm=LayerNorm(eps=p.eps),
        position=Nowhere(),
        first=LayerNorm(eps=p.eps),
        last=LayerNorm(eps=p.last),
    )


class Layout(Family):
    """What all layouts of ConvNeXt have in common: the same parts under other names. `{i}` is a stage, `{j}` a block."""

    options: ClassVar[Sequence[str]] = ("activation", "eps", "image_size")
    stem: ClassVar[str]
    begins: ClassVar[str]  # the norm behind the stem
    merge: ClassVar[str]
    block: ClassVar[str]
    block_rules: ClassVar[Sequence[Rule]]
    ends: ClassVar[str]  # the last norm
    head: ClassVar[str]

    def rules(self, a: Architecture) -> Iterator[Rule]:
        yield from pair(self.stem, "stem.patches", "stem.patches_bias")
        yield from norm(self.begins, "first")
        for i, stage in enumerate(a.stages):
            for j in range(len(stage.blocks)):
                yield from within(self.block.format(i=i, j=j), f"stages.{i}.{j}.", self.block_rules)
            yield from within(self.merge.format(i=i + 1), f"merges.{i}.", MERGE)
        yield from norm(self.ends if a.head.normed == "pooled" else "norm_pre", "norm")
        yield from pair(self.head, "head", "head_bias")


class HfConvNext(Layout):
    """Convolutions of 7x7 places, and four times as many hidden units as channels."""

    name = "hf-convnext"
    title = "ConvNeXt of transformers"
    library: ClassVar[Library] = "hf"
    options = ("image_size",)
    stem, begins = "convnext.embeddings.patch_embeddings", "convnext.embeddings.layernorm"
    merge = "convnext.encoder.stages.{i}.downsampling_layer."
    block = "convnext.encoder.stages.{i}.layers.{j}."
    block_rules = parts("dwconv", "layernorm", "pwconv1", "pwconv2", "layer_scale_parameter")
    ends, head = "convnext.layernorm", "classifier"

    def recognises(self, seen: Seen) -> bool:
        return seen.config.get("model_type") == "convnext"

    def architecture(self, seen: Seen) -> Architecture:
        widths, depths = seen.sizes("hidden_sizes"), seen.sizes("depths")
        if len(depths) != len(widths):
            raise BadArtefact(f"config.json has depths of {len(depths)} stages and hidden_sizes of {len(widths)}")
        classes = seen.classes("classifier")
        side = seen.given.image_size or seen.whole("image_size", 224)
        return convnext(
            Numbers(
                image=seen.image(seen.whole("num_channels", 3), side, side),
                patch=seen.whole("patch_size", 4),
                widths=widths,
                depths=depths,
                kernels=[7] * len(widths),
                mlps=[RATIO * width for width in widths],
                classes=classes,
                labels=seen.labels(classes),
                activation=seen.activation("hidden_act", "gelu"),
                eps=1e-6,
                last=seen.number("layer_norm_eps", 1e-12),
                scaled=seen.number("layer_scale_init_value", 1e-6) > 0,
            )
        )

    def config(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
        blocks = [block for _, _, block in a.blocks()]
        ffns = [ffn for block in blocks if isinstance(ffn := block.ffn, ConvNext)]
        scaled = same((block.join is not None for block in blocks), "layer scales", self.title)
        begun = config.get("layer_scale_init_value", 0)
        scale = begun if isinstance(begun, int | float) and begun > 0 else 1e-6
        found = {
            "model_type": "convnext",
            "architectures": ["ConvNextForImageClassification"],
            "hidden_sizes": [stage.embed for stage in a.stages],
            "depths": [len(stage.blocks) for stage in a.stages],
            "num_stages": len(a.stages),
            "hidden_act": activation_name(same((f.activation for f in ffns), "activations", self.title), config),
            "layer_norm_eps": a.last.eps if isinstance(a.last, LayerNorm) else None,
            "layer_scale_init_value": scale if scaled else 0.0,  # transformers takes no whole number
            "image_size": a.image.height,
            "patch_size": a.stem.patch,
            "num_channels": a.image.channels,
            **labelled(a),
        }
        left_out = {*found, "stage_names", "out_features", "out_indices"}  # of stages that there were
        return {**{key: value for key, value in config.items() if key not in left_out}, **found}


class Unconfigured(Layout):
    """A layout whose sizes are read off its shapes."""

    @abstractmethod
    def sizes(self, seen: Seen) -> tuple[list[int], list[str]]:
        """The depth of each stage, and what the names in its first block begin with."""

    def settled(self, seen: Seen) -> tuple[float, Activation]:
        """What norms add, and the activation."""
        return seen.given.eps or 1e-6, seen.given.activation or "gelu"

    def architecture(self, seen: Seen) -> Architecture:
        depths, first = self.sizes(seen)
        filters = [seen.shape(block + self.block_rules[0].theirs[0], 4) for block in first]
        _, channels, patch, _ = seen.shape(f"{self.stem}.weight", 4)
        classes = seen.classes(self.head)
        eps, activation = self.settled(seen)
        side = picture(seen)
        return convnext(
            Numbers(
                image=seen.image(channels, side, side),
                patch=patch,
                widths=[shape[0] for shape in filters],
                depths=depths,
                kernels=[shape[-1] for shape in filters],
                mlps=[RATIO * shape[0] for shape in filters],
                classes=classes,
                labels=seen.labels(classes),
                activation=activation,
                eps=eps,
                last=eps,
                scaled=first[0] + self.block_rules[-1].theirs[0] in seen.shapes,
                pooled=f"{self.ends}.weight" in seen.shapes,
            )
        )


class TimmConvNext(Unconfigured):
    """timm's, whose perceptrons are linear maps of tokens."""

    name = "timm-convnext"
    title = "ConvNeXt of timm"
    library: ClassVar[Library] = "timm"
    stem, begins = "stem.0", "stem.1"
    merge, block = "stages.{i}.downsample.", "stages.{i}.blocks.{j}."
    block_rules = parts("conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma")
    ends, head = "head.norm", "head.fc"
    rank: ClassVar[int] = 2  # of the weights of its perceptrons

    def recognises(self, seen: Seen) -> bool:
        named = {"stem.0.weight", "stages.0.blocks.0.conv_dw.weight", "head.fc.weight"} <= seen.shapes.keys()
        plain = len(seen.shapes.get("stages.0.blocks.0.mlp.fc1.weight", ())) == self.rank
        return named and plain and not any(".grn." in name for name in seen.shapes)

    def sizes(self, seen: Seen) -> tuple[list[int], list[str]]:
        for begins, what in REFUSED.items():
            if any(name.startswith(begins) for name in seen.shapes):
                raise Unsupported(f"{what}, which no record of wb has")
        if "stem.1.bias" not in seen.shapes:
            raise Unsupported("its norms have no bias, as RMS norms; those of ConvNeXts in wb are layer norms")
        depths = seen.depths(r"stages\.(\d+)\.blocks\.(\d+)\.")
        return depths, [f"stages.{i}.blocks.0." for i in range(len(depths))]

    def settled(self, seen: Seen) -> tuple[float, Activation]:
        seen.needs({"global_pool": "avg", "output_stride": 32})
        name = str(seen.config.get("architecture", "")).partition(".")[0]
        eps, activation = TIMM.get(name, (1e-6, "gelu"))
        said = seen.model_arguments.get("act_layer", activation)
        if said not in ACTIVATIONS:
            raise Unsupported(
                f"config.json has act_layer={printable(repr(said), 60)}; there are {', '.join(ACTIVATIONS)}"
            )
        added = seen.model_arguments.get("norm_eps")
        eps = float(added) if isinstance(added, int | float) else eps
        return seen.given.eps or eps, seen.given.activation or ACTIVATIONS[said]

    def config(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
        depths = [len(stage.blocks) for stage in a.stages]
        return timm_config(a, config, depths=depths, dims=[stage.embed for stage in a.stages])


class TimmConvolutions(TimmConvNext):
    """timm's, whose perceptrons are 1x1 convolutions (`conv_mlp`)."""

    name = "timm-convnext-conv"
    title = "ConvNeXt of timm with 1x1 convolutions"
    block_rules = parts("conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma", FLAT)
    rank: ClassVar[int] = 4


class OriginalConvNext(Unconfigured):
    """The layout of the published code."""

    name = "convnext"
    title = "ConvNeXt of the published code"
    library: ClassVar[Library] = "other"
    stem, begins = "downsample_layers.0.0", "downsample_layers.0.1"
    merge, block = "downsample_layers.{i}.", "stages.{i}.{j}."
    block_rules = parts("dwconv", "norm", "pwconv1", "pwconv2", "gamma")
    ends, head = "norm", "head"

    def recognises(self, seen: Seen) -> bool:
        named = {"downsample_layers.0.0.weight", "stages.0.0.dwconv.weight", "head.weight"} <= seen.shapes.keys()
        return named and not any(".grn." in name for name in seen.shapes)

    def sizes(self, seen: Seen) -> tuple[list[int], list[str]]:
        depths = seen.depths(r"stages\.(\d+)\.(\d+)\.")
        return depths, [f"stages.{i}.0." for i in range(len(depths))]
