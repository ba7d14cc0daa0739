"""Hugging Face's DeiT, with its distillation token.

Source: transformers, `DeiTForImageClassification` and `DeiTForImageClassificationWithTeacher`; Touvron et al., "Training
data-efficient image transformers & distillation through attention", 2021.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from wb.core.architecture import Architecture
from wb.foreign.families.hf import block, configured, described, ends
from wb.foreign.family import Family, Seen
from wb.foreign.rule import Rule, pair, rule

TEACHER = "DeiTForImageClassificationWithTeacher"
ALONE = "DeiTForImageClassification"


class HfDeit(Family):
    """A class and a distillation token; a classifier on the first, or one on each, whose answers are averaged."""

    name = "hf-deit"
    title = "DeiT of transformers"
    library = "hf"
    ignored = (r"deit\.pooler\.dense\.(weight|bias)", r"deit\.embeddings\.mask_token")

    def recognises(self, seen: Seen) -> bool:
        return seen.config.get("model_type") == "deit"

    def architecture(self, seen: Seen) -> Architecture:
        both = "distillation_classifier.weight" in seen.shapes
        classifier = "cls_classifier" if both else "classifier"
        return described(seen, prefix=2, pool="pair" if both else "first", classifier=classifier)

    def rules(self, a: Architecture) -> Iterator[Rule]:
        yield rule("deit.embeddings.cls_token deit.embeddings.distillation_token", "cls", "d -> 1 1 d")
        yield from ends("deit.")
        yield from block(a, "deit.")
        both = a.head.pool == "pair"
        yield from pair("cls_classifier" if both else "classifier", "head", "head_bias")
        yield from pair("distillation_classifier", "second", "second_bias")

    def config(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
        return configured(a, config, "deit", TEACHER if a.head.pool == "pair" else ALONE, self.title)
