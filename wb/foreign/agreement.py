"""Whether a model that was imported gives the logits that its own library gives, where that is installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor

from wb.core.architecture import Architecture
from wb.core.errors import Unsupported, WbError, reason
from wb.core.records import TextInput
from wb.core.system.hush import hushed
from wb.foreign.checkpoint import CONFIG, parsed
from wb.foreign.exporting import theirs_of
from wb.foreign.importing import Imported
from wb.foreign.origin import Origin, origin_of

TOLERANCE = 1e-4  # largest difference of a logit, times max(1, the largest |logit| of the image, or of the token)
EXAMPLES = 2
TOKENS = 24  # of a text, at most
Run = Callable[[Tensor], Tensor]  # normalised images, or ids of tokens -> logits


class Disagreement(WbError, ArithmeticError):
    """A model that was imported does not compute what its library computes."""


def agreement(imported: Imported, path: Path, seed: int = 0) -> str:
    """Compares logits on random inputs with those of the source's library; says how it went, also why it could not.

    Raises:
        Disagreement: they differ.
    """
    origin = origin_of(imported.model.history)
    library = {"hf": "transformers", "timm": "timm"}.get(imported.family.library)
    if origin is None or library is None:
        return f"its logits were not compared: a {imported.family.title} comes with no library"
    if importlib.util.find_spec(library) is None:
        return f"its logits were not compared with those of {library}, which is not installed (`pip install {library}`)"
    try:
        with hushed(), _torchvision():
            run = _transformers(imported, path) if library == "transformers" else _timm(imported, origin)
            given, prepared = _examples(imported.model.architecture, seed)
            with torch.inference_mode():
                expected, found = run(prepared), imported.model.network()(given)
    except Exception as error:  # libraries raise anything where parts of them are missing or do not fit together
        return f"its logits were not compared with those of {library}: {reason(error)}"
    worst = float(((found - expected).abs() / expected.abs().amax(dim=-1, keepdim=True).clamp(min=1)).max())
    noun = f"random {imported.model.architecture.input.kind}s"
    if not worst <= TOLERANCE:
        raise Disagreement(
            f"{path} as a model of wb differs from {library} by {worst:.2g} where {TOLERANCE:g} is allowed; nothing was written. "
            "Report the checkpoint, or leave the comparison out with --no-compare"
        )
    return f"{library} gives the same logits for {EXAMPLES} {noun}: the largest difference is {worst:.1g}"


@contextmanager
def _torchvision() -> Iterator[None]:
    """Lets a torchvision be imported that was built for another torch: both libraries import it, and none of its operators."""
    library = None
    if importlib.util.find_spec("torchvision") is not None:
        try:
            import_module("torchvision")
        except RuntimeError:
            library = torch.library.Library("torchvision", "DEF")  # held until all is imported
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    yield
    del library


def _examples(a: Architecture, seed: int) -> tuple[Tensor, Tensor]:
    """Random inputs, as a network of ours takes them and as the library does."""
    random = torch.Generator().manual_seed(seed)
    if isinstance(a.input, TextInput):
        # The first of a vocabulary are often of padding, and some networks count them.
        least = min(4, a.input.vocabulary - 1)
        shape = (EXAMPLES, min(TOKENS, a.input.length))
        ids = torch.randint(least, a.input.vocabulary, shape, generator=random)
        return ids, ids
    images = torch.rand((EXAMPLES, a.image.channels, a.image.height, a.image.width), generator=random)
    mean, std = (torch.tensor(values)[:, None, None] for values in (a.image.mean, a.image.std))
    return images, (images - mean) / std


def _transformers(imported: Imported, path: Path) -> Run:
    auto = getattr(import_module("transformers"), imported.family.auto)
    # Version 4 leaves out some scales in its fused form of attention.
    plain = {"attn_implementation": "eager"} if imported.family.takes == "text" else {}
    model = auto.from_pretrained(str(path), local_files_only=True, dtype=torch.float32, **plain).eval()
    return lambda given: model(given).logits


def _timm(imported: Imported, origin: Origin) -> Run:
    config = parsed(origin.texts[CONFIG], Path(CONFIG)) if CONFIG in origin.texts else {}
    if "architecture" not in config:
        raise Unsupported("a state dict does not say which of timm's architectures it is of")
    a = imported.model.architecture
    settings = {"num_classes": a.head.classes, "in_chans": a.image.channels, **config.get("model_args", {})}
    model = import_module("timm").create_model(str(config["architecture"]), pretrained=False, **settings)
    model.load_state_dict(theirs_of(imported.model), strict=False)
    run: Run = model.eval()
    return run
