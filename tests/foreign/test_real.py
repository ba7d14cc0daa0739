"""Real pretrained models of others, where their folder is: read, scored, and handed back."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.commands import succeeded
from wb.data import load
from wb.data.preparation import Preparation
from wb.foreign.exporting import export_checkpoint
from wb.foreign.given import Given
from wb.foreign.importing import read_checkpoint
from wb.models.counting import count_macs
from wb.models.model import load as load_model

CLIPS = "npz,values=features:{}/speech-commands/kwt1_features_f16_60perclass.npz"
VIT_MNIST = Given(activation="relu", images=Preparation(mean=(0.1307,), std=(0.3081,)))


@pytest.fixture(scope="session")
def real(reference: Path) -> Path:
    """The folder with real data and models."""
    if not (reference / "data/vit-mnist").is_dir():
        pytest.skip("WB_REFERENCE names no folder with data/vit-mnist")
    return reference / "data"


@pytest.mark.reference
def test_vit_mnist_has_its_accuracy_and_is_handed_back(real: Path, tmp_path: Path) -> None:
    """Heads wider than their share of the width, ReLU, queries without biases."""
    source = real / "vit-mnist/vit_mnist_gpu.pt"
    found = read_checkpoint(source, VIT_MNIST)
    with gzip.open(real / "mnist/t10k-images-idx3-ubyte.gz") as file:
        images = torch.from_numpy(
            np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28) / np.float32(255)
        )
    with gzip.open(real / "mnist/t10k-labels-idx1-ubyte.gz") as file:
        labels = torch.from_numpy(np.frombuffer(file.read(), np.uint8, offset=8).astype(np.int64))
    network = found.model.network()
    with torch.inference_mode():
        right = sum(
            int((network(x).argmax(1) == y).sum()) for x, y in zip(images.split(500), labels.split(500), strict=True)
        )
    assert right == 9721
    (back,) = export_checkpoint(found.model, "source", tmp_path / "back")
    given, again = torch.load(source, map_location="cpu"), torch.load(back)
    assert list(given) == list(again)
    assert all(torch.equal(given[name], again[name]) for name in given)


@pytest.mark.reference
def test_the_keyword_transformer_gives_its_logits_and_is_handed_back(real: Path, tmp_path: Path) -> None:
    """Post-norm, one head, GELU by tanh, frames of sound."""
    source = real / "kwt1/kwt1.safetensors"
    found = read_checkpoint(source)
    network = found.model.network()
    with np.load(real / "kwt1/reference.npz") as expected, torch.inference_mode():
        logits = network(torch.from_numpy(expected["feat"].astype(np.float32))[:, None])
        torch.testing.assert_close(logits, torch.from_numpy(expected["logits"]), atol=1e-4, rtol=0)
    with np.load(real / "speech-commands/kwt1_features_f16_60perclass.npz") as clips, torch.inference_mode():
        features, labels = (clips[name] for name in clips.files[:2])
        given = network(torch.from_numpy(features.astype(np.float32))[:, None]).argmax(1).numpy()
    assert np.mean(given == labels) == pytest.approx(0.9697, abs=5e-5)
    (back,) = export_checkpoint(found.model, "source", tmp_path / "back")
    assert back.read_bytes() == source.read_bytes()


@pytest.mark.reference
def test_clips_are_features_and_keep_their_values(real: Path) -> None:
    data = load(CLIPS.format(real))
    network = read_checkpoint(real / "kwt1/kwt1.safetensors").model.network()
    right = total = 0
    with torch.inference_mode():
        for split in (data.train, data.validation, data.test):
            right += int((network(torch.from_numpy(split.pixels())).argmax(1).numpy() == split.labels).sum())
            total += len(split)
    assert (right, total) == (640, 660)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("source", "options", "data"),
    [
        ("vit-mnist/vit_mnist_gpu.pt", ("--activation", "relu", "--mean", 0.1307, "--std", 0.3081), "idx:{}/mnist"),
        ("kwt1/kwt1.safetensors", (), CLIPS),
    ],
)
def test_every_job_takes_them(source: str, options: tuple[object, ...], data: str, real: Path, tmp_path: Path) -> None:
    """Pruned, fused with what was left, searched from and quantized, without fine-tuning."""
    model, half, common = tmp_path / "m.safetensors", tmp_path / "half.safetensors", ("--data", data.format(real))
    small = (*common, "--limit", 60, "--samples", 48)
    succeeded("import", real / source, "-o", model, *options)
    succeeded("prune", "nvit", model, "-o", half, *small, "--budget", "macs=0.5x", "--rounds", 1, "--finetune", 0)
    found = json.loads(succeeded("diff", model, half, *common, "--samples", 90, "--json").stdout)
    assert found["outputs"]["agreement"]["value"] > 0.9
    assert all(0.9 < row["cka"] <= 1 for row in found["layers"])
    fused = ("fuse", model, half, "-o", tmp_path / "f.safetensors", *small, "--finetune", 0, "--json")
    assert json.loads(succeeded(*fused).stdout)["one_shot"]["test"]["value"] > 0.85
    searched = ("search", "--from", model, *small, "--alternatives", 3, "--finetune", 0, "--budget", "macs=0.6x")
    succeeded(*searched, "--out", tmp_path / "run")
    cut, whole = (
        count_macs(load_model(path).architecture).value for path in (tmp_path / "run/macs-0.6x.safetensors", model)
    )
    assert cut <= 0.6 * whole
    succeeded("quantize", model, "-o", tmp_path / "q.onnx", *common, "--samples", 48, "--policy", "int8")


@pytest.mark.reference
def test_stories260k_has_its_nats_and_is_handed_back(real: Path, tmp_path: Path) -> None:
    """Under the stated convention: five texts, each behind its beginning, with straight quotes, the first 512 tokens."""
    source, out = real / "stories260k", tmp_path / "s.safetensors"
    succeeded("import", str(source), "-o", str(out))
    said = (source / "tinystories_sample.txt").read_text(encoding="utf-8")
    straight = tmp_path / "straight.txt"
    straight.write_text(said.translate(str.maketrans("\u201c\u201d\u2018\u2019", "\"\"''")), encoding="utf-8")
    data = f"lm,between=<|endoftext|>,length=512,truncate=yes:{straight},{straight}"
    succeeded("export", str(out), "-o", str(tmp_path / "s.onnx"))
    measured = succeeded("measure", str(tmp_path / "s.onnx"), "--data", data, "--split", "test", "--json")
    (reading,) = [one for name, one in json.loads(measured.stdout).items() if name.startswith("perplexity")]
    assert reading["note"].startswith("1.2641 nat a token, 1,802 tokens of 5 texts")
    export_checkpoint(load_model(out), "source", tmp_path / "back")
    for name in ("config.json", "model.safetensors", "tok512.json"):
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes()
