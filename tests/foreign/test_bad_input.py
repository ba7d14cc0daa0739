"""What is no checkpoint, or a damaged or strange one, is refused with one message that names what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.foreign.checkpoints import config, sharded, tensors, vit_pytorch, written
from wb.core.errors import BadArtefact, BadOption, Unsupported, WbError
from wb.foreign.given import Given, given_of
from wb.foreign.importing import read_checkpoint

Weights = dict[str, Tensor]
PATCHES = "vit.embeddings.patch_embeddings.projection.weight"


def refused(path: Path, words: str, kind: type[WbError] = BadArtefact, given: Given | None = None) -> str:
    """The message of the refusal, which has those words."""
    with pytest.raises(kind, match=words) as error:
        read_checkpoint(path, given)
    message = str(error.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def changed(change: Callable[[Weights], object]) -> Weights:
    """The tensors of a ViT, changed."""
    found = tensors("hf-vit")
    change(found)
    return found


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"hidden_size": 16}, r"contradict each other: \d+ tensors are of another shape: .*\[12\], expected \[16\]"),
        ({"num_hidden_layers": 3}, r"16 tensors are missing: vit\.encoder\.layer\.2\.layernorm_before\.weight \[12\]"),
        ({"num_hidden_layers": 1}, r"16 tensors are left over: vit\.encoder\.layer\.1\."),
        ({"qkv_bias": False}, r"6 tensors are left over: .*attention\.key\.bias"),
        ({"num_attention_heads": 5}, r"hidden_size=12 and num_attention_heads=5; expected a divisor"),
        ({"image_size": 12}, r"position_embeddings \[1, 5, 12\], expected \[1, 10, 12\]"),
        ({"image_size": 9}, r"is no network that can be: images of 9x9 cannot be cut into patches of 4"),
        ({"hidden_size": "many"}, r"hidden_size='many'; expected a whole number"),
        ({"num_hidden_layers": 10**9}, r"num_hidden_layers=1000000000; expected a whole number"),
        ({"num_attention_heads": 0}, r"num_attention_heads=0; expected a whole number of at least 1"),
        ({"model_type": "swin"}, r"model_type is 'swin', and names of tensors are those of a vit, as vit\.emb"),
        ({"layer_norm_eps": 7.0}, r"is no network that can be: .*eps"),
    ],
)
def test_a_configuration_that_contradicts_the_weights(about: dict[str, Any], words: str, tmp_path: Path) -> None:
    refused(written(tmp_path / "m", tensors("hf-vit"), config("hf-vit") | about), words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop("classifier.bias"), r"1 tensors are missing: classifier\.bias \[5\]"),
        (lambda w: w.update(more=torch.zeros(3)), r"1 tensors are left over: more \[3\]"),
        (
            lambda w: w.update({PATCHES: torch.zeros(12, 3, 4, 5)}),
            r"projection\.weight \[12, 3, 4, 5\], expected \[12, 3, 4, 4\]",
        ),
        (
            lambda w: w.update({PATCHES: torch.zeros(12, 3, 4, 4, dtype=torch.int64)}),
            r"1 tensors are of integers: .* I64",
        ),
        (
            lambda w: w.update({PATCHES: torch.full((12, 3, 4, 4), torch.nan)}),
            "has NaN or infinite weights, first in stem.patches",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(change: Callable[[Weights], object], words: str, tmp_path: Path) -> None:
    refused(written(tmp_path / "m", changed(change), config("hf-vit")), words)


def test_a_model_without_a_classifier_is_no_classifier(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", changed(lambda w: w.pop("classifier.weight")), config("hf-vit"))
    refused(folder, "has no classifier.weight, so that it is no classifier", Unsupported)


@pytest.mark.parametrize(
    ("name", "about", "words"),
    [
        ("hf-vit", {"hidden_act": "mish"}, "hidden_act='mish'; of activations there are gelu, "),
        ("hf-swin", {"use_absolute_embeddings": True}, "use_absolute_embeddings=True; networks of wb have False"),
        ("hf-poolformer", {"strides": [4, 3]}, "a kernel of 3 with a stride of 3 and a padding of 1 between stages"),
        ("hf-hiera", {"num_query_pool": 2}, "4 stages, num_query_pool=2 .* pool 2x2 tokens between all stages"),
        ("hf-hiera", {"masked_unit_size": [4, 2]}, r"masked_unit_size=\[4, 2\]; squares are read"),
        ("hf-hiera", {"masked_unit_size": [2, 2]}, "units of 2x2 tokens are no squares, for in 4 stages"),
        (
            "hf-hiera",
            {"masked_unit_attention": [True] * 4, "depths": [1, 2, 2, 2]},
            "units of 8 tokens a side are single tokens in stage 3",
        ),
        ("hf-hiera", {"image_size": [64, 96]}, "a stage begins with attention over 4x6 tokens"),
        ("timm-convnext", {"model_args": {"global_pool": "max"}}, "global_pool='max'; networks of wb have 'avg'"),
        ("timm-convnext", {"model_args": {"output_stride": 16}}, "output_stride=16; networks of wb have 32"),
        ("timm-mobilenetv3", {"model_args": {"global_pool": "max"}}, "global_pool='max'; networks of wb have 'avg'"),
        ("timm-poolformer", {"model_args": {"global_pool": "max"}}, "global_pool='max'; networks of wb have 'avg'"),
        ("timm-swin", {"model_args": {"global_pool": "max"}}, "global_pool='max'; networks of wb have 'avg'"),
        (
            "timm-convnext",
            {"pretrained_cfg": {"input_size": [3, 32, 64], "mean": [0.5], "std": [0.5]}},
            r"input_size=\[3, 32, 64\]; squares are read",
        ),
        ("timm-hiera", {"model_args": {"use_expand_proj": False}}, "use_expand_proj=False; networks of wb have True"),
        ("timm-mobilenetv3", {"architecture": "tf_mobilenetv3_small_100"}, "where pictures are padded at one side"),
        ("timm-hiera", {"model_args": {"patch_stride": [4, 2]}}, r"patch_stride=\[4, 2\]; squares are read"),
    ],
)
def test_a_setting_that_no_record_has(name: str, about: dict[str, Any], words: str, tmp_path: Path) -> None:
    refused(written(tmp_path / "m", tensors(name), config(name) | about), words, Unsupported)


@pytest.mark.parametrize(
    ("name", "about", "words"),
    [
        (
            "a.0.grn.weight",
            {"model_type": "convnextv2"},
            "model_type 'convnextv2'.* which is a ConvNeXtV2: no records of wb have global response normalization",
        ),
        ("stages.0.token_mixer.x", {"architecture": "poolformerv2_s12"}, "which is a MetaFormer"),
        (
            "conv_stem.weight",
            {"architecture": "efficientnet_b0"},
            "which is a MobileNet or EfficientNet: no records of wb have its blocks",
        ),
        ("layer1.0.bn1.weight", {}, "which is a ResNet: no records of wb have its residual blocks"),
        (
            "albert.embeddings",
            {"model_type": "albert"},
            "2 tensors, such as albert.embeddings, fc.x. Read are ViT of transf",
        ),
    ],
)
def test_a_family_that_is_not_known(name: str, about: dict[str, Any], words: str, tmp_path: Path) -> None:
    refused(written(tmp_path / "m", {name: torch.zeros(1), "fc.x": torch.zeros(1)}, about), words, Unsupported)


@pytest.mark.parametrize(
    ("surplus", "words"),
    [
        ("stem.3.weight", "its stem has two convolutions"),
        ("head.pre_logits.fc.weight", "its classifier has a hidden layer"),
    ],
)
def test_convnexts_of_timm_with_parts_that_no_record_has(surplus: str, words: str, tmp_path: Path) -> None:
    weights = tensors("timm-convnext") | {surplus: torch.zeros(2, 2)}
    refused(written(tmp_path / "m", weights, config("timm-convnext")), words, Unsupported)


@pytest.mark.parametrize(
    ("name", "surplus"),
    [
        ("timm-vit", "blocks.99999999999.norm1.weight"),
        ("timm-swin", "layers.99999999999.blocks.0.x"),
        ("timm-hiera", "blocks.99999999999.proj.weight"),
        ("timm-convnext", "stages.99999999999.blocks.0.x"),
        ("timm-convnext", "stages.0.blocks.99999999999.x"),
        ("timm-poolformer", "stages.1.blocks.99999999999.x"),
        ("timm-mobilenetv3", "blocks.99999999999.0.x"),
    ],
)
def test_names_that_count_to_no_end_make_no_work(name: str, surplus: str, tmp_path: Path) -> None:
    weights = tensors(name) | {surplus: torch.zeros(1)}
    message = refused(written(tmp_path / "m", weights, config(name)), r"names of its \d+ tensors")
    assert "99999999999" in message or "100000000000" in message


def test_a_hiera_without_projections_is_told_by_its_widths(tmp_path: Path) -> None:
    weights = {name: w for name, w in tensors("timm-hiera").items() if not name.startswith("blocks.1.proj.")}
    words = r"attention of blocks\.1, which changes the width from 4 to 8, .* \(use_expand_proj=False\)"
    refused(written(tmp_path / "m", weights, config("timm-hiera")), words, Unsupported)


# ------------------------------------------------------------------------------------------------------------------ files


def test_shards_that_are_missing_truncated_or_not_what_the_index_says(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "m", tensors("hf-vit"), config("hf-vit"))
    first, second = sorted(folder.glob("*.safetensors"))
    whole = second.read_bytes()
    second.unlink()
    refused(folder, f"names 2 files, of which 1 are not there: {second.name}; copy them too")
    second.write_bytes(whole[:-100])
    refused(folder, f"{second.name} is no safetensors file, or is truncated or damaged")
    second.write_bytes(first.read_bytes())
    refused(
        folder,
        r"and the files disagree on \d+ tensors, the first is .*: by the index in model-00001.*found in model-00002",
    )


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({}, "has no weight_map"),
        ({"weight_map": {"a": 3}}, "has no weight_map"),
        (
            {"weight_map": {"a": "../model.safetensors"}},
            "names ../model.safetensors, which is no file of weights beside it",
        ),
        ([], "is JSON, but no object"),
    ],
)
def test_an_index_that_is_none(index: object, words: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(tmp_path, words)


def test_a_header_that_was_tampered_with(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", tensors("hf-vit"), config("hf-vit"))
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b'"shape":[5]', b'"shape":[9]'))
    refused(folder, "is no safetensors file, or is truncated or damaged")
    file.write_bytes((1 << 40).to_bytes(8, "little") + whole[8:])
    refused(folder, "is no safetensors file, or is truncated or damaged")


def test_json_that_is_none(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", tensors("hf-vit"), config("hf-vit"))
    (folder / "config.json").write_text("{")
    refused(folder, "config.json is no JSON")
    (folder / "config.json").write_text(json.dumps(config("hf-vit")))
    (folder / "preprocessor_config.json").write_text('{"image_mean": "grey"}')
    refused(folder, "preprocessor_config.json is no preprocessor file")


def test_a_folder_without_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    refused(tmp_path, "has no model.safetensors, and of other files with weights none; expected a folder")


class Secret:
    """Something that a pickle would run."""

    ran = False

    def __reduce__(self) -> tuple[Any, ...]:
        return setattr, (Secret, "ran", True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (Secret(), r"cannot be read as weights only"),
        ({"model": Secret()}, r"cannot be read as weights only"),
        (torch.nn.Linear(2, 2), r"it is a pickled object \(.*Linear\), and reading one runs code"),
        ([1, 2], r"holds a list; expected a state dict"),
        ({"epoch": 3, "args": {"lr": 0.1}}, r"holds a dictionary of epoch, args; expected a state dict"),
        ({"model": {}}, r"holds nothing; expected a state dict"),
        (
            {"student": {"w": torch.zeros(1)}, "teacher": {"w": torch.zeros(1)}},
            r"holds several networks, under student, teacher; save the one",
        ),
    ],
)
def test_a_pickle_that_is_no_state_dict_is_never_run(content: object, words: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "m.pt")
    refused(tmp_path / "m.pt", words)
    assert not Secret.ran


# ---------------------------------------------------------------------------------------------------------------- options


def test_what_shapes_cannot_tell_has_to_be_said(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", tensors("timm-deit"))
    message = refused(folder, "the shapes do not tell into how many heads 16 channels", BadOption)
    assert message.endswith("say --heads, 1 for example")
    refused(folder, "16 channels cannot be divided among 3 heads", BadOption, Given(heads=3))
    found = read_checkpoint(folder, Given(heads=2))
    assert any("--mean and --std" in note for note in found.notes)


def test_an_option_that_the_files_contradict(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", tensors("hf-vit"), config("hf-vit"))
    refused(
        folder, "--heads is not for a ViT of transformers, whose files say that themselves", BadOption, Given(heads=2)
    )
    with pytest.raises(BadOption, match="wrong option: activation"):
        given_of(activation="mish")


def test_images_that_fit_no_channels(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", tensors("hf-vit"), config("hf-vit"))
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5], "image_std": [1, 1]}')
    refused(folder, "2 numbers of mean for images of 3 channels", BadOption)


def test_patches_of_no_square(tmp_path: Path) -> None:
    weights = vit_pytorch() | {"to_patch_embedding.1.weight": torch.zeros(10, 7)}
    refused(
        written(tmp_path / "m", weights), "patches of 7 numbers are no squares of one or three channels", Unsupported
    )
    weights = vit_pytorch() | {"pos_embedding": torch.zeros(1, 7, 10)}
    refused(written(tmp_path / "n", weights), "6 positions of patches are no square", Unsupported)


def test_an_index_that_leads_elsewhere_is_told_by_the_name_that_does(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "m", tensors("hf-vit"), config("hf-vit"))
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "other.zip"}}))
    refused(folder, r"names other\.zip, which is no file of weights beside it")
    index.write_text(json.dumps({"weight_map": {"a": 300 * "n" + ".safetensors"}}))
    refused(folder, "names n+.*, which is no file of weights beside it")
    index.write_text(json.dumps({"weight_map": {"a": "\x1b[2Jx.safetensors"}}))
    assert "\x1b" not in refused(folder, "names 1 files, of which 1 are not there")


def test_float64_is_rounded_and_that_is_said(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", {n: t.double() for n, t in tensors("hf-vit").items()}, config("hf-vit"))
    assert "its float64 numbers are rounded to float32, also in what is handed back" in read_checkpoint(folder).notes
