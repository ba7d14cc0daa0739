"""Makes `references/`: small random models of transformers and timm as they save them, with the logits that they give.

    python tests/foreign/make_references.py [NAMES]        # needs transformers and timm; not run by tests

Those whose names begin with hf4 are made by transformers 4, all others by 5.

Weights are in half precision and a few kB each, so that tests need neither library.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

FOLDER = Path(__file__).parent / "references"
LABELS = ("bird", "cat", "deer", "dog", "frog")
PLAIN = {
    "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 20, "image_size": 8,
    "patch_size": 4,
}  # fmt: skip
SWIN = {"embed_dim": 8, "depths": [2, 2], "num_heads": [2, 4], "window_size": 2, "image_size": 16, "patch_size": 2}
HIERA = {"embed_dim": 4, "mlp_ratio": 1.0}
# With the strides and activations of the published networks, and widths that are next to nothing.
SMALL = {
    "img_size": 32,
    "blocks": [
        "ds_r1_k3_s2_e1_c4_se0.5_nre",
        "ir_r1_k3_s2_e2_c6_nre ir_r1_k3_s1_e2_c6_nre",
        "ir_r1_k5_s2_e2_c8_se0.25 ir_r2_k5_s1_e1_c8_se0.25",
        "ir_r2_k5_s1_e2_c10_se0.25",
        "ir_r3_k5_s2_e1_c12_se0.25",
        "cn_r1_k1_s1_c14",
    ],
}
LARGE = {
    "img_size": 32,
    "blocks": [
        "ds_r1_k3_s1_e1_c4_nre", "ir_r1_k3_s2_e2_c6_nre ir_r1_k3_s1_e2_c6_nre", "ir_r3_k5_s2_e1_c8_se0.25_nre",
        "ir_r1_k3_s2_e2_c8 ir_r3_k3_s1_e1_c8", "ir_r2_k3_s1_e2_c8_se0.25", "ir_r3_k5_s2_e1_c10_se0.25", "cn_r1_k1_s1_c14",
    ],
}  # fmt: skip

CONVNEXT = {"hidden_sizes": [6, 8], "depths": [1, 2], "num_stages": 2, "patch_size": 2, "image_size": 16}
POOLFORMER = {
    "hidden_sizes": [6, 8], "depths": [1, 2], "num_encoder_blocks": 2, "patch_sizes": [7, 3], "strides": [4, 2],
    "padding": [2, 1], "mlp_ratio": 4.0, "pool_size": 3, "image_size": 16,
}  # fmt: skip


def shim() -> None:
    """Lets torchvision be imported beside a torch without its operators, as timm imports it whole."""
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    globals()["_library"] = library  # it is undone where nothing holds it


ROTARY = {
    "vocab_size": 32, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 20, "max_position_embeddings": 24,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 12, "rope_theta": 100.0}
LLAMA3 = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 12,
}  # fmt: skip
BERT = {
    "vocab_size": 32, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 20,
    "max_position_embeddings": 14,
}  # fmt: skip
GPT2 = {"vocab_size": 32, "n_embd": 12, "n_layer": 2, "n_head": 3, "n_positions": 14}
DISTILBERT = {"vocab_size": 32, "dim": 12, "n_layers": 2, "n_heads": 3, "hidden_dim": 20, "max_position_embeddings": 14}


def main() -> None:
    """Writes a folder for every family, or for those that are named."""
    import transformers

    if transformers.__version__.startswith("4"):
        made = [*texts_of_four()]
    else:
        shim()
        made = [*texts_of_five(), *transformers_models(), *timm_models()]
    for name, build in made:
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        torch.manual_seed(0)
        build(FOLDER / name)
        sys.stdout.write(f"wrote {FOLDER / name}\n")


def transformers_models() -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Models of transformers with what writes them."""
    import transformers as t

    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    other = {"hidden_act": "relu", "qkv_bias": False, "layer_norm_eps": 1e-3}
    for name, config, model in (
        ("hf-vit", t.ViTConfig(**PLAIN, **labels), t.ViTForImageClassification),
        ("hf-vit-relu", t.ViTConfig(**PLAIN, **other), t.ViTForImageClassification),
        ("hf-deit", t.DeiTConfig(**PLAIN, **labels), t.DeiTForImageClassificationWithTeacher),
        ("hf-deit-alone", t.DeiTConfig(**PLAIN), t.DeiTForImageClassification),
        ("hf-swin", t.SwinConfig(**SWIN), t.SwinForImageClassification),
        ("hf-convnext", t.ConvNextConfig(**CONVNEXT, **labels), t.ConvNextForImageClassification),
        ("hf-poolformer", t.PoolFormerConfig(**POOLFORMER), t.PoolFormerForImageClassification),
        (
            "hf-hiera",
            t.HieraConfig(image_size=[64, 64], depths=[1, 2, 2, 1], num_heads=[1, 2, 2, 4], **HIERA, **labels),
            t.HieraForImageClassification,
        ),
    ):

        def write(folder: Path, config: Any = config, model: Any = model) -> None:
            network: Any = shaken(model(config)).half()
            network.save_pretrained(folder)
            settings = {
                "image_mean": [0.5, 0.4, 0.3],
                "image_std": [0.2, 0.3, 0.4],
                "image_processor_type": "ViTImageProcessor",
            }
            (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2))
            side = config.image_size if isinstance(config.image_size, int) else config.image_size[0]
            answer(folder, lambda x: network.float()(pixel_values=x).logits, side)

        yield name, write


def texts_of_five() -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Networks of transformers 5 that take texts, with what writes them."""
    import transformers as t

    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    yield from text_models(
        ("hf-llama", t.LlamaConfig(**ROTARY, tie_word_embeddings=True), t.LlamaForCausalLM, "<s> $A"),
        ("hf-llama3", t.LlamaConfig(**ROTARY, head_dim=6, rope_parameters=LLAMA3), t.LlamaForCausalLM, None),
        ("hf-qwen2", t.Qwen2Config(**ROTARY, rope_parameters=YARN), t.Qwen2ForCausalLM, None),
        ("hf-qwen3", t.Qwen3Config(**ROTARY, head_dim=6, tie_word_embeddings=True), t.Qwen3ForCausalLM, None),
        ("hf-gpt2", t.GPT2Config(**GPT2), t.GPT2LMHeadModel, "$A"),
        ("hf-bert", t.BertConfig(**BERT, **labels), t.BertForSequenceClassification, "<s> $A </s>"),
        (
            "hf-roberta",
            t.RobertaConfig(**{**BERT, "type_vocab_size": 1}, num_labels=3),
            t.RobertaForSequenceClassification,
            None,
        ),
        ("hf-distilbert", t.DistilBertConfig(**DISTILBERT, num_labels=3), t.DistilBertForSequenceClassification, None),
    )


def texts_of_four() -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Networks of transformers 4, whose configurations say rotary positions otherwise."""
    import transformers as t

    linear = {"type": "linear", "factor": 2.0}
    yield from text_models(
        ("hf4-llama", t.LlamaConfig(**ROTARY, rope_theta=500.0, rope_scaling=linear), t.LlamaForCausalLM, "<s> $A"),
        ("hf4-qwen3", t.Qwen3Config(**ROTARY, head_dim=6, rope_theta=500.0), t.Qwen3ForCausalLM, None),
        (
            "hf4-gpt2",
            t.GPT2Config(**GPT2, n_inner=20, scale_attn_by_inverse_layer_idx=True, tie_word_embeddings=False),
            t.GPT2LMHeadModel,
            None,
        ),
        ("hf4-bert", t.BertConfig(**BERT, num_labels=3), t.BertForSequenceClassification, None),
    )


def text_models(*listed: tuple[str, Any, Any, str | None]) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Models with what writes them; where a template is given, a tokenizer that puts tokens around texts as it says."""
    for name, config, model, template in listed:

        def write(folder: Path, config: Any = config, model: Any = model, template: str | None = template) -> None:
            network: Any = shaken(model(config)).half()
            network.save_pretrained(folder)
            if template is not None:
                (folder / "tokenizer.json").write_text(tokenizer(template))
                (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "TokenizersBackend"}\n')
            ids = torch.randint(4, 32, (2, 11))
            # With frequencies that were never in half, and with the scales that version 4 has in this form of attention only.
            read = model.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
            with torch.inference_mode():
                logits = read(ids).logits
            np.savez_compressed(folder / "logits.npz", ids=ids.numpy(), logits=logits.numpy())

        yield name, write


def tokenizer(template: str) -> str:
    """A tokenizer of a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<unk>", "<s>", "</s>", "<pad>", *(chr(97 + i) for i in range(26))]
    found = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    found.pre_tokenizer = pre_tokenizers.Whitespace()
    found.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 1), ("</s>", 2)])
    found.enable_truncation(9)
    return str(found.to_str(pretty=True))


def timm_models() -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Models of timm with what writes them: `config.json` as timm has it, and a state dict."""
    from safetensors.torch import save_file

    vit = {"img_size": 8, "patch_size": 4, "depth": 2, "embed_dim": 64, "num_classes": 5}
    swin = {
        "img_size": 16,
        "patch_size": 2,
        "window_size": 2,
        "depths": [2, 2],
        "num_heads": [2, 4],
        "embed_dim": 8,
        "num_classes": 5,
    }
    hiera = {**HIERA, "img_size": 64, "num_heads": 1, "stages": [1, 2, 2, 1], "num_classes": 5}
    tiled = {**hiera, "abs_win_pos_embed": True, "global_pos_size": [6, 6], "init_values": 0.1}
    small = {**vit, "embed_dim": 16, "num_heads": 2}
    for name, architecture, arguments in (
        ("timm-vit", "vit_tiny_patch16_224", {**vit, "num_heads": 1, "mlp_ratio": 0.5, "depth": 1, "init_values": 0.1}),
        ("timm-vit-mean", "vit_tiny_patch16_224", {**small, "depth": 1, "class_token": False, "global_pool": "avg"}),
        ("timm-vit-clip", "vit_base_patch32_clip_224", {**small, "depth": 1}),
        ("timm-mobilenetv3", "mobilenetv3_small_100", SMALL),
        ("timm-mobilenetv3-large", "mobilenetv3_large_100", LARGE),
        ("timm-deit", "deit_tiny_distilled_patch16_224", small),
        ("timm-swin", "swin_tiny_patch4_window7_224", {**swin, "num_classes": 5}),
        (
            "timm-swin-windows",
            "swin_s3_tiny_224",
            {**swin, "depths": [2, 2, 1], "num_heads": [1, 2, 2], "window_size": [2, 4, 2]},
        ),
        (
            "timm-convnext",
            "convnext_tiny",
            {"depths": [1, 2, 1, 1], "dims": [4, 6, 6, 8], "kernel_sizes": [7, 5, 3, 3]},
        ),
        ("timm-poolformer", "poolformer_s12", {"depths": [1, 2], "dims": [6, 8], "pool_size": 5}),
        ("timm-hiera", "hiera_tiny_224", hiera),
        (
            "timm-hiera-tiled",
            "hiera_base_abswin_256",
            {**tiled, "stages": [1, 1], "q_pool": 1, "mask_unit_size": [2, 2], "mask_unit_attn": [True, False]},
        ),
    ):

        def write(folder: Path, architecture: str = architecture, arguments: dict[str, Any] = arguments) -> None:
            network = shaken(created(architecture, arguments)).half()
            folder.mkdir(parents=True, exist_ok=True)
            save_file(network.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
            side = arguments.get("img_size", 32)
            about = {
                "input_size": [3, side, side],
                "mean": [0.5, 0.4, 0.3],
                "std": [0.2, 0.3, 0.4],
            }
            rest = {key: value for key, value in arguments.items() if key != "num_classes"}
            config = {"architecture": architecture, "num_classes": 5, "model_args": rest, "pretrained_cfg": about}
            (folder / "config.json").write_text(json.dumps(config, indent=2))
            answer(folder, network.float(), side)

        yield name, write


def timm_model(architecture: str, arguments: dict[str, Any]) -> nn.Module:
    """A model of timm, which takes no sizes of a PoolFormer where it knows it by name."""
    import timm
    from timm.layers import GroupNorm1

    if not architecture.startswith("poolformer"):
        plain: nn.Module = timm.create_model(architecture, **{"num_classes": 5, **arguments})
        return plain
    about = {
        "downsample_norm": None,
        "mlp_act": nn.GELU,
        "mlp_bias": True,
        "norm_layers": GroupNorm1,
        "use_mlp_head": False,
    }
    scales = {"layer_scale_init_values": 1e-5, "res_scale_init_values": None}
    network: nn.Module = timm.models.metaformer.MetaFormer(num_classes=5, **about, **scales, **arguments)
    return network


def created(architecture: str, arguments: dict[str, Any]) -> Any:
    """A network of timm; of a MobileNetV3 one with those blocks, as its arguments do not make it small."""
    if "blocks" not in arguments:
        return timm_model(architecture, arguments)
    from functools import partial

    from timm.layers import get_act_layer
    from timm.models._efficientnet_blocks import SqueezeExcite
    from timm.models._efficientnet_builder import decode_arch_def, round_channels
    from timm.models.mobilenetv3 import MobileNetV3

    rounded = partial(round_channels, divisor=2)
    gates = partial(SqueezeExcite, gate_layer="hard_sigmoid", force_act_layer=nn.ReLU, rd_round_fn=rounded)
    network = MobileNetV3(
        decode_arch_def([each.split() for each in arguments.pop("blocks")]),
        num_classes=5,
        stem_size=4,
        num_features=8,
        fix_stem=True,
        round_chs_fn=rounded,
        act_layer=get_act_layer("hard_swish"),
        se_layer=gates,
    )
    for name, buffer in network.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return network


def shaken(network: nn.Module) -> nn.Module:
    """The network with parameters that are all of some size, so that none is without effect."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return network.eval()


def answer(folder: Path, network: Callable[[torch.Tensor], torch.Tensor], side: int) -> None:
    """Writes random images in [0, 1] and the logits that the network gives them."""
    mean, std = torch.tensor([0.5, 0.4, 0.3])[:, None, None], torch.tensor([0.2, 0.3, 0.4])[:, None, None]
    images = (torch.rand(2, 3, side, side) * 255).round() / 255
    with torch.inference_mode():
        logits = network((images - mean) / std)
    np.savez_compressed(folder / "logits.npz", images=(images * 255).byte().numpy(), logits=logits.numpy())


if __name__ == "__main__":
    main()
