"""Tables of text that the command line and the report share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import PurePath

from wb.core.architecture import Architecture, axis_sizes, kinds_of_axes
from wb.core.records import dims
from wb.fusion.job.record import Fusion, Match
from wb.fusion.match.match import By

BY: Mapping[By | None, str] = {
    "history": "by common history, each where it stood in the model that both come from",
    "weights": "by their weights, which are copies of one another",
    "additions": "by what they add to the stream, since the models have no blocks in common",
}
Table = tuple[list[str], list[list[str]]]  # names of columns, rows


def short(names: Sequence[str]) -> list[str]:
    """Names of files without their folders if that keeps them distinct, otherwise unchanged; equal names are numbered."""
    found = [PurePath(name).name for name in names]
    found = found if len(set(found)) == len(found) else list(names)
    return [
        name if found.count(name) == 1 else f"{name} ({found[: i + 1].count(name)})" for i, name in enumerate(found)
    ]


def titles(record: Fusion) -> dict[str, str]:
    """What may be read of a model, by the name of the reading."""
    return {record.quality: "validation", "test": "test", "params": "parameters", "macs": "MACs", "size": "size"}


def rows(record: Fusion) -> Table:
    """The readings of all models; cells without a reading are empty."""
    models = dict(zip(short([parent.name for parent in record.parents]), record.parents, strict=True))
    table = [(name, parent.readings) for name, parent in models.items()]
    table += [("ensemble", record.ensemble)] if record.ensemble else []
    table += record.variants()
    shown = {m: title for m, title in titles(record).items() if any(m in readings for _, readings in table)}
    cells = [[name, *(readings[m].text() if m in readings else "" for m in shown)] for name, readings in table]
    return list(shown.values()), cells


def sizes(models: Mapping[str, Architecture]) -> Table:
    """The size of every axis in every model; consecutive blocks that are alike share their rows."""
    places = {place: _place(place, models) for place in _places(models)}
    titles = {"mixer": "mixer"} | {kind: dim.title for kind, dim in kinds_of_axes(models.values()).items()}
    found = []
    for (stage, _), group in groupby(places.items(), key=lambda item: (_stage(item[0]), list(item[1].items()))):
        same = [place for place, _ in group]
        name = same[0] if len(same) == 1 else f"{same[0]} to {same[-1].removeprefix(f's{stage}.')}"
        found += [[name if i == 0 else "", titles[kind], *row] for i, (kind, row) in enumerate(places[same[0]].items())]
    return ["", "axis", *models], found


def matches(names: Sequence[str], found: Sequence[Match], architecture: Architecture) -> Table:
    """For each block of the fused model, the block of each parent that it comes from; no rows if all match in order."""
    if all(in_order(match) for match in found):
        return [], []
    table = []
    for place, _, _ in architecture.blocks():
        stage, block = map(int, place.removeprefix("s").split(".b"))
        own = [match[stage][block] if match else block for match in found]
        table.append([place, *("–" if number is None else f"s{stage}.b{number}" for number in own)])
    return ["fused", *names], table


def in_order(match: Match) -> bool:
    """Whether each block comes from the block of the same number."""
    return all(stage == tuple(range(len(stage))) for stage in match)


def ways(names: Sequence[str], found: Sequence[By | None]) -> list[str]:
    """How the blocks of each parent were matched, in words; parents matched in order are left out."""
    return [f"those of {name} matched {BY[by]}" for name, by in zip(names, found, strict=True) if by in BY]


def _places(models: Mapping[str, Architecture]) -> list[str]:
    """The stem, then every stage and its blocks, over all models."""
    found = {"stem": None} if any(dims(type(a.stem)) for a in models.values()) else {}
    for i in range(max(len(a.stages) for a in models.values())):
        found[f"s{i}"] = None
        depth = max(len(a.stages[i].blocks) for a in models.values() if i < len(a.stages))
        found |= dict.fromkeys(f"s{i}.b{j}" for j in range(depth))
    return list(found)


def _place(place: str, models: Mapping[str, Architecture]) -> dict[str, list[str]]:
    """The rows of one place: kind of axis -> cells."""
    tables = [axis_sizes(a) for a in models.values()]
    mixers = [
        {name: block.mixer.kind for name, _, block in a.blocks() if block.mixer is not None} for a in models.values()
    ]
    found = {}
    for kind in ("mixer", *kinds_of_axes(models.values())):
        cells = mixers if kind == "mixer" else [{place: table.get(f"{place}.{kind}")} for table in tables]
        row = ["–" if (value := cell.get(place)) is None else str(value) for cell in cells]
        if set(row) != {"–"}:
            found[kind] = row
    return found


def _stage(place: str) -> str:
    """`s0.b3` -> `0`; a stem or stage keeps its name, so that it is never grouped with a block."""
    return place.removeprefix("s").split(".b")[0] if ".b" in place else place
