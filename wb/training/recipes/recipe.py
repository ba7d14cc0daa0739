"""How a network is trained, as frozen, validated data, and what a user may ask of it; imports no torch."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field

from wb.core.commands.option import Cli
from wb.core.errors import BadOption
from wb.core.records import Frozen

Policy = Literal["none", "shift", "crop", "resize", "trivial"]
Flip = Literal["off", "try", "on"]
Share = Annotated[float, Field(ge=0, le=1)]
OptimizerName = Literal["adamw", "muon", "interleaved"]
RecipeName = Literal["auto", "plain", "light", "medium", "strong", "text", "prose"]

AVERAGED = 2_000  # steps from which on the average of the weights is worth keeping
_AS_THE_RECIPE = "as the recipe says"
_POLICIES = {
    "none": "images as they are",
    "shift": "small shifts",
    "crop": "crops with reflected borders",
    "resize": "resized crops",
    "trivial": "crops and TrivialAugment",
}
_FLIPS = {
    "off": "no flips",
    "try": "flips, if a network trained without them knows mirrored images too",
    "on": "flips",
}


class Recipe(Frozen):
    """A training recipe: optimizer, its schedule, what is done to images, and what is kept. The defaults are recipe `plain`.

    `learning_rate` is the peak. `schedule` "cycle" is the one-cycle schedule, which also moves Adam's first moment; "cosine"
    rises linearly in the share `warmup` of the steps and falls to the share `floor` of the peak. `weight_decay` holds for
    linear maps alone. `augment` is what moves images: `shift` moves whole batches by few pixels, `crop` cuts windows out of
    images with reflected borders of the share `pad`, `resize` windows of any size down to the share `least` of the area,
    `trivial` does `crop` and one random change. `flip` mirrors half the images: `try` first trains without it for a tenth of
    the epochs, and leaves it out where mirrored images turn out to be other ones. `colour` is the reach of a jitter. `erase`
    is the share of images that lose a rectangle; `mixup` and `cutmix` are shares of batches. `average` keeps a moving average
    of the weights, which is what is scored and exported. `resolution` trains half the epochs on small images and most of the
    others on larger ones; of passages the first half of the epochs sees halves. `optimizer` "muon" is for matrices, with
    `matrices` times the learning rate; AdamW trains the rest (`wb.training.optimizer`). "interleaved" is AdamW whose moments a
    GPU's host keeps (`wb.scale.states.interleaved`). With `bf16` products and convolutions
    are computed in 16 bits (`wb.training.arithmetic`).
    `second` is the decay of Adam's second moment. Dropout is of the first block's input, of what sub-layers contribute, and of
    what the head reads; `merge_dropout` of the merges with which texts are written, anew in each epoch. `rdrop` is the weight
    with which two runs over each batch, with other units dropped, are to agree (`wb.training.recipes.agreeing`). In the share
    `layered` of the steps layer norms give way to re-parameterized ones (`wb.training.recipes.layered`), where there are any.
    `paths` is what a path ensemble's sums on the way learn from what it answers (`wb.training.recipes.paths`).
    """

    name: str = "plain"
    why: str = ""
    epochs: Annotated[int, Field(ge=1)] = 60
    learning_rate: Annotated[float, Field(ge=0)] = 3e-3
    batch: Annotated[int, Field(ge=1)] = 32
    weight_decay: Annotated[float, Field(ge=0)] = 0.05
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    clip: Annotated[float, Field(gt=0)] = 5.0
    augment: Policy = "shift"
    schedule: Literal["cycle", "cosine"] = "cycle"
    warmup: Share = 0.3
    floor: Share = 0.0
    pad: Share = 0.12
    least: Share = 0.5
    flip: Flip = "off"
    colour: Share = 0.0
    erase: Share = 0.0
    mixup: Share = 0.0
    cutmix: Share = 0.0
    average: bool = False
    resolution: bool = False
    bf16: bool = False
    optimizer: OptimizerName = "adamw"
    matrices: Annotated[float, Field(gt=0)] = 1.0
    second: Annotated[float, Field(gt=0, lt=1)] = 0.999
    embedding_dropout: Share = 0.0
    dropout: Share = 0.0
    head_dropout: Share = 0.0
    merge_dropout: Share = 0.0
    rdrop: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    layered: Share = 0.0
    paths: Share = 0.0

    def steps(self, examples: int) -> int:
        """Number of steps in all epochs."""
        return self.epochs * math.ceil(examples / self.batch)

    @property
    def arguments(self) -> dict[str, Any]:
        """What a history step records of it: what the first version had, and whatever is not as in recipe `plain`."""
        always = ("epochs", "learning_rate", "batch", "weight_decay", "label_smoothing", "clip", "augment")
        plain = Recipe()
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in values.items() if name in always or value != getattr(plain, name)}

    @property
    def drops(self) -> bool:
        """Whether units are dropped."""
        return max(self.embedding_dropout, self.dropout, self.head_dropout) > 0

    @property
    def _dropped(self) -> str:
        shares = {
            "embeddings": self.embedding_dropout,
            "sub-layers": self.dropout,
            "what the head reads": self.head_dropout,
        }
        return ", ".join(f"{share:.0%} of {what} dropped" for what, share in shares.items() if share)

    @property
    def text(self) -> str:
        """The recipe in words: `light (for 65,606 parameters …): crops with reflected borders, flips, …`."""
        parts = [
            *(() if self.name in ("text", "prose") else (_POLICIES[self.augment], _FLIPS[self.flip])),
            f"colours by {self.colour:g}" if self.colour else "",
            f"{self.erase:.0%} erased" if self.erase else "",
            f"mixup in {self.mixup:.0%} of the batches" if self.mixup else "",
            f"cutmix in {self.cutmix:.0%} of the batches" if self.cutmix else "",
            f"{self.merge_dropout:.0%} of the merges of words dropped" if self.merge_dropout else "",
            self._dropped,
            f"each batch twice, whose answers agree by {self.rdrop:g} (R-Drop)" if self.rdrop else "",
            f"smoothing {self.label_smoothing:g}" if self.label_smoothing else "",
            f"weight decay {self.weight_decay:g}",
            f"learning rate {self.learning_rate:.2g} ({'one cycle' if self.schedule == 'cycle' else 'cosine'}, "
            f"{self.warmup:.0%} rising), batches of {self.batch}",
            f"{'halves of passages' if self.name == 'prose' else 'small images'} first" if self.resolution else "",
            "the average of the weights is kept" if self.average else "",
            {"muon": "Muon for matrices", "interleaved": "moments kept by the processor"}.get(self.optimizer, ""),
            "computed in bf16" if self.bf16 else "",
            f"layer norms give way in the first {self.layered:.0%} of the steps" if self.layered else "",
            f"sums of the first paths learn from the answer, by {self.paths:g} of the loss" if self.paths else "",
        ]
        why = f" ({self.why})" if self.why else ""
        return f"{self.name}{why}: {', '.join(part for part in parts if part)}"


class RecipeOptions(Frozen):
    """What a user asks of a recipe; None is what the recipe says."""

    def check_once(self, why: str) -> None:
        """Raises `BadOption` for R-Drop where there is none."""
        if self.rdrop:
            raise BadOption(f"--rdrop {self.rdrop:g} is not for this: {why}; leave it out")

    recipe: Annotated[
        RecipeName,
        Field(
            description="auto: by the size of network and data; plain: shifts alone; light, medium, strong: more and more "
            "augmentation; text: that of texts; prose: that of passages whose next token is foreseen."
        ),
    ] = "auto"
    augment: Annotated[
        Policy | None,
        Field(description="none, shift, crop, resize (crops of any size), trivial (TrivialAugment)."),
        Cli(default=_AS_THE_RECIPE),
    ] = None
    flip: Annotated[
        bool | None,
        Field(description="Mirror half the images."),
        Cli(default="where classes stay what they are"),
    ] = None
    colour: Annotated[
        Share | None, Field(description="Reach of a colour jitter, 0 to 1."), Cli(default=_AS_THE_RECIPE)
    ] = None
    erase: Annotated[
        Share | None, Field(description="Share of images that lose a rectangle."), Cli(default=_AS_THE_RECIPE)
    ] = None
    mixup: Annotated[Share | None, Field(description="Share of batches with mixup."), Cli(default=_AS_THE_RECIPE)] = (
        None
    )
    cutmix: Annotated[Share | None, Field(description="Share of batches with CutMix."), Cli(default=_AS_THE_RECIPE)] = (
        None
    )
    smoothing: Annotated[
        Annotated[float, Field(ge=0, lt=1)] | None,
        Field(description="Label smoothing."),
        Cli(default=_AS_THE_RECIPE),
    ] = None
    dropout: Annotated[
        Share | None,
        Field(description="Share of what sub-layers contribute that is dropped."),
        Cli(default=_AS_THE_RECIPE),
    ] = None
    rdrop: Annotated[
        Annotated[float, Field(ge=0, allow_inf_nan=False)] | None,
        Field(description="Run twice over each batch, with other units dropped, and agree by this weight (R-Drop)."),
        Cli(default="no; in a search 2 for what learns long from texts"),
    ] = None
    merge_dropout: Annotated[
        Share | None,
        Field(description="Of texts: share of the merges of words that are dropped, anew in each epoch (BPE-dropout)."),
        Cli(default=_AS_THE_RECIPE),
    ] = None
    weight_decay: Annotated[
        Annotated[float, Field(ge=0, allow_inf_nan=False)] | None,
        Field(description="Of linear maps; gains, shifts, biases and positions have none."),
        Cli(default=_AS_THE_RECIPE),
    ] = None
    warmup: Annotated[
        Share | None,
        Field(description="Share of the steps in which the learning rate rises."),
        Cli(default=_AS_THE_RECIPE),
    ] = None
    resolution: Annotated[
        bool | None,
        Field(description="Train on small images first, for networks that take other sizes; on halves of passages."),
        Cli(default="no; yes for passages"),
    ] = None
    ema: Annotated[
        bool | None,
        Field(description="Keep the moving average of the weights."),
        Cli(default=f"from {AVERAGED:,} steps on"),
    ] = None
    optimizer: Annotated[
        OptimizerName | None,
        Field(
            description="adamw; muon for matrices and AdamW for the rest; interleaved: of networks on a GPU, AdamW with moments "
            "kept by the processor, which updates a part of the weights."
        ),
        Cli(default="muon for networks of convolutions and for passages"),
    ] = None
    bf16: Annotated[
        bool | None,
        Field(description="Compute in 16 bits while training."),
        Cli(default="networks of convolutions and passages, where the processor has bf16"),
    ] = None
