"""State dicts as trainers leave them: under usual keys, with usual prefixes, beside what is no weight."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.foreign.checkpoints import config, sharded, tensors, written
from wb.core.errors import Unsupported
from wb.foreign.exporting import export_checkpoint
from wb.foreign.given import Given
from wb.foreign.importing import read_checkpoint
from wb.models.axes import Select
from wb.models.model import remap_model

GIVEN = Given(heads=2)


def weights(prefix: str = "") -> dict[str, Tensor]:
    """The tensors of timm's DeiT under names with a prefix."""
    return OrderedDict((prefix + name, tensor) for name, tensor in tensors("timm-deit").items())


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        (weights(), ()),
        ({"model": weights()}, ("model",)),
        ({"state_dict": weights("module.")}, ("state_dict",)),
        (
            {"epoch": 3, "model": {"module": weights("_orig_mod.module.")}, "optimizer": {"lr": 0.1}},
            ("model", "module"),
        ),
        (weights("model."), ()),
        ({"student": weights("backbone.")}, ("student",)),
        ({"model": {"dim": 64}, "weights": weights()}, ("weights",)),
        ({"ema": {"decay": 0.9}, "model": weights(), "loss": torch.tensor(0.5)}, ("model",)),
        ({"best": {"net": weights()}}, ("best", "net")),
    ],
)
@pytest.mark.parametrize("ending", [".pt", ".pth", ".bin"])
def test_a_wrapped_state_dict_is_handed_back_wrapped(
    content: Any, keys: tuple[str, ...], ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"m{ending}"
    torch.save(content, path)
    found = read_checkpoint(path, GIVEN)
    assert any("optimizer" in note for note in found.notes) == ("optimizer" in content)
    (back,) = export_checkpoint(found.model, "timm", tmp_path / "back")
    assert back.name == path.name
    given, again = torch.load(path), torch.load(back)
    for key in keys:
        given, again = given[key], again[key]
    assert list(given) == list(again)
    assert all(torch.equal(given[name], again[name]) and given[name].dtype == again[name].dtype for name in given)


def test_averages_of_the_weights_are_taken_before_the_weights(tmp_path: Path) -> None:
    averaged = {name: tensor + 1 for name, tensor in weights().items()}
    torch.save({"state_dict": weights(), "state_dict_ema": averaged}, tmp_path / "m.pt")
    found = read_checkpoint(tmp_path / "m.pt", GIVEN)
    torch.testing.assert_close(found.model.weights["head_bias"], averaged["head.bias"].float())
    assert found.notes[0] == "m.pt: the weights are under 'state_dict_ema'"


@pytest.mark.parametrize(
    ("beside", "prefix", "told"),
    [
        ({"n_averaged": torch.tensor(3)}, "module.", "n_averaged"),
        ({"initted": torch.tensor(True), **weights("online_model.")}, "ema_model.", "initted, online_model.…"),
    ],
)
def test_averages_as_modules_keep_them(beside: dict[str, Tensor], prefix: str, told: str, tmp_path: Path) -> None:
    torch.save({**beside, **{n: t + 1 for n, t in weights(prefix).items()}}, tmp_path / "m.pt")
    found = read_checkpoint(tmp_path / "m.pt", GIVEN)
    torch.testing.assert_close(found.model.weights["head_bias"], (weights()["head.bias"] + 1).float())
    assert found.notes[0] == f"m.pt: left out, as it is not of the weights: {told}"


@pytest.mark.parametrize("prefix", ["", "module.", "model.net."])
def test_names_that_begin_alike_are_handed_back_so(prefix: str, tmp_path: Path) -> None:
    save_file(weights(prefix), tmp_path / "m.safetensors", metadata={"format": "pt"})
    found = read_checkpoint(tmp_path / "m.safetensors", GIVEN)
    (back,) = export_checkpoint(found.model, "source", tmp_path / "back")
    assert back.read_bytes() == (tmp_path / "m.safetensors").read_bytes()
    units = Select(torch.arange(5))
    (cut,) = export_checkpoint(
        remap_model(found.model, {"s0.b0.mlp": units, "s0.b1.mlp": units}), "source", tmp_path / "cut"
    )
    assert read_checkpoint(cut, GIVEN).model.weights["stages.0.0.ffn.up"].shape[0] == 5
    assert set(load_file(cut)) == set(weights(prefix))


def test_shards_of_torch_have_one_name_for_each_tensor(tmp_path: Path) -> None:
    # all of the first shard's names begin with `model.`, and not all of the second's
    folder = sharded(tmp_path / "m", tensors("hf-llama"), config("hf-llama"))
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    for file in sorted(folder.glob("*.safetensors")):
        torch.save(load_file(file), file.with_suffix(".bin"))
        file.unlink()
    index["weight_map"] = {n: file.replace(".safetensors", ".bin") for n, file in index["weight_map"].items()}
    (folder / "model.safetensors.index.json").unlink()
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    found = read_checkpoint(folder)
    back = export_checkpoint(found.model, "source", tmp_path / "back")
    for file in folder.glob("*.bin"):
        given, again = torch.load(file), torch.load(next(one for one in back if one.name == file.name))
        assert list(given) == list(again)
        assert all(torch.equal(given[name], again[name]) for name in given)


@pytest.mark.parametrize(
    ("name", "before"),
    [("hf-vit", "model."), ("hf-vit", "ema_model.module."), ("hf-llama", ""), ("hf-llama", "model.")],
)
def test_a_folder_of_the_library_may_have_names_of_a_wrapper(name: str, before: str, tmp_path: Path) -> None:
    """Of a decoder whose head is tied all names begin with `model.` anyway."""
    held = {key: value for key, value in tensors(name).items() if key != "lm_head.weight"}
    about = config(name) | ({"tie_word_embeddings": True} if name == "hf-llama" else {})
    (tmp_path / "config.json").write_text(json.dumps(about))
    torch.save({before + key: value for key, value in held.items()}, tmp_path / "pytorch_model.bin")
    found = read_checkpoint(tmp_path, Given())
    whole = read_checkpoint(written(tmp_path / "plain", held, about), Given())
    assert all(torch.equal(found.model.weights[key], value) for key, value in whole.model.weights.items())


@pytest.mark.parametrize(
    ("arguments", "given", "why"),
    [
        ({"global_pool": "max"}, Given(), "its head reads 'max', and fc_norm.weight is a norm behind the mean"),
        ({}, Given(pool="first"), "its head reads 'first'"),
        ({"global_pool": "avg", "act_layer": "quick_gelu"}, Given(), "config.json has act_layer='quick_gelu'"),
    ],
)
def test_what_a_vit_of_timm_reads_or_applies_otherwise_is_refused(
    arguments: dict[str, Any], given: Given, why: str, tmp_path: Path
) -> None:
    about = config("timm-vit-mean")
    about["model_args"] = {**about.get("model_args", {}), **arguments}
    folder = written(tmp_path / "m", tensors("timm-vit-mean"), {k: v for k, v in about.items() if k != "global_pool"})
    with pytest.raises(Unsupported, match=re.escape(why)):
        read_checkpoint(folder, given)
