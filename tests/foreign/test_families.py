"""Every family: the logits are its library's, and what is handed back is what came, byte for byte."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.foreign.checkpoints import NAMES, REFERENCES, answer, config, kwt, sharded, tensors, vit_pytorch, written
from wb.compress.depth.drop import sublayers, without
from wb.core.architecture import axis_sizes, kind_of_axis
from wb.core.errors import Unsupported
from wb.core.records import Mlp, Post
from wb.data.preparation import Preparation
from wb.foreign.exporting import export_checkpoint, theirs_of
from wb.foreign.families.known import BY_NAME, FAMILIES
from wb.foreign.family import hidden_ratio
from wb.foreign.given import Given
from wb.foreign.importing import Imported, read_checkpoint
from wb.foreign.origin import origin_of
from wb.models.axes import Select
from wb.models.model import Model, compacted, load, remap_model, save

SEEN = Preparation(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


# Layouts that hold what another holds under other names: that one's checkpoint, and patterns of names with what they become.
RENAMED = {
    "timm-convnext-conv": ("timm-convnext", {}),
    "convnext": (
        "timm-convnext",
        {
            r"stem\.(\d)": r"downsample_layers.0.\1",
            r"stages\.(\d)\.downsample\.": r"downsample_layers.\1.",
            r"stages\.(\d)\.blocks": r"stages.\1",
            "conv_dw": "dwconv",
            r"mlp\.fc": "pwconv",
            r"head\.norm": "norm",
            r"head\.fc": "head",
        },
    ),
    "poolformer": (
        "hf-poolformer",
        {
            r"poolformer\.encoder\.patch_embeddings\.0\.projection": "patch_embed.proj",
            r"poolformer\.encoder\.patch_embeddings\.1\.projection": "network.1.proj",
            r"poolformer\.encoder\.block\.0": "network.0",
            r"poolformer\.encoder\.block\.1": "network.2",
            "before_norm": "norm1",
            "after_norm": "norm2",
            r"output\.conv": "mlp.fc",
            "classifier": "head",
        },
    ),
}


def same(folder: Path, other: Path) -> None:
    """Both folders have the same files, but for logits, which no library writes."""
    names = {path.name for path in folder.iterdir()} - {"logits.npz"}
    assert {path.name for path in other.iterdir()} == names
    for name in names:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


def logits(found: Imported, images: Tensor) -> Tensor:
    """What the model gives."""
    with torch.inference_mode():
        given: Tensor = found.model.network()(images)
    return given


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_the_library(name: str) -> None:
    images, expected = answer(name)
    torch.testing.assert_close(logits(read_checkpoint(REFERENCES / name), images), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_what_came_is_handed_back(name: str, tmp_path: Path) -> None:
    """Also through a model file."""
    save(read_checkpoint(REFERENCES / name).model, tmp_path / "m.safetensors")
    export_checkpoint(load(tmp_path / "m.safetensors"), "source", tmp_path / "back")
    same(REFERENCES / name, tmp_path / "back")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_every_type_and_several_files_are_handed_back(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    given = {key: tensor.to(dtype) for key, tensor in tensors(name).items()}
    given[next(iter(given))] = next(iter(given.values())).float()  # a file of two types
    folder = sharded(tmp_path / "given", given, config(name))
    found = read_checkpoint(folder)
    assert all(weight.dtype == torch.float32 for weight in found.model.weights.values())
    export_checkpoint(found.model, "source", tmp_path / "back")
    same(folder, tmp_path / "back")


@pytest.mark.parametrize(("make", "given"), [(vit_pytorch, Given(activation="relu")), (kwt, Given())])
@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts_without_a_configuration_are_handed_back(
    make: type[object], given: Given, dtype: torch.dtype, tmp_path: Path
) -> None:
    weights: dict[str, Tensor] = {name: tensor.to(dtype) for name, tensor in make().items()}  # type: ignore[attr-defined]
    folder = written(tmp_path / "given", weights)
    export_checkpoint(read_checkpoint(folder / "model.safetensors", given).model, "source", tmp_path / "back")
    same(folder, tmp_path / "back")


def test_a_family_of_every_kind_is_tested() -> None:
    read = {origin.family for name in NAMES if (origin := origin_of(read_checkpoint(REFERENCES / name).model.history))}
    assert read | {"vit-pytorch", "kwt", "swin", "hiera", *RENAMED} == set(BY_NAME)
    assert len(BY_NAME) == len(FAMILIES)


SWIN = {"head.fc.": "head.", "layers.1.downsample": "layers.0.downsample"}
HIERA = {"head.fc.": "head.projection.", "head.norm.": "norm."}
INDEX = {"layers.0.blocks.0.attn.relative_position_index": torch.arange(16).reshape(4, 4)}


@pytest.mark.parametrize(
    ("timm", "names", "more", "given"),
    [("timm-swin", SWIN, INDEX, Given()), ("timm-hiera", HIERA, {}, Given(heads=1))],
)
def test_published_layouts_are_those_of_timm_with_other_names(
    timm: str, names: dict[str, str], more: dict[str, Tensor], given: Given, tmp_path: Path
) -> None:
    """Swin's merges stand at the end of a stage, and it keeps indices and masks that follow from sizes."""
    original = dict(more)
    for name, tensor in tensors(timm).items():
        for old, new in names.items():
            name = name.replace(old, new)
        original[name] = tensor
    folder = written(tmp_path / "given", original, {"pretrained_cfg": config(timm)["pretrained_cfg"]})
    found = read_checkpoint(folder, given)
    images, expected = answer(timm)
    torch.testing.assert_close(logits(found, images), expected, atol=1e-4, rtol=1e-4)
    export_checkpoint(found.model, "source", tmp_path / "back")
    same(folder, tmp_path / "back")


@pytest.mark.parametrize("name", RENAMED)
def test_layouts_with_other_names_give_the_same_and_are_handed_back(name: str, tmp_path: Path) -> None:
    source, patterns = RENAMED[name]
    given = {}
    for own, tensor in tensors(source).items():
        for pattern, replacement in patterns.items():
            own = re.sub(f"^{pattern}" if pattern.startswith(("stem", "head")) else pattern, replacement, own)
        flat = name == "timm-convnext-conv" and "mlp" in own and tensor.dim() == 2
        given[own] = tensor[:, :, None, None].contiguous() if flat else tensor
    folder = written(tmp_path / "given", given)
    found = read_checkpoint(
        folder / "model.safetensors", Given(image_size=16 if source.startswith("hf") else 32, images=SEEN)
    )
    assert found.family.name == name
    images, expected = answer(source)
    torch.testing.assert_close(logits(found, images), expected, atol=1e-4, rtol=1e-4)
    export_checkpoint(found.model, "source", tmp_path / "back")
    same(folder, tmp_path / "back")


def test_vit_pytorch_is_computed_as_its_code_does() -> None:
    """Patches pixel by pixel with all channels of each; heads wider than the stream; queries without biases."""
    weights = vit_pytorch()
    found = _read(weights, Given(activation="relu"))
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    x = images.reshape(2, 3, 2, 4, 2, 4).permute(0, 2, 4, 3, 5, 1).reshape(2, 4, 48)
    x = torch.nn.functional.linear(x, weights["to_patch_embedding.1.weight"], weights["to_patch_embedding.1.bias"])
    x = torch.cat([weights["cls_token"].expand(2, -1, -1), x], dim=1) + weights["pos_embedding"]
    for j in range(2):
        at = f"transformer.layers.{j}."
        y = _normed(x, weights, f"{at}0.norm")
        q, k, v = (
            part.reshape(2, 5, 2, 64).transpose(1, 2)
            for part in (y @ weights[f"{at}0.fn.to_qkv.weight"].T).chunk(3, dim=-1)
        )
        y = ((q @ k.transpose(-1, -2) * 64**-0.5).softmax(dim=-1) @ v).transpose(1, 2).reshape(2, 5, 128)
        x = x + torch.nn.functional.linear(y, weights[f"{at}0.fn.to_out.0.weight"], weights[f"{at}0.fn.to_out.0.bias"])
        y = _normed(x, weights, f"{at}1.norm")
        y = torch.nn.functional.linear(y, weights[f"{at}1.fn.net.0.weight"], weights[f"{at}1.fn.net.0.bias"]).relu()
        x = x + torch.nn.functional.linear(y, weights[f"{at}1.fn.net.3.weight"], weights[f"{at}1.fn.net.3.bias"])
    x = _normed(x[:, 0], weights, "mlp_head.0")
    expected = torch.nn.functional.linear(x, weights["mlp_head.1.weight"], weights["mlp_head.1.bias"])
    torch.testing.assert_close(logits(found, images), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("timm-")])
def test_timms_configurations_have_the_classes_of_the_network(name: str) -> None:
    """Also where timm wrote them among the arguments, which its next load would follow."""
    found = read_checkpoint(REFERENCES / name)
    came = config(name)
    came |= {"label_names": ["old"] * 5, "model_args": {**came["model_args"], "num_classes": 5}}
    told = found.family.config(found.model.architecture.with_classes(("cat", "dog")), came)
    assert (told["num_classes"], told["model_args"]["num_classes"], told["label_names"]) == (2, 2, ["cat", "dog"])
    assert "label_names" not in found.family.config(found.model.architecture.with_labels(()), came)


@pytest.mark.parametrize(
    ("sizes", "came", "ratio"),
    [
        ([(12, 27), (24, 55)], 2.3, 2.3),  # 2.25 and 2.29 of them, rounded down
        ([(12, 27), (24, 55)], 4.0, 55 / 24),
        ([(11, 15)], None, 15 / 11),  # 11 * (15 / 11) is less than 15
    ],
)
def test_ratios_of_hidden_units_give_them_rounded_down(
    sizes: list[tuple[int, int]], came: object, ratio: float
) -> None:
    found = hidden_ratio(sizes, "network", came)
    assert [int(channels * found) for channels, _ in sizes] == [hidden for _, hidden in sizes]
    assert found == pytest.approx(ratio)


def test_no_ratio_gives_hidden_units_that_have_none() -> None:
    with pytest.raises(Unsupported, match="one number of hidden units to a channel"):
        hidden_ratio([(12, 24), (12, 36)], "network")


def test_a_convnext_without_layer_scales_says_so_as_transformers_takes_it() -> None:
    """Its configurations refuse whole numbers in the place of others."""
    found = read_checkpoint(REFERENCES / "hf-convnext")
    plain = found.model.architecture.with_blocks(lambda _, block: block.model_copy(update={"join": None}))
    told = found.family.config(plain, config("hf-convnext"))["layer_scale_init_value"]
    assert (told, type(told)) == (0.0, float)


def test_a_keyword_transformer_is_post_norm_and_reads_frames() -> None:
    a = _read(kwt(), Given()).model.architecture
    assert isinstance(a.stages[0].wiring, Post)
    assert a.layout.shape == (6, 1)
    assert (a.image.height, a.image.width) == (6, 9)


@pytest.mark.parametrize("name", ["hf-vit", "hf-deit"])
def test_the_settings_of_the_image_processor_and_the_classes_come_along(name: str) -> None:
    a = read_checkpoint(REFERENCES / name).model.architecture
    assert a.image.mean == (0.5, 0.4, 0.3)
    assert a.image.std == (0.2, 0.3, 0.4)
    assert a.head.labels == ("bird", "cat", "deer", "dog", "frog")


def test_a_mobilenet_of_a_state_dict_takes_images_of_any_size() -> None:
    found = _read(tensors("timm-mobilenetv3"), Given(image_size=48))
    assert found.model.architecture.image.height == 48
    assert (
        "images are taken to be 224x224; --image-size says another size"
        in _read(tensors("timm-mobilenetv3"), Given()).notes
    )


def _read(weights: dict[str, Tensor], given: Given) -> Imported:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return read_checkpoint(written(Path(folder), weights) / "model.safetensors", given)


def _normed(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    return torch.nn.functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-5)


def halved(name: str, kind: str) -> Model:
    """The network of a checkpoint with half of every width of a kind."""
    model = read_checkpoint(REFERENCES / name).model
    sizes = axis_sizes(model.architecture)
    maps = {axis: Select(torch.arange(n // 2)) for axis, n in sizes.items() if kind_of_axis(axis) == kind}
    return remap_model(model, maps)


@pytest.mark.parametrize("name", ["timm-vit", "timm-deit", "timm-swin", "timm-hiera"])
def test_config_of_timm_says_the_sizes_that_its_architecture_alone_would_not(name: str, tmp_path: Path) -> None:
    less = halved(name, "mlp")
    export_checkpoint(less, "timm", tmp_path / "m")
    said = json.loads((tmp_path / "m/config.json").read_text())["model_args"]
    given = config(name)["model_args"]
    sizes = {"embed_dim", "depth", "depths", "stages", "num_heads"}
    assert {key: said[key] for key in sizes & given.keys()} == {key: given[key] for key in sizes & given.keys()}
    first, embed = less.architecture.stages[0].blocks[0].ffn, less.architecture.stages[0].embed
    assert isinstance(first, Mlp)
    assert int(embed * said["mlp_ratio"]) == first.mlp, "as timm rounds"
    assert read_checkpoint(tmp_path / "m").model.architecture == less.architecture


def bereft(name: str, block: str) -> Model:
    """The network of a checkpoint without the sub-layers of one block."""
    model = read_checkpoint(REFERENCES / name).model
    for sublayer in [one for one in sublayers(model.architecture) if one.startswith(f"{block}.")]:
        model = without(model, sublayer)
    return model


@pytest.mark.parametrize(
    ("name", "block", "said", "depth"),
    [
        ("hf-vit", "s0.b0", "num_hidden_layers", 1),
        ("hf-deit", "s0.b1", "num_hidden_layers", 1),
        ("hf-convnext", "s1.b1", "depths", [1, 1]),
        ("timm-deit", "s0.b0", "depth", 1),
        ("timm-swin", "s1.b1", "depths", [2, 1]),
    ],
)
@pytest.mark.parametrize("compact", [False, True])
def test_blocks_that_are_gone_are_left_out_and_configurations_say_so(
    name: str, block: str, said: str, depth: object, compact: bool, tmp_path: Path
) -> None:
    less = bereft(name, block)
    export_checkpoint(compacted(less) if compact else less, "source", tmp_path / "m")
    told = json.loads((tmp_path / "m/config.json").read_text())
    assert (told.get("model_args", {}) | told)[said] == depth
    images, _ = answer(name)
    back = read_checkpoint(tmp_path / "m")
    assert back.model.architecture == less.architecture.compact()
    torch.testing.assert_close(logits(back, images), less.network()(images).detach())


def test_names_of_timm_that_stand_for_all_sizes_stand_for_all_blocks() -> None:
    with pytest.raises(
        Unsupported, match=r"poolformer_s12, which stands for all sizes, and \S+ has another one, or is gone"
    ):
        theirs_of(compacted(bereft("timm-poolformer", "s1.b1")))


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("timm-mobilenetv3", "mlp", "mobilenetv3_small_100, which stands for all sizes"),
        ("timm-poolformer", "embed", "poolformer_s12, which stands for all sizes"),
        ("timm-vit", "embed", "divides the 32 channels of its stream among its heads"),
        ("timm-convnext", "mlp", "whose ffn.mlp is 8 where it would be 16"),
    ],
)
def test_sizes_that_timm_would_not_build_are_refused(name: str, kind: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=rf"{words}.*`--to torch`"):
        export_checkpoint(halved(name, kind), "timm", tmp_path / "m")
    assert not (tmp_path / "m").exists()
