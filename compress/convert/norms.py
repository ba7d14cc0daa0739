"""The pass that puts re-parameterized batch norms into the place of layer norms of a trained model.

Source: Guo et al., "SLAB", 2024, section 3.2. Fine-tuning lets the layer norms give way step by step
(`wb.training.recipes.layered`), and export, or `wb fold norms`, then folds what is left into the maps behind it.
Differs: the paper trains from scratch, with alpha one at first. Here alpha begins at zero: what reads a norm was trained without
the stream in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from wb import __version__
from wb.core.architecture import Architecture, Block
from wb.core.errors import BadOption, Unsupported
from wb.core.records import LayerNorm, Norm
from wb.core.records.norms import RepNorm
from wb.data import Dataset
from wb.models.model import Model, Step
from wb.models.network import skeleton
from wb.tasks.suited import check_fits
from wb.training.statistics import with_statistics


@dataclass(frozen=True)
class OtherNorms:
    """The pass: layer norms in front of sub-layers and of the head become batch norms with the same gain and shift.

    Their statistics are those of training images; labels are not used.
    """

    data: Dataset

    def __call__(self, model: Model, /) -> Model:
        """The model with the other norms.

        Raises:
            BadData: the data have another shape or number of classes.
            BadOption: it has no layer norm, or is wired so that norms lie in the stream.
            Unsupported: a network that does not take images.
        """
        check_fits(model.architecture, self.data)
        architecture = converted(model.architecture)
        network = skeleton(architecture)
        new = {name: w for name, w in network.named_parameters() if name not in model.weights}
        fresh = {name: torch.full(w.shape, float(name.endswith("variance"))) for name, w in new.items()}
        step = Step(name="norms", arguments={**self.data.origin, "norm": "repbn"}, version=__version__)
        found = Model(architecture, {**model.weights, **fresh}, (*model.history, step))
        return with_statistics(found, self.data.train)


def converted(architecture: Architecture) -> Architecture:
    """`architecture` with the other norms. Raises `BadOption` as the pass does."""
    if architecture.input.usual_tokens is not None:
        raise Unsupported(
            "batch norms take their statistics over whole batches, in which padding would count, and this network takes texts; "
            "say --norm keep"
        )
    lying = next((stage.wiring.title for stage in architecture.stages if stage.wiring.normalised), None)
    if lying is not None:
        raise BadOption(
            f"in a {lying} network norms lie in the stream, where nothing could take others over; say --norm keep"
        )

    def instead(norm: Norm | None) -> Norm | None:
        return RepNorm(eps=norm.eps) if isinstance(norm, LayerNorm) else norm

    def in_block(_: str, block: Block) -> Block:
        return block.model_copy(update={"norm": instead(block.norm)})

    pooled = architecture.head.normed == "pooled"
    ends = {"norm": instead(architecture.norm), "last": architecture.last if pooled else instead(architecture.last)}
    found = architecture.with_blocks(in_block).model_copy(update=ends)
    if skeleton(found).statistics().keys() == skeleton(architecture).statistics().keys():
        raise BadOption("this model has no layer norms in front of its sub-layers; say --norm keep")
    return found
