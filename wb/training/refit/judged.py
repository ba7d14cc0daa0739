"""What refitting in closed form did, by which it is kept or not."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, FiniteFloat

from wb.core.records import Frozen


class Refit(Frozen):
    """The mean divergence of answers from those that are wanted in nats, on training images that nothing was fitted to.

    Of the network as it was cut, or averaged, and of the refitted one; None where answers are not finite. `noun` says what
    `images` counts.
    """

    images: Annotated[int, Field(ge=1)]
    noun: Annotated[str, Field(exclude_if=lambda noun: noun == "images")] = "images"
    cut: FiniteFloat | None
    refitted: FiniteFloat | None

    @property
    def kept(self) -> bool:
        """Whether the refitted weights are kept: they are nearer to what is wanted."""
        return self.refitted is not None and (self.cut is None or self.refitted < self.cut)

    @property
    def text(self) -> str:
        """Both divergences, and what follows."""
        return self.told("cut")

    def told(self, what: str) -> str:
        """The same of a network that was `what` before: "cut", "averaged"."""
        before, after = ("not finite" if one is None else f"{one:.2g}" for one in (self.cut, self.refitted))
        found = f"divergence (KL) on {self.images} other training {self.noun} {before} as {what}, {after} refitted"
        return f"{found}: the latter is kept" if self.kept else f"{found}: the weights stay as they were {what}"
