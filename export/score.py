"""Accuracy of an exported graph, by the runtime alone: what is reported is what the file does.

Every run has the same number of images (the last is filled up by repeating an image, and the surplus dropped), since
kernels sum in another order for another batch size: the same file and images give exactly the same number. A graph that
quantizes its activations as they come takes one range for a whole batch, so that images would change each other's scores: it
is run image by image, as it is timed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wb.core.errors import BadArtefact, BadData, BadOption
from wb.core.readings import Reading
from wb.core.statistics.scores import near, score
from wb.data.preparation import CHECK
from wb.hardware.device import DTYPES, Device, said, session
from wb.hardware.watch import Watch

if TYPE_CHECKING:
    import onnxruntime as ort

FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")
BATCH = 64
ONE_SIDED = (
    2.0  # times the share of the largest class: so often one answer is given where a graph sees nothing in its images
)


def accuracy(
    path: Path, images: NDArray[Any], labels: NDArray[Any], device: Device, batch: int | None = None
) -> Reading:
    """Top-1 accuracy of the graph at `path`, as `wb.core.statistics.scores.score` gives it; `n` is the number of images.

    `images` and `labels` as for `answers`, which raises the same.
    """
    return examined(path, images, labels, device, batch)[0]


def examined(
    path: Path, images: NDArray[Any], labels: NDArray[Any], device: Device, batch: int | None = None
) -> tuple[Reading, str | None]:
    """The accuracy, and what `doubt` says of it. Raises as `answers` does."""
    given = answers(path, images, labels, device, batch)
    reading = score(int((given == labels).sum()), np.asarray(labels).tolist(), device.text)
    return reading, doubt(reading, given, labels)


def answers(
    path: Path, images: NDArray[Any], labels: NDArray[Any], device: Device, batch: int | None = None
) -> NDArray[np.intp]:
    """The class (n,) that the graph at `path` gives each image.

    `images` are float32 (n, channels, height, width) as the graph takes them; `labels` integers (n,). A tie counts for
    the first class.

    Raises:
        BadArtefact: no ONNX graph, not one input and class scores, or scores that are not finite.
        BadData: images that do not fit the graph, or labels that do not fit the images or the classes.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or len(labels) != len(images) or not np.issubdtype(labels.dtype, np.integer):
        raise BadData(f"labels {labels.dtype}{list(labels.shape)} for {len(images)} images; give one integer an image")
    scores = logits(path, images, device, batch)
    classes = scores.shape[1]
    if labels.min() < 0 or labels.max() >= classes:
        raise BadData(
            f"labels {labels.min()}..{labels.max()} do not fit the graph's {classes} classes (0..{classes - 1})"
        )
    wrong = len(scores) - int(np.isfinite(scores).all(axis=1).sum())
    if wrong:
        raise BadArtefact(
            f"{path} gives scores that are not finite for {wrong} of {len(scores)} images; check its export"
        )
    return np.asarray(scores.argmax(axis=1))


def doubt(reading: Reading, answers: NDArray[Any], labels: NDArray[Any]) -> str | None:
    """What is to be said of an accuracy that is near chance (`scores.near`) or cannot be told from it, None of any other.

    `answers` and `labels` are (n,). It cannot be told from chance where only the lower end of its interval is near that.
    """
    largest = float(np.bincount(labels).max()) / len(labels)
    low = reading.interval[0] if reading.interval is not None else reading.value
    if not near(low, largest):
        return None
    often = np.bincount(answers)
    share = float(often.max()) / len(answers)
    always = (
        f"; {100 * share:.0f} % of the answers are class {int(often.argmax())}" if share > ONE_SIDED * largest else ""
    )
    shares = f"the largest class has {100 * largest:.2f} % of the {len(labels)} images{always}"
    if near(reading.value, largest):
        what = f"is near chance ({shares})"
    else:
        what = f"cannot be told from chance on so few images ({shares}, and the interval begins at {100 * low:.2f} %); give more"
    return f"an accuracy of {100 * reading.value:.2f} % {what}: before you rely on it, {CHECK}"


def logits(path: Path, images: NDArray[Any], device: Device, batch: int | None = None) -> NDArray[np.float32]:
    """The graph's class scores (n, classes): its output `logits`, or its first.

    Without `batch` it is one image for a graph with dynamic quantization, else 64. A graph with a fixed batch is run at
    that instead. Raises as `accuracy` does.
    """
    if batch is not None and batch < 1:
        raise BadOption(f"batch={batch}; give a positive number of images per run")
    loaded = session(path, device)
    spec, size = _fit(path, loaded, images, batch or (1 if _dynamic(path) else BATCH))
    names = [output.name for output in loaded.get_outputs()]
    out = "logits" if "logits" in names else names[0]
    parts = []
    with Watch(loaded, str(path)) as watch:
        for start in range(0, len(images), size):
            part = images[start : start + size]
            filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
            try:
                (scores,) = watch.run([out], {spec.name: filled.astype(DTYPES[spec.type], copy=False)})
            except BadArtefact:
                raise
            except Exception as error:  # the runtime's exceptions have no common base class
                raise BadArtefact(
                    f"{path} fails on images {list(filled.shape)}; export it again ({said(error)})"
                ) from error
            parts.append(_checked(scores, path, out, size)[: len(part)])
    return np.concatenate(parts)


def _checked(scores: object, path: Path, out: str, size: int) -> NDArray[np.float32]:
    """What the graph gave, if it is a row of class scores for each image."""
    if not isinstance(scores, np.ndarray) or scores.dtype.kind not in "fiub":
        kind = f"{scores.dtype} array" if isinstance(scores, np.ndarray) else type(scores).__name__
        raise BadArtefact(f"{path} gives {out!r}, a {kind}; class scores [{size}, classes] were expected")
    if scores.ndim != 2 or len(scores) != size or not scores.shape[1]:
        raise BadArtefact(
            f"{path} gives {out!r} {list(scores.shape)} for {size} images; class scores [{size}, classes] were expected"
        )
    return np.asarray(scores, dtype=np.float32)


def _dynamic(path: Path) -> bool:
    """Whether the graph finds the range of activations when it runs."""
    from wb.export.foreign.opening import open_graph
    from wb.export.foreign.stored import scopes

    nodes = (node for scope in scopes(open_graph(path)) for node in scope.nodes)
    return any(node.op_type.startswith("DynamicQuantize") for node in nodes)


def _fit(path: Path, loaded: ort.InferenceSession, images: NDArray[Any], batch: int) -> tuple[ort.NodeArg, int]:
    """The graph's only input and the images per run.

    Raises: as `accuracy` does.
    """
    specs = loaded.get_inputs()
    if len(specs) != 1 or specs[0].type not in FLOATS:
        given = ", ".join(f"{spec.name} {spec.type}{spec.shape}" for spec in specs) or "nothing"
        raise BadArtefact(f"{path} takes {given}; only graphs with one input, of images, can be scored")
    (spec,) = specs
    wanted = spec.shape
    matches = len(wanted) == images.ndim and all(
        n == m for n, m in zip(wanted[1:], images.shape[1:], strict=True) if isinstance(n, int) and n >= 0
    )
    if images.dtype != np.float32 or not matches or not len(images):
        raise BadData(
            f"images {images.dtype}{list(images.shape)} do not fit {path}, whose input {spec.name!r} is {wanted};"
            " give at least one float32 image (n, channels, height, width) of that size, e.g. by --image-size"
        )
    return spec, wanted[0] if isinstance(wanted[0], int) and wanted[0] >= 0 else batch
