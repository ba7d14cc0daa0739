"""`wb import`, `wb export --to`, and commands that take a checkpoint as it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.commands import succeeded, wb
from tests.foreign.checkpoints import REFERENCES, answer, config, tensors, vit_pytorch, written
from tests.foreign.test_families import same
from wb.core.errors import Unsupported
from wb.foreign.exporting import export_checkpoint
from wb.foreign.given import given_of
from wb.foreign.importing import read_checkpoint
from wb.foreign.reading import load as load_any
from wb.models.axes import Select
from wb.models.model import Model, load, remap_model


def labelled(folder: Path) -> Path:
    """Images, and as their labels what a state dict says of them, with mean and deviation; its bias makes classes even."""
    weights = vit_pytorch()
    given = given_of(activation="relu", images={"mean": (0.1307,), "std": (0.3081,)})
    images = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    network = read_checkpoint(folder / "v.pt", given).model.network()
    with torch.no_grad():
        logits = network(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)
    mean = logits.mean(dim=0)
    torch.save(weights | {"mlp_head.1.bias": weights["mlp_head.1.bias"] - mean}, folder / "v.pt")
    logits -= mean
    np.savez(folder / "d.npz", x=images, y=logits.argmax(dim=1).numpy())
    return folder / "d.npz"


VIT, DEIT = REFERENCES / "hf-vit", REFERENCES / "hf-deit"


def test_there_and_back_by_commands_only(tmp_path: Path) -> None:
    result = succeeded("import", DEIT, "-o", tmp_path / "m.safetensors")
    assert result.stdout.startswith(
        "DeiT of transformers: images of 3x8x8, 2x2 tokens, 2 blocks of width 12, 5 classes (bird, cat, deer, dog, …)"
    )
    assert result.stdout.splitlines()[-1] == f"wrote {tmp_path / 'm.safetensors'}"
    assert "logits" in result.stderr, "compared, or why not"
    shown = succeeded("show", tmp_path / "m.safetensors").stdout
    assert "import (source=hf-deit, family=DeiT of transformers)" in shown
    assert "header" not in shown, "what is for programs is not shown"
    succeeded("export", tmp_path / "m.safetensors", "--to", "hf", tmp_path / "back")
    same(DEIT, tmp_path / "back")


def test_what_shapes_cannot_tell_is_an_option_and_what_is_inferred_is_said(tmp_path: Path) -> None:
    torch.save(vit_pytorch(), tmp_path / "v.pt")
    given = ("--activation", "relu", "--mean", "0.1307", "--std", "0.3081")
    result = succeeded("import", tmp_path / "v.pt", "-o", tmp_path / "m.safetensors", *given, "--json")
    content = json.loads(result.stdout)
    assert content["family"] == "ViT of vit-pytorch"
    assert any("2 heads of 64 channels" in note for note in content["notes"])
    a = load(tmp_path / "m.safetensors").architecture
    assert a.image.mean == (0.1307,) * 3
    assert a.model_dump()["stages"][0]["blocks"][0]["ffn"]["activation"] == "relu"
    again = (
        "import",
        tmp_path / "v.pt",
        "-o",
        tmp_path / "n.safetensors",
        "--data",
        f"npz:{labelled(tmp_path)}",
        "--json",
    )
    notes = json.loads(succeeded(*again).stdout)["notes"]
    assert any("no shape tells the activation, which is taken to be gelu" in note for note in notes)
    assert any(
        "33.3 % with --mean 0.5 --std 0.5" in note and "read it again with --activation relu," in note for note in notes
    )
    failed = wb("export", tmp_path / "m.safetensors", "--to", "hf", tmp_path / "no")
    assert failed.exit_code == 1
    assert "transformers cannot say this network" in failed.stderr
    assert not (tmp_path / "no").exists()


def test_images_of_another_size_are_brought_to_that_of_the_network(tmp_path: Path) -> None:
    torch.save(vit_pytorch(), tmp_path / "v.pt")
    images = np.random.default_rng(0).integers(0, 256, (60, 12, 12), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", x=images, y=np.arange(60) % 3)
    given = ("import", tmp_path / "v.pt", "-o", tmp_path / "m.pt", "--data", f"npz:{tmp_path / 'd.npz'}", "--json")
    notes = json.loads(succeeded(*given).stdout)["notes"]
    assert any("images of 12x12 are resized to 8x8" in note for note in notes)
    assert any("grey ones are given to it three times" in note for note in notes)
    assert any("as it is read, it has" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.safetensors", b"\0" * 200, "is no safetensors file, or is truncated or damaged"),
        (
            "a.safetensors",
            (VIT / "model.safetensors").read_bytes()[:-9],
            "is no safetensors file, or is truncated or damaged",
        ),
        ("a.pt", b"hello", "it is damaged or no torch file"),
    ],
)
def test_a_damaged_file_is_not_taken_for_ours(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    result = wb("import", tmp_path / name, "-o", tmp_path / "m.safetensors")
    assert result.exit_code == 1
    assert words in result.output
    assert "wb` wrote" not in result.output
    assert "already" not in result.output


def test_a_folder_of_nothing_is_called_so(tmp_path: Path) -> None:
    result = wb("import", tmp_path, "-o", tmp_path / "m.safetensors")
    assert (
        f"error: {tmp_path} is a folder of nothing that wb knows; expected a folder with config.json and weights"
        in result.output
    )


def test_commands_take_a_checkpoint_as_it_is(tmp_path: Path) -> None:
    assert "2x2 tokens" in succeeded("show", VIT).stdout
    succeeded("export", VIT, "-o", tmp_path / "v.onnx")
    succeeded("export", VIT, "--to", "torch", tmp_path / "plain")
    assert {path.name for path in (tmp_path / "plain").iterdir()} == {"model.py", "model.safetensors"}
    fused = succeeded("fuse", VIT, VIT, "-o", tmp_path / "f.safetensors", "--data", "none")
    assert f"wrote {tmp_path / 'f.safetensors'}" in fused.stdout


def test_a_network_goes_from_one_library_to_another(tmp_path: Path) -> None:
    """timm's DeiT as one of transformers, whose configuration says what a state dict of timm cannot."""
    succeeded("export", REFERENCES / "timm-deit", "--to", "hf", tmp_path / "hf")
    a = read_checkpoint(tmp_path / "hf").model
    images, expected = answer("timm-deit")
    with torch.inference_mode():
        torch.testing.assert_close(a.network()(images), expected, atol=1e-4, rtol=1e-4)
    succeeded("export", tmp_path / "hf", "--to", "timm", tmp_path / "timm")
    theirs, again = tensors("timm-deit"), load_file(tmp_path / "timm/model.safetensors")
    assert theirs.keys() == again.keys()
    assert all(torch.equal(theirs[name].float(), again[name]) for name in theirs)


def test_a_pruned_network_says_why_it_cannot_go_back(tmp_path: Path) -> None:
    torch.save(vit_pytorch(), tmp_path / "v.pt")
    model = remap_model(load_any(tmp_path / "v.pt"), {"s0.b1.qk": Select(torch.arange(9))})
    with pytest.raises(
        Unsupported, match=r"block s0\.b1 has heads of 9 query/key and 64 value channels\); `--to torch`"
    ):
        export_checkpoint(model, "source", tmp_path / "back")


def test_a_changed_network_goes_back_where_the_library_can_say_it(tmp_path: Path) -> None:
    """Fewer layers can be said, and a network of wb's own too."""
    about = config("hf-vit") | {"num_hidden_layers": 1}
    less = {name: tensor for name, tensor in tensors("hf-vit").items() if "layer.1" not in name}
    folder = written(tmp_path / "given", less, about)
    succeeded("import", VIT, "-o", tmp_path / "m.pt")
    model = load(tmp_path / "m.pt")
    block = model.architecture.stages[0].blocks[0]
    stage = model.architecture.stages[0].model_copy(update={"blocks": (block,)})
    kept = {name: weight for name, weight in model.weights.items() if not name.startswith("stages.0.1.")}
    cut = Model(model.architecture.model_copy(update={"stages": (stage,)}), kept, model.history)
    export_checkpoint(cut, "hf", tmp_path / "back")
    again = json.loads((tmp_path / "back/config.json").read_text())
    assert again == about
    theirs, ours = load_file(folder / "model.safetensors"), load_file(tmp_path / "back/model.safetensors")
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs), "in half precision, as it came"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--to", "keras", "OUT"), "no form 'keras'; there are onnx, torch, hf, timm, source"),
        ((), "say once where to write"),
        (("OUT", "-o", "OUT"), "say once where to write"),
        (("--to", "timm", "OUT"), "timm cannot say this network"),
        (("--to", "torch", "--opset", "17", "OUT"), "--opset is of ONNX graphs, and --to torch writes none"),
        (("--to", "hf", "--exporter", "dynamo", "OUT"), "--exporter is of ONNX graphs"),
        (("--to", "torch", "OUT.py"), "is a file's name, and --to torch writes a folder"),
        (("--to", "source", __file__), "is a file, and --to source writes a folder"),
        (("-o", str(Path(__file__).parent)), "is a folder, and a graph is a file"),
    ],
)
def test_wrong_use_of_export(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    result = wb("export", VIT, *(one.replace("OUT", str(tmp_path / "out")) for one in arguments))
    assert result.exit_code in (1, 2)
    assert words in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_model_of_ours_has_no_source(tmp_path: Path) -> None:
    succeeded("import", VIT, "-o", tmp_path / "m.pt")
    again = wb("import", tmp_path / "m.pt", "-o", tmp_path / "n.pt")
    assert again.exit_code == 2
    assert "is a model file of wb's already; every command takes it as it is" in again.stderr


def test_a_decoder_of_transformers_goes_through_the_commands(tmp_path: Path) -> None:
    """Imported with its tokenizer, asked for text from the beginning that this puts in front, scored, and handed back."""
    source, out = REFERENCES / "hf-llama", tmp_path / "l.safetensors"
    found = succeeded("import", str(source), "-o", str(out), "--no-compare")
    assert "texts of at most 24 of 32 tokens, with its tokenizer, 2 blocks of width 16, the next token" in found.stdout
    said = json.loads(succeeded("generate", str(out), "--prompt", "", "--tokens", "4", "--json").stdout)
    assert (said["prompt"], said["tokens"]) == ("", 4)
    text = tmp_path / "t.txt"
    text.write_text("a b c|d e|f g h", encoding="utf-8")
    data = ("--data", f"lm,between=|,length=9:{text},{text}", "--split", "test")
    measured = json.loads(succeeded("measure", str(out), *data, "--json").stdout)
    (reading,) = [one for name, one in measured.items() if name.startswith("perplexity")]
    assert "8 tokens of 3 texts, of each the first 9 at most" in reading["note"]
    succeeded("export", str(out), "--to", "source", str(tmp_path / "back"))
    same(source, tmp_path / "back")


def test_an_encoder_of_transformers_names_classes_and_one_without_tokenizer_says_so(tmp_path: Path) -> None:
    bert = REFERENCES / "hf-bert"
    named = json.loads(succeeded("predict", str(bert), "a b c", "--json").stdout)
    assert named["texts"][0]["class"] in named["classes"] == ["bird", "cat", "deer", "dog", "frog"]
    for command in (
        ("predict", str(REFERENCES / "hf-roberta"), "a"),
        ("generate", str(REFERENCES / "hf-gpt2"), "--prompt", ""),
    ):
        found = wb(*command)
        assert found.exit_code == 1 or found.exit_code == 2
        assert "tokenizer" in found.stderr or "--prompt '' has no token" in found.stderr
    found = wb("import", str(bert), "-o", str(tmp_path / "b.safetensors"), "--data", "digits")
    assert "--data is for what files of images do not say" in found.stderr
