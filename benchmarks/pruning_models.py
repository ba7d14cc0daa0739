"""The dense models that the pruning benchmarks start from, trained once and kept in a folder."""

from __future__ import annotations

from pathlib import Path

from tables import told

from wb.core.architecture import Architecture
from wb.data import Dataset
from wb.models.model import Model, load, save
from wb.spaces.columnar.presets import vit_space
from wb.training.fit import Recipe
from wb.training.train import train

# Large enough that a call of the runtime is not what its latency is made of: 50 tokens, 0.7M parameters on 28x28 images.
FASHION = {
    "embed": "96",
    "depth": "6",
    "heads": "4",
    "qk": "24",
    "v": "24",
    "mlp": "4",
    "patch": "4",
    "mixer": "softmax",
}
FASHION_RECIPE = Recipe(epochs=15, learning_rate=2e-3)


def fashion_architecture(data: Dataset) -> Architecture:
    """A vision transformer of width 96 with six blocks."""
    return vit_space(data, "plain", FASHION).largest("softmax")


def dense(data: Dataset, architecture: Architecture, recipe: Recipe, seed: int, folder: Path) -> Model:
    """The trained model of that seed, from the folder or trained now; an interrupted training continues."""
    path = folder / f"dense-{architecture.key}-{data.fingerprint}-{recipe.epochs}-{seed}.safetensors"
    if path.exists():
        return load(path)
    model = train(
        architecture,
        data,
        recipe,
        seed=seed,
        checkpoint=path.with_suffix(".checkpoint"),
        report=lambda epoch, of, loss: told(f"dense, seed {seed}: epoch {epoch} of {of}, loss {loss:.3f}"),
    )
    save(model, path)
    return model
