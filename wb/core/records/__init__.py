"""The parts of a network as data: one frozen record for each kind of input, stem, position, mixer, feed-forward,
norm, join, wiring, merge and head.

A record's widths are named like the axes of its module (`wb.models.axes`). What is known of a width stands in the metadata
of its field (`Dim`), what is known of all parts of a kind in the class (`Part`). To add one, write its record in the file of
its kind, add it to the union at the end of that file, and write the module that `module` names. Nothing else has to know:
who needs that record in particular takes it from its file; here are those that more than one place needs.
"""

from __future__ import annotations

from typing import get_args

from wb.core.records.attention import Attention as Attention
from wb.core.records.attention import Cosformer as Cosformer
from wb.core.records.attention import Hash as Hash
from wb.core.records.attention import Sla as Sla
from wb.core.records.attention import Softmax as Softmax
from wb.core.records.base import ConvKept as ConvKept
from wb.core.records.base import Convolved as Convolved
from wb.core.records.base import ConvPrecision as ConvPrecision
from wb.core.records.base import Dim as Dim
from wb.core.records.base import Filtered as Filtered
from wb.core.records.base import Frozen as Frozen
from wb.core.records.base import HeadKept as HeadKept
from wb.core.records.base import Operator as Operator
from wb.core.records.base import Part as Part
from wb.core.records.base import Precision as Precision
from wb.core.records.base import Preparation as Preparation
from wb.core.records.base import Weighted as Weighted
from wb.core.records.base import Width as Width
from wb.core.records.base import dims as dims
from wb.core.records.base import groups as groups
from wb.core.records.base import kernels as kernels
from wb.core.records.base import kind_of as kind_of
from wb.core.records.base import members
from wb.core.records.ffns import Ffn as Ffn
from wb.core.records.ffns import Mlp as Mlp
from wb.core.records.heads import Classify as Classify
from wb.core.records.heads import Head as Head
from wb.core.records.heads import Language as Language
from wb.core.records.inputs import ImageInput as ImageInput
from wb.core.records.inputs import Input as Input
from wb.core.records.inputs import TextInput as TextInput
from wb.core.records.joins import Join as Join
from wb.core.records.joins import Scale as Scale
from wb.core.records.merges import Conv2x2 as Conv2x2
from wb.core.records.merges import Merge as Merge
from wb.core.records.mixers import Lmu as Lmu
from wb.core.records.mixers import Mixer as Mixer
from wb.core.records.mixers import Pool as Pool
from wb.core.records.norms import LayerNorm as LayerNorm
from wb.core.records.norms import Norm as Norm
from wb.core.records.norms import Unnormed as Unnormed
from wb.core.records.positions import Learned as Learned
from wb.core.records.positions import Nowhere as Nowhere
from wb.core.records.positions import Position as Position
from wb.core.records.positions import Sinusoid as Sinusoid
from wb.core.records.positions import Tiled as Tiled
from wb.core.records.stems import ConvStem as ConvStem
from wb.core.records.stems import EmbedStem as EmbedStem
from wb.core.records.stems import ImageStem as ImageStem
from wb.core.records.stems import ImageStems as ImageStems
from wb.core.records.stems import PatchStem as PatchStem
from wb.core.records.stems import Stem as Stem
from wb.core.records.wirings import Post as Post
from wb.core.records.wirings import Pre as Pre
from wb.core.records.wirings import Wiring as Wiring

MERGES: tuple[type[Merge], ...] = members(Merge)
MIXERS: tuple[type[Mixer], ...] = members(Mixer)
FFNS: tuple[type[Ffn], ...] = members(Ffn)
STEMS: tuple[type[Stem], ...] = members(Stem)
IMAGE_STEMS: tuple[type[ImageStems], ...] = get_args(ImageStems)
NORMS: tuple[type[Norm], ...] = members(Norm)
JOINS: tuple[type[Join], ...] = members(Join)
WIRINGS: tuple[type[Wiring], ...] = members(Wiring)
POSITIONS: tuple[type[Position], ...] = members(Position)
