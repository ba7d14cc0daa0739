"""A network of a front by name: `RUN:ID`, or `RUN` for the one that its page advises."""

from __future__ import annotations

from pathlib import Path

from wb.core.errors import BadOption
from wb.core.system.files import is_there
from wb.search.page.advice import advice, knee
from wb.search.results.point import FrontPoint
from wb.search.run import Run


def network_of(source: str) -> tuple[Path, str | None]:
    """The graph of a front's network, and what there is to say of the choice; any other path is given back as it is.

    Raises:
        BadArtefact: the run folder is damaged.
        BadOption: the run has no front yet, or no such network.
    """
    if is_there(source) and not Path(source).is_dir():
        return Path(source), None
    folder, colon, name = (source, "", "") if is_there(source) else source.rpartition(":")
    if not is_there(folder) or not Run(Path(folder)).record_path.exists():
        return Path(source), None
    run = Run(Path(folder))
    points = run.read_front() if run.front_path.exists() else []
    if not points:
        raise BadOption(f"{folder} has no front yet; continue the search with: wb search --resume {folder}")
    if not colon:
        point = _advised(run, points)
        return (
            run.folder / point.onnx,
            f"network {point.title} of {folder}, the knee of its front; {folder}:ID names another",
        )
    found = {str(point.id): point for point in points}
    if name not in found:
        raise BadOption(f"the front of {folder} has no network {name}; it has {', '.join(found)}")
    return run.folder / found[name].onnx, None


def _advised(run: Run, points: list[FrontPoint]) -> FrontPoint:
    """The network that the page of a run advises first."""
    config = run.read().config
    costs = [metric for metric in config.metrics if not metric.quality]
    if costs and len(costs) < len(config.metrics):
        return knee(points, costs[-1])
    return advice(points, config.metrics, config.limits)[0].point
