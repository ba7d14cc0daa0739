"""Preparation of images for a foreign network: the scaling and normalisation that its own loader applies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, model_validator

from wb.core.architecture import explain
from wb.core.errors import BadArtefact, BadOption, reason
from wb.core.records import Frozen
from wb.core.system.files import regular

ASSUMED = "say --mean, --std, --scale or --preprocessor if the graph's loader prepares them"
CHECK = (
    "check what the network expects of its images (--mean, --std, --scale, the layout of the channels), and the order of its "
    "classes"
)
_MOST_BYTES = 1 << 20  # largest preprocessor file that is read; usual ones have a few hundred bytes
_LEVELS = 255.0
_NESTED = ("image_processor", "pretrained_cfg")  # keys that hold it in newer files of transformers, and in timm's

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Preparation(Frozen):
    """Maps images v in [0, 1] to (`scale` v - `mean`) / `std`; mean and std have one number, or one for each channel.

    `mean` and `std` are in units of the scaled images. `order` "bgr" reverses the channels first.
    """

    mean: Annotated[tuple[Finite, ...], Field(min_length=1, max_length=64)] = (0.0,)
    std: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=64)] = (1.0,)
    scale: Positive = 1.0
    order: Literal["rgb", "bgr"] = "rgb"

    def check(self, channels: int) -> None:
        """Raises `BadOption` unless mean and std have one number or `channels` numbers."""
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise BadOption(
                    f"{len(values)} numbers of {name} for images of {channels} channel{'s' if channels > 1 else ''}; give one, "
                    "or one for each channel"
                )
        if self.order == "bgr" and channels != 3:
            raise BadOption(f"the order blue, green, red is one of three channels, and the images have {channels}")

    def __call__(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """`pixels` (n, channels, height, width) in [0, 1], prepared for the graph. Raises as `check` does."""
        self.check(pixels.shape[1])
        if self.order == "bgr":
            pixels = pixels[:, ::-1]
        mean, std = (np.asarray(v, np.float32).reshape(1, -1, 1, 1) for v in (self.mean, self.std))
        found: NDArray[np.float32] = np.ascontiguousarray((pixels * np.float32(self.scale) - mean) / std)
        return found

    def text(self) -> str:
        """The preparation in words: `images in [0, 1], less the mean 0.5, over the std 0.25`."""
        order = ", channels blue, green, red" if self.order == "bgr" else ""
        moments = f"less the mean {_listed(self.mean)}, over the std {_listed(self.std)}"
        plain = not any(self.mean) and set(self.std) == {1.0}
        return f"images in [0, {self.scale:g}]{order}, {'no mean and std' if plain else moments}"


def described(preparation: Preparation | None) -> str:
    """The preparation for a foreign graph in words; None is the default, and its text says how to change it."""
    return f"{Preparation().text()}; {ASSUMED}" if preparation is None else preparation.text()


class _File(BaseModel):
    """The keys of a `preprocessor_config.json` of transformers, or of timm's configuration, that change pixels."""

    model_config = ConfigDict(extra="ignore")

    mean: tuple[Finite, ...] | Finite | None = Field(None, validation_alias=AliasChoices("image_mean", "mean"))
    std: tuple[Positive, ...] | Positive | None = Field(None, validation_alias=AliasChoices("image_std", "std"))
    rescale_factor: Positive | None = None
    rescale_offset: bool | None = None
    do_rescale: bool | None = None
    do_normalize: bool | None = None
    do_flip_channel_order: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _inner(cls, given: Any) -> Any:
        inner = [given[key] for key in _NESTED if isinstance(given, dict) and isinstance(given.get(key), dict)]
        return inner[0] if inner else given

    def preparation(self) -> Preparation:
        """The file's steps as one preparation: levels of 0 to 255 are rescaled, offset by -1 if the file says so, normalised."""
        rescales = self.do_rescale is not False
        scale = _LEVELS * (self.rescale_factor or 1 / _LEVELS) if rescales else _LEVELS
        offset = 1.0 if rescales and self.rescale_offset else 0.0
        normalizes = self.do_normalize is not False
        mean = _several(self.mean, 0.0) if normalizes else (0.0,)
        return Preparation(
            mean=tuple(value + offset for value in mean),
            std=_several(self.std, 1.0) if normalizes else (1.0,),
            scale=float(f"{scale:.9g}"),  # 255 times 1/255, rounded, is 1
            order="bgr" if self.do_flip_channel_order else "rgb",
        )


def read_preprocessor(path: Path) -> Preparation:
    """The preparation in a `preprocessor_config.json` of transformers, or a configuration of timm with `mean` and `std`.

    Raises:
        BadArtefact: no such file, no JSON, or one without any of these keys.
    Limits: resizing and cropping are not read; images are cropped to the centre and scaled to the graph's size.
    """
    expected = "expected a preprocessor_config.json with image_mean and image_std, or JSON with mean and std"
    try:
        regular(path, expected.removeprefix("expected "))
        if path.stat().st_size > _MOST_BYTES:
            raise BadArtefact(f"{path} has more than {_MOST_BYTES:,} bytes and is no preprocessor file; {expected}")
        found = _File.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadArtefact(f"{path} cannot be read ({reason(error)}); {expected}") from error
    except ValidationError as error:
        raise BadArtefact(f"{path} is no preprocessor file ({explain(error)}); {expected}") from error
    if not found.model_fields_set:
        raise BadArtefact(f"{path} says nothing of mean, std or scale; {expected}")
    try:
        return found.preparation()
    except ValidationError as error:
        raise BadArtefact(f"{path} cannot be followed ({explain(error)}); {expected}") from error


def read_stored(text: str, path: Path) -> Preparation:
    """The preparation in the metadata of the graph at `path`. Raises `BadArtefact` if it is damaged."""
    try:
        return Preparation.model_validate_json(text)
    except ValidationError as error:
        raise BadArtefact(f"what {path} says of its images is damaged: {explain(error)}") from error


def _several(given: tuple[float, ...] | float | None, default: float) -> tuple[float, ...]:
    return given if isinstance(given, tuple) else (default if given is None else given,)


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
