"""Files of models, and data, by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.core.commands.option import by_field
from wb.jobs.calls.given import data_of, path_of, saying, shown
from wb.jobs.calls.results import Data, Model, read_model

if TYPE_CHECKING:
    from wb.jobs.bundle.bundle import Bundled
    from wb.jobs.calls.given import Given
    from wb.jobs.verbs.classifier import Classifier


def load(path: str | Path) -> Model | Classifier:
    """The model in a file of wb's or a checkpoint of another library; of an ONNX graph what names the classes of pictures.

    Raises:
        BadArtefact: the file is neither, or damaged.
    """
    from wb.jobs.kinds import GRAPH, MODELS, need
    from wb.jobs.verbs.classifier import Classifier

    path = Path(path)
    if need(path, *MODELS, "onnx", expected=GRAPH) == "onnx":
        return Classifier(path)
    return read_model(path)


def data(
    spec: str = "digits", *, image_size: int | None = None, limit: int | None = None, background: str | None = None
) -> Data:
    """Data by their name, as `--data` takes it: digits, imagefolder:PATH, idx:PATH, cifar10:PATH, npz:FILE or hf:PLACE.

    Raises:
        BadData: the data are damaged.
        BadOption: no such data.
    """
    from wb.data import load as load_data
    from wb.data.spec import resolved
    from wb.jobs.inputs import given_data

    return Data(load_data(resolved(given_data(spec, background) or "digits"), image_size=image_size, limit=limit))


def export(
    model: Given,
    out: str | Path | None = None,
    *,
    opset: int = 20,
    exporter: str = "torchscript",
    mirror: bool = False,
    force: bool = False,
) -> Classifier:
    """As `wb export`: the model as an ONNX graph, checked against it; without `out` it goes beside the model.

    With `mirror` it looks at the mirror image too.

    Raises:
        BadArtefact: the file is no model.
        BadOption: an exporter or opset that there is not, or a file in the way.
        ExportDiffers: the graph does not compute what the model does.
    """
    from wb.jobs.verbs.classifier import Classifier
    from wb.jobs.verbs.exporting import export_file

    path = path_of(model) or Path()
    target = Path(out) if out else path.with_suffix(".onnx")
    export_file(path, target, opset=opset, exporter=exporter, force=force, mirror=mirror)
    return Classifier(target)


def bundle(
    model: Given,
    out: str | Path,
    *,
    data: str | Data | None = None,
    background: str | None = None,
    force: bool = False,
    quiet: bool = False,
    **options: Any,
) -> Bundled:
    """As `wb bundle`: a folder with all that a device needs of the network, which was tried out without wb.

    Options are the fields of `wb.jobs.bundle.config.BundleConfig`. A network of a front is given as `front.model(0)`.
    Raises as `wb.jobs.bundle.bundle.Bundling`.
    """
    from wb.jobs.bundle.bundle import Bundling
    from wb.jobs.frame.output import config_of

    given = data_of(data, background, by_field(Bundling, options))
    given = {name: given[name] for name in given if name != "limit" or name in options}  # of training images
    bundling = config_of(Bundling, "bundle", given)
    with shown(quiet=quiet) as progress:
        return bundling(path_of(model) or Path(), Path(out), progress, saying(quiet=quiet), force=force)
