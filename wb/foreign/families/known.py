"""All families that are read, and networks that are recognised although no records express them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from wb.core.errors import BadArtefact, Unsupported, printable
from wb.foreign.families.hf_deit import HfDeit
from wb.foreign.families.hf_vit import HfVit
from wb.foreign.families.kwt import Kwt
from wb.foreign.families.staged.convnext import HfConvNext, OriginalConvNext, TimmConvNext, TimmConvolutions
from wb.foreign.families.staged.hf_hiera import HfHiera
from wb.foreign.families.staged.hf_swin import HfSwin
from wb.foreign.families.staged.poolformer import HfPoolFormer, OriginalPoolFormer, TimmPoolFormer
from wb.foreign.families.staged.timm_hiera import OriginalHiera, TimmHiera
from wb.foreign.families.staged.timm_mobilenetv3 import TimmMobileNetV3
from wb.foreign.families.staged.timm_swin import OriginalSwin, TimmSwin
from wb.foreign.families.texts.bert import Bert, DistilBert, Roberta
from wb.foreign.families.texts.gpt2 import Gpt2
from wb.foreign.families.texts.llama import Llama, Qwen2, Qwen3
from wb.foreign.families.timm_vit import TimmVit
from wb.foreign.families.vit_pytorch import VitPytorch
from wb.foreign.family import Family, Seen

FAMILIES: Sequence[Family] = (
    HfVit(), HfDeit(), HfSwin(), HfHiera(), OriginalHiera(), TimmHiera(), TimmVit(), TimmSwin(), OriginalSwin(), VitPytorch(),
    Kwt(), TimmMobileNetV3(),
    HfConvNext(), TimmConvNext(), TimmConvolutions(), OriginalConvNext(), HfPoolFormer(), TimmPoolFormer(), OriginalPoolFormer(),
    Llama(), Qwen2(), Qwen3(), Gpt2(), Bert(), Roberta(), DistilBert(),
)  # fmt: skip
BY_NAME: Mapping[str, Family] = {family.name: family for family in FAMILIES}
KINDS = ("vit", "deit", "swin", "hiera", "convnext", "poolformer")  # by model_type, which names of tensors begin with
# Networks that no records express: what the names of some of their tensors contain, and what is missing.
INEXPRESSIBLE: Sequence[tuple[str, tuple[str, ...], str]] = (
    ("ConvNeXtV2", (".grn.",), "global response normalization"),
    (
        "MobileNet or EfficientNet",
        ("conv_stem.weight",),
        "its blocks, as far as it is not a MobileNetV3 as timm names its tensors",
    ),
    ("ResNet", ("layer1.0.bn1.weight", "encoder.stages.0.layers.0.layer.0.convolution"), "its residual blocks"),
    ("Gemma", (), "norms whose gain is added to one, and embeddings times the root of their width"),
    (
        "ModernBERT",
        (".attn.Wqkv.weight", ".mlp.Wi.weight"),
        "encoders with windows of tokens, and rotary positions of two kinds",
    ),
    ("Mixtral", (".block_sparse_moe.", ".mlp.experts."), "feed-forwards of which a token chooses some"),
    (
        "Mistral",
        (),
        "windows of tokens in rotary attention (one without them is a Llama but for its model_type)",
    ),
    ("T5", ("decoder.block.0.layer.1.EncDecAttention.q.weight",), "an encoder and a decoder in one"),
    ("MetaFormer", (".token_mixer.", ".res_scale1.", ".mlp.act.scale"), "star ReLU, and scales of the stream"),
)


def family_of(seen: Seen) -> Family:
    """The family of a checkpoint.

    Raises:
        BadArtefact: config.json is another network's.
        Unsupported: it is of none that is read; says what was recognised, and which are read.
    """
    found = next((family for family in FAMILIES if family.recognises(seen)), None)
    if found is not None:
        _check_kind(seen)
        return found
    names = list(seen.shapes)
    told = [f"model_type {printable(str(seen.config['model_type']))!r}"] if "model_type" in seen.config else []
    told += [f"architecture {printable(str(seen.config['architecture']))!r}"] if "architecture" in seen.config else []
    told += [f"{len(names)} tensors, such as {', '.join(map(printable, names[:3]))}"]
    for title, parts, lacking in INEXPRESSIBLE:
        if _is(title, parts, seen):
            told.append(f"which is a {title}: no records of wb have {lacking}")
            break
    raise Unsupported(
        f"the family is not known: {'; '.join(told)}. Read are {', '.join(family.title for family in FAMILIES)}"
    )


def _check_kind(seen: Seen) -> None:
    """Raises `BadArtefact` where config.json says one network of transformers, and the names of tensors are another's."""
    said = seen.config.get("model_type")
    if said not in KINDS or any(name.startswith(f"{said}.") for name in seen.shapes):
        return
    other = next((name for name in seen.shapes for kind in KINDS if name.startswith(f"{kind}.")), None)
    if other is not None:
        raise BadArtefact(
            f"config.json and the weights contradict each other: model_type is {said!r}, and names of tensors are those of a "
            f"{other.partition('.')[0]}, as {printable(other)}; give the config.json that was saved with the weights"
        )


def _is(title: str, parts: Sequence[str], seen: Seen) -> bool:
    said = f"{seen.config.get('model_type', '')} {seen.config.get('architecture', '')}".lower()
    return any(name in said for name in title.lower().split(" or ")) or any(
        part in name for part in parts for name in seen.shapes
    )
