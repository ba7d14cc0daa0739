"""The choice of a recipe by the size of network and data, and what a user asked for in its place; imports no torch.

Source: the sizes of augmentation are those of Steiner et al., "How to train your ViT?", 2021, https://arxiv.org/abs/2106.10270
(less for small networks and short runs), the average that of Tarvainen and Valpola's "Mean teachers", 2017.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from wb.core.errors import BadOption
from wb.data import Dataset
from wb.training.recipes.recipe import AVERAGED, Flip, Recipe, RecipeOptions

SMALL_SIDE = 24  # images below it are digits and icons, which a shift of a pixel changes enough
SMALL, LARGE = 300_000, 3_000_000  # parameters
SMALL_CONVOLUTIONS = 150_000  # networks of convolutions learn their data by heart with fewer
LONG = 100  # epochs from which on mixing images pays
BRIEF = 20  # epochs below which no image is seen often enough to be learned by heart
LASTING, RDROP = 32, 2.0  # epochs of texts from which on R-Drop pays, and its weight
RATE, RATE_BATCH = 3e-3, 64  # in long trainings the peak of the learning rate is RATE * sqrt(batch / RATE_BATCH)

# Of long trainings; short ones need more steps and one cycle, as recipe `plain` has them.
_LASTING: Mapping[str, Any] = {"schedule": "cosine", "warmup": 0.05, "floor": 0.01, "batch": RATE_BATCH}
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "light": {"augment": "crop", "label_smoothing": 0.0, "weight_decay": 0.02},
    "medium": {"augment": "trivial", "erase": 0.1, "cutmix": 0.3},
    "strong": {"augment": "trivial", "erase": 0.25, "mixup": 0.2, "cutmix": 0.5},
    "text": {  # banking77, one block of 128: 91.6 % in a CPU minute (docs/results.md)
        "augment": "none",
        "learning_rate": 2e-3,
        "batch": 64,
        "clip": 1.0,
        "warmup": 0.15,
        "second": 0.99,
        "embedding_dropout": 0.3,
        "dropout": 0.1,
        "head_dropout": 0.3,
        "merge_dropout": 0.06,
    },
    # Characters of Shakespeare, four blocks of 128, four epochs, 271 CPU seconds, three seeds: 1.484 nat on the last tenth.
    "prose": {
        "augment": "none",
        "optimizer": "muon",
        "learning_rate": 3e-3,
        "matrices": 3.0,
        "batch": 6,
        "weight_decay": 0.1,
        "label_smoothing": 0.0,
        "clip": 1.0,
        "schedule": "cosine",
        "warmup": 0.02,
        "second": 0.99,
        "resolution": True,
    },
}
# Of networks of convolutions, three to four points better on 3,500 photographs in the same time (docs/results.md).
_ORTHOGONAL: Mapping[str, Any] = {
    "optimizer": "muon",
    "learning_rate": 0.01,
    "weight_decay": 0.5,
    "label_smoothing": 0.1,
}
TEXT, PROSE = "text", "prose"
OF_TEXTS: Mapping[str, str] = {"classes": TEXT, "next": PROSE}  # by task
OF_IMAGES = ("augment", "flip", "colour", "erase", "mixup", "cutmix", "resolution")  # what is done to images alone
_MIXED = {"erase", "mixup", "cutmix", "colour"}  # fields of what changes images
# Of the rate from scratch, what trained weights are tuned with: less for wider streams, as steps add up over channels.
GENTLE, GENTLE_WIDTH = 1 / 3, 64
_CHANGED = {"smoothing": "label_smoothing", "ema": "average"}  # options with another name than the recipe's field


class Setting(NamedTuple):
    """What a recipe is chosen for: the network's `parameters`, training `images`, their shape, the epochs, and the classes."""

    parameters: int
    images: int
    shape: tuple[int, ...]  # channels, height, width; of texts nothing
    epochs: int
    classes: Sequence[str] = ()
    finetune: bool = False
    prepared: bool = False  # images are no longer in [0, 1]
    features: bool = False  # they are no images
    convolutions: bool = False
    noun: str = "images"
    task: str = "classes"

    @property
    def side(self) -> int:
        """The shorter side, in pixels."""
        return min(self.shape[1:])

    @property
    def text(self) -> str:
        """`65,606 parameters, 4,500 colour images of 32x32, 60 epochs`."""
        epochs = f"{self.epochs} epoch{'' if self.epochs == 1 else 's'}{' of fine-tuning' if self.finetune else ''}"
        if not self.shape:
            return f"{self.parameters:,} parameters, {self.images:,} {self.noun}, {epochs}"
        channels, height, width = self.shape
        images = "examples" if self.features else "grey images" if channels == 1 else "colour images"
        return f"{self.parameters:,} parameters, {self.images:,} {images} of {height}x{width}, {epochs}"


def chosen(
    options: RecipeOptions, setting: Setting, *, learning_rate: float | None = None, batch: int | None = None
) -> Recipe:
    """The recipe that `options` ask for, `auto` by the table of `RECIPES`; a given `learning_rate` or `batch` stands.

    Features that are no images are not augmented unless options ask for it. Below `LONG` epochs images are not mixed. Only
    trainings of `AVERAGED` steps and more have the cosine, larger batches and the average; below, more steps are worth more.

    Raises:
        BadOption: a change of colours of images that are prepared for a foreign network, or of features.
    """
    auto = options.recipe == "auto"
    name = _fitting(setting) if auto else options.recipe
    _check_kind(options, setting, name)
    values: dict[str, Any] = {"name": name, **RECIPES[name]}
    if setting.prepared and values.get("augment") == "trivial":
        values["augment"] = "crop"
    if setting.epochs < LONG:
        values |= {key: 0.0 for key in ("mixup", "cutmix") if key in values}
    if name not in ("plain", TEXT, PROSE):
        values["flip"] = _flip(setting)
        if Recipe(epochs=setting.epochs, batch=batch or RATE_BATCH).steps(setting.images) >= AVERAGED:
            values |= {
                **_LASTING,
                "learning_rate": RATE * math.sqrt((batch or RATE_BATCH) / RATE_BATCH),
                "average": True,
            }
        if setting.convolutions:
            values |= {**_ORTHOGONAL, "batch": RATE_BATCH * (2 if values.get("average") else 1)}
    given = {"learning_rate": learning_rate, "batch": batch, "epochs": setting.epochs, "why": f"for {setting.text}"}
    values |= {key: value for key, value in given.items() if value is not None}
    asked = _asked(options)
    if setting.features:
        values |= {"flip": "off", "augment": "none", **dict.fromkeys(values.keys() & _MIXED, 0.0)}
    if (setting.prepared or setting.features) and (asked.get("augment") == "trivial" or asked.get("colour")):
        raise BadOption(
            "--augment trivial and --colour change images in [0, 1], and these are "
            + (
                "features"
                if setting.features
                else "prepared for their network by --mean, --std, --scale or --preprocessor"
            )
            + "; choose --augment crop"
        )
    recipe = Recipe.model_validate(values | asked)
    _check_dropped(recipe)
    return recipe


def _check_dropped(recipe: Recipe) -> None:
    """Raises `BadOption` for R-Drop without dropout."""
    if recipe.rdrop and not recipe.drops:
        raise BadOption(
            f"--rdrop {recipe.rdrop:g} is of two runs with other units dropped, and recipe {recipe.name} drops none; "
            "add --dropout 0.1, or leave it out"
        )


def _check_kind(options: RecipeOptions, setting: Setting, name: str) -> None:
    """Raises `BadOption` for a recipe, or options of one, that are for data of another kind."""
    wanted = None if setting.shape else OF_TEXTS[setting.task]
    if (name if name in OF_TEXTS.values() else None) != wanted:
        raise BadOption(f"--recipe {name} is not for {setting.noun}; leave it out, and one that is for them is chosen")
    wrong = [field for field in OF_IMAGES if getattr(options, field) is not None]
    wrong = [field for field in wrong if (field, name) != ("resolution", PROSE)]
    if wanted is not None and wrong:
        raise BadOption(f"--{wrong[0]} is for images, and the data are {setting.noun}; leave it out")
    if name == PROSE and options.merge_dropout:
        raise BadOption("--merge-dropout is for texts with classes, and passages are cut from one text; leave it out")


def _fitting(setting: Setting) -> str:
    if not setting.shape:
        return OF_TEXTS[setting.task]
    if setting.side < SMALL_SIDE:
        return "plain"
    small = SMALL_CONVOLUTIONS if setting.convolutions else SMALL
    brief = setting.epochs < BRIEF  # 5 epochs of Fashion-MNIST, 13 MMAC: light 91.9 %, medium 90.8 %
    return "light" if brief or setting.parameters < small else "medium" if setting.parameters < LARGE else "strong"


def _flip(setting: Setting) -> Flip:
    """Grey images and classes with names of a character or a number are taken for signs, which mirroring may change."""
    signs = all(len(name) == 1 or name.isdigit() for name in setting.classes)
    return "off" if setting.shape[0] == 1 or signs else "try"


def _asked(options: RecipeOptions) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option in type(options).model_fields:
        value = getattr(options, option)
        if option == "recipe" or value is None:
            continue
        found[_CHANGED.get(option, option)] = ("on" if value else "off") if option == "flip" else value
    if "warmup" in found:
        found["schedule"] = "cosine"
    return found


def gentle(recipe: Recipe, width: int) -> Recipe:
    """`recipe` with a learning rate for the weights of a trained network of that width, the most channels of its stream.

    Muon keeps its own: its steps are as large whatever the weights are.

    Source: Yang et al., "Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter Transfer", 2022,
    https://arxiv.org/abs/2203.03466, for rates in inverse proportion to the width.
    """
    if recipe.optimizer == "muon":
        return recipe
    rate = GENTLE * min(1.0, GENTLE_WIDTH / width) * recipe.learning_rate
    return recipe.model_copy(update={"learning_rate": rate})


def lasting(recipe: Recipe, options: RecipeOptions) -> Recipe:
    """`recipe` of a network of texts that nobody teaches, with R-Drop where it lasts: half of the epochs, of twice the work.

    On banking77 more than 16 epochs change nothing without it (docs/results.md, `recipe banking77`).
    """
    if recipe.name != TEXT or options.rdrop is not None or recipe.epochs < LASTING:
        return recipe
    why = f"{recipe.why}, half of them, of each batch twice"
    return recipe.model_copy(update={"rdrop": RDROP, "epochs": recipe.epochs // 2, "why": why})


def recipe_for(
    options: RecipeOptions,
    parameters: float,
    data: Dataset,
    epochs: int,
    *,
    finetune: bool = False,
    learning_rate: float | None = None,
    batch: int | None = None,
    convolutions: bool = False,
) -> Recipe:
    """The recipe of a network with so many `parameters` on `data`, as `chosen`.

    That of `convolutions` and that of passages have Muon, and compute in bf16 where that is fast.
    """
    shape = (
        () if data.train.vocabulary is not None else (1 if data.repeated else data.channels, data.height, data.width)
    )
    setting = Setting(
        int(parameters),
        len(data.train),
        shape,
        epochs,
        data.classes,
        finetune,
        data.train.preparation is not None,
        data.features,
        convolutions,
        data.train.noun,
        data.task,
    )
    recipe = chosen(options, setting, learning_rate=learning_rate, batch=batch)
    if data.train.vocabulary is not None and data.train.vocabulary.merges is None and recipe.merge_dropout:
        if options.merge_dropout:
            raise BadOption(
                "--merge-dropout is for texts that are written by merging pieces (BPE), and this tokenizer has no merges; "
                "leave it out"
            )
        recipe = recipe.model_copy(update={"merge_dropout": 0.0})
    if options.bf16 is None and (recipe.name == PROSE or (convolutions and recipe.name != "plain")):
        from wb.training.arithmetic import has_bf16  # loads torch
        from wb.training.fit import pick_device

        return recipe.model_copy(update={"bf16": has_bf16(pick_device().type)})
    return recipe
