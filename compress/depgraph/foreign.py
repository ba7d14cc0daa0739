"""Foreign modules: importing them by name, reading and writing weights, checking them against data, fine-tuning.

Limits: importing runs the named code, as every import does; reading weights runs none.
"""

from __future__ import annotations

import importlib
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from wb.core.errors import BadArtefact, BadData, BadOption, printable, reason
from wb.core.system.files import regular, replacing
from wb.data import Dataset
from wb.models.files.torchfile import read_torch
from wb.tasks.classes import CLASSES
from wb.training.fit import Recipe, Report
from wb.training.train import fit_module

_log = logging.getLogger(__name__)
_WRAPPERS = ("module.", "_orig_mod.")
SMOOTHING = 0.1  # label smoothing: without it, a well trained network has nearly no gradients to rank channels by


def import_factory(spec: str) -> Callable[[], nn.Module]:
    """Imports the factory named by `package.module:factory`, also from the working directory.

    The result is a function that calls the factory and checks that it returns a module; it raises `BadOption` otherwise.

    Raises:
        BadOption: `spec` has another form, cannot be imported, or does not name a callable.
    """
    place, colon, name = spec.partition(":")
    if not (place and colon and name):
        raise BadOption(f"{spec!r} names no factory; write package.module:function, for example mynets.resnet:small")
    with _working_directory():
        try:
            found: Any = importlib.import_module(place)
            for part in name.split("."):
                found = getattr(found, part)
        except AttributeError as error:
            raise BadOption(f"{spec} does not exist ({reason(error)}); check the name after the colon") from error
        except (Exception, SystemExit) as error:  # importing runs arbitrary code
            text = f"{type(error).__name__}: {reason(error)}"
            raise BadOption(f"{place} does not import ({text}); give a module that Python finds from here") from error
    if not callable(found):
        raise BadOption(f"{spec} is a {type(found).__name__} and cannot be called; name a function that gives a module")

    def make() -> nn.Module:
        with _working_directory():
            try:
                module = found()
            except (Exception, SystemExit) as error:  # the factory is arbitrary code
                text = f"{type(error).__name__}: {reason(error)}"
                raise BadOption(f"{spec}() failed ({text}); it is called without arguments") from error
        if not isinstance(module, nn.Module):
            raise BadOption(f"{spec}() gave a {type(module).__name__}; an nn.Module was expected")
        return module

    return make


@contextmanager
def _working_directory() -> Iterator[None]:
    here = os.getcwd()
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(here)


def load_weights(module: nn.Module, path: Path) -> None:
    """Loads the state dict at `path` (.safetensors, or .pt without pickled objects) into `module`.

    If all names begin with `module.` or `_orig_mod.`, which DataParallel and torch.compile add, the prefix is removed and a
    warning is logged.

    Raises:
        BadArtefact: the file does not exist, is not a state dict, or does not fit the module.
        BadOption: the name of the file has another suffix.
    """
    if path.suffix not in (".safetensors", ".pt"):
        raise BadOption(f"{path.name} is no name for weights; .safetensors and .pt can be read")
    state = _read_state(path)
    expected = {name: value for name, value in module.state_dict().items() if isinstance(value, Tensor)}
    state = _unwrapped(state, expected, path)
    wrong = _differences(state, expected)
    if wrong:
        raise BadArtefact(f"{path} does not fit {type(module).__name__}: {'; '.join(wrong)}")
    try:
        module.load_state_dict(state)
    except Exception as error:  # a module may load its state with code of its own
        raise BadArtefact(f"{path} does not fit {type(module).__name__}: {reason(error)}") from error


def _read_state(path: Path) -> dict[str, Tensor]:
    what = "a state dict (module.state_dict()) as .safetensors or .pt"
    if path.suffix == ".pt":
        state: Any = read_torch(path, what)
    else:
        try:
            state = load_file(regular(path, what))
        except (SafetensorError, OSError, ValueError, RuntimeError) as error:
            raise BadArtefact(f"{path} holds no weights or is damaged ({reason(error)}); expected {what}") from error
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        keys = ", ".join(printable(str(key), 40) for key in list(state)[:5]) if isinstance(state, dict) else ""
        inside = f" (it has {keys}; save the state dict among them alone)" if keys else ""
        raise BadArtefact(f"{path} holds something else than tensors by name{inside}; expected {what}")
    return state


def _unwrapped(state: dict[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """`state` without the prefix that a wrapper put in front of every name, unless the module's own names have it."""
    for wrapper in _WRAPPERS:
        if (
            state
            and all(name.startswith(wrapper) for name in state)
            and not any(n.startswith(wrapper) for n in expected)
        ):
            _log.warning(
                f"all names in {path} begin with {wrapper!r}, as a wrapper leaves them; they are read without it"
            )
            return _unwrapped({name.removeprefix(wrapper): value for name, value in state.items()}, expected, path)
    return state


def _differences(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """The differences between `state` and the state dict `expected` of a module, as texts; empty if `state` fits."""
    both = [name for name in expected if name in state]
    shapes = [f"{n} (given {list(state[n].shape)}, expected {list(expected[n].shape)})" for n in both]
    kinds = [f"{n} (given {_kind(state[n])}, expected {_kind(expected[n])})" for n in both]
    found = {
        "missing": [name for name in expected if name not in state],
        "not known there": [name for name in state if name not in expected],
        "of another shape": [text for n, text in zip(both, shapes, strict=True) if state[n].shape != expected[n].shape],
        "of another kind": [text for n, text in zip(both, kinds, strict=True) if _kind(state[n]) != _kind(expected[n])],
    }
    if not any(found.values()):
        found["infinite or NaN in its precision"] = [
            n for n in both if not state[n].to(expected[n].dtype).isfinite().all()
        ]
    return [f"{len(names)} {what}, first {printable(names[0])}" for what, names in found.items() if names]


def _kind(tensor: Tensor) -> str:
    if tensor.is_complex():
        return "complex numbers"
    return "floating-point numbers" if tensor.is_floating_point() else "whole numbers"


def publish(module: nn.Module, graph: Path, out: Path, weights: Path, *, force: bool = False) -> None:
    """Copies the ONNX file `graph` to `out` and writes the state dict of `module` to `weights` (.safetensors).

    Both files are complete on disk before either is renamed to its name, and the graph is renamed last. If the process is
    killed in between, the weights are new and the graph is old or missing; repeating the call with `force` repairs that.

    Raises:
        BadOption: one of the two files exists and `force` is false; nothing is written.
        StorageFailed: the disk is full or the folder cannot be written.
    """
    state = {name: value.detach().cpu().contiguous().clone() for name, value in module.state_dict().items()}
    # The inner context ends first and renames the weights; the outer one then renames the graph.
    with replacing(out, force=force) as staged, replacing(weights, force=force) as temporary:
        temporary.write_bytes(save(state))
        with graph.open("rb") as source, staged.open("wb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())


def check_module(module: nn.Module, images: Tensor, classes: int) -> None:
    """Checks that `module` classifies `images` (B, channels, height, width) into `classes`.

    Raises:
        BadArtefact: weights or outputs are not finite.
        BadData: the module fails on the images, or does not return (B, classes).
    """
    name = type(module).__name__
    for key, value in module.state_dict().items():
        if value.is_floating_point() and not value.isfinite().all():
            raise BadArtefact(f"weights {key} of {name} are not finite; give a trained module")
    shape = "x".join(map(str, images.shape[1:]))
    try:
        with torch.no_grad():
            given: Any = module.eval()(images)
    except Exception as error:  # a forward pass is arbitrary code
        raise BadData(
            f"{name} does not take images of {shape} ({reason(error)}); choose other data or another --image-size"
        ) from error
    if not isinstance(given, Tensor) or given.shape != (len(images), classes):
        what = list(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise BadData(
            f"{name} gives {what} for {len(images)} images of {classes} classes; {[len(images), classes]} was expected"
        )
    if not given.isfinite().all():
        raise BadArtefact(f"{name} gives scores that are not finite; give a trained module")


def recalibrate(module: nn.Module, batches: Iterable[Tensor]) -> None:
    """Recomputes the running statistics of every BatchNorm of `module`, in place, as means over `batches` of images.

    Ends in eval mode. Needed because removed channels may have added a constant, so that the statistics of the dense network
    no longer hold. Needs no labels. Batches of one image are skipped: the variance of one value is undefined.
    """
    norms = [layer for layer in module.eval().modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over all batches
        norm.train()
    with torch.no_grad():
        for images in batches if norms else ():
            if len(images) > 1:
                module(images)
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
    module.eval()


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy with smoothed labels, the mean over (B, classes) logits."""
    return CLASSES.loss(logits, labels, SMOOTHING)


def finetune(
    module: nn.Module,
    teacher: nn.Module | None,
    data: Dataset,
    recipe: Recipe,
    *,
    seed: int = 0,
    report: Report | None = None,
) -> None:
    """Trains `module` in place on the training split, half from the labels and half from the `teacher`'s logits.

    BatchNorms update their statistics; on a batch of one image, which has no variance, they stay in eval mode. The module
    ends in eval mode.

    Source: as `wb.training.train.Finetune`.

    Raises:
        TrainingDiverged: the loss is NaN or infinite.
    """
    fit_module(module, data, recipe, task=CLASSES, seed=seed, teacher=teacher, report=report, warm=True)
