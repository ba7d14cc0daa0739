"""Hugging Face's ViT.

Source: transformers, `ViTForImageClassification`; Dosovitskiy et al., "An Image Is Worth 16x16 Words", 2021.
Limits: positions are not interpolated: images have the size of the configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from wb.core.architecture import Architecture
from wb.foreign.families.hf import block, configured, described, ends
from wb.foreign.family import Family, Seen
from wb.foreign.rule import Rule, pair, rule


class HfVit(Family):
    """One class token, and a classifier on it."""

    name = "hf-vit"
    title = "ViT of transformers"
    library = "hf"
    ignored = (r"vit\.pooler\.dense\.(weight|bias)", r"vit\.embeddings\.mask_token")

    def recognises(self, seen: Seen) -> bool:
        return seen.config.get("model_type") == "vit"

    def architecture(self, seen: Seen) -> Architecture:
        return described(seen, prefix=1, pool="first", classifier="classifier")

    def rules(self, a: Architecture) -> Iterator[Rule]:
        yield rule("vit.embeddings.cls_token", "cls", "d -> 1 1 d")
        yield from ends("vit.")
        yield from block(a, "vit.")
        yield from pair("classifier", "head", "head_bias")

    def config(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
        return configured(a, config, "vit", "ViTForImageClassification", self.title)
