"""What two models differ in, as tables and sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from wb.core.measures.readings import Reading, ratio
from wb.core.statistics.verdict import Remark
from wb.jobs.calls.shown import Table
from wb.jobs.diff.record import ROUNDING, Difference, LayerRow, Outputs, WeightRow

MOST = 40  # rows of a table, unless all are asked for
FARTHEST = 10  # weights, unless all are asked for
ABSENT = "–"
NOISE_SAYS = "what networks make of noise says little of what they make of images"
LAYERS = {False: "residual stream behind each sub-layer", True: "values inside the graphs, of one name in both"}
DISTANCE = "distance: ‖a − b‖ / ‖a‖; CKA: similarity of the two, 1 if one is a rotated and scaled copy of the other"


def remarks(found: Difference) -> list[Remark]:
    """What the comparison comes to, most important first."""
    one, other = found.names
    if found.equal:
        apart = " Their histories differ." if found.lineage.a or found.lineage.b else ""
        how = "the same graph" if found.of_graphs else "the same architecture and the same weights"
        return [Remark(f"The two models are equal: {how}.{apart}", False), *map(_note, found.notes)]
    said = [*_of_sizes(found), *_of_fields(found), *_of_weights(found)]
    if found.outputs is not None:
        said += _of_outputs(found.outputs, one, other)
    said += [*_of_layers(found), _of_lineage(found)]
    return [*(Remark(text, False) for text in said), *map(_note, found.notes)]


def _note(text: str) -> Remark:
    return Remark(f"{text[:1].upper()}{text[1:]}.", False)


def _of_sizes(found: Difference) -> Iterator[str]:
    one, other = found.names
    shares = {
        count.name: f"{100 * count.b.value / count.a.value:.1f} %"
        for count in found.counts
        if count.a is not None and count.b is not None and count.a.value
    }
    said = [name for name in ("parameters", "MACs") if name in shares]
    if {shares[name] for name in said} == {"100.0 %"}:
        yield f"{other} has as many {' and '.join(said)} as {one}."
    elif said:
        yield f"Of {one}, {other} has {' and '.join(f'{shares[name]} of its {name}' for name in said)}."
    if "weights" in shares and shares["weights"] != shares["parameters"]:
        yield f"The weights of {other} take {shares['weights']} of the bytes."


def _of_fields(found: Difference) -> Iterator[str]:
    apart = sum(row.differs for row in found.fields)
    if found.fields:
        yield (
            f"{apart} of {len(found.fields)} fields of the architecture differ."
            if apart
            else "The architecture is the same."
        )


def _of_weights(found: Difference) -> Iterator[str]:
    known = [row for row in found.weights if row.distance is not None]
    if known:
        equal = sum(row.distance == 0 for row in known)
        together = (
            ""
            if not found.together
            else f"; together they are apart by {found.together:.3g} of {found.names[0]}'s norm"
        )
        yield f"{len(known)} of {len(found.weights)} weights are in both in one shape, {equal} of them equal{together}."
    rest = Counter(row.note for row in found.weights if row.distance is None)
    said = [f"{count} {'have' if note == 'other shapes' else 'are'} {note}" for note, count in rest.items()]
    if said:
        yield f"Of the others, {', '.join(said)}."


def _of_outputs(outputs: Outputs, one: str, other: str) -> Iterator[str]:
    where = f"On {outputs.images} {outputs.data if outputs.made_up else f'{outputs.noun} of {outputs.data},'}"
    of = " of tokens" if outputs.noun == "passages" else ""
    if outputs.distance < ROUNDING:
        yield f"{where} both compute the same up to rounding: logits differ by {outputs.largest:.2g} at most."
    else:
        yield (
            f"{where} both give the same first choice for {outputs.agreement.text()}{of}; mean divergence {outputs.kl:.3g} nats, "
            f"logits apart by {outputs.distance:.3g} of {one}'s norm, {outputs.largest:.3g} at most."
        )
    if outputs.made_up:
        says = NOISE_SAYS.replace("images", outputs.noun)
        yield f"{says[:1].upper()}{says[1:]}: name some with --data."
    if outputs.ppl is not None and outputs.nats is not None and outputs.distance >= ROUNDING:
        yield f"Perplexity: {one} {outputs.ppl[0].plain()}, {other} {outputs.ppl[1].plain()}; {_costlier(outputs.nats, other)}."
    if outputs.paired is not None and outputs.accuracy is not None and outputs.distance >= ROUNDING:
        low, high = outputs.paired.interval
        sure = "" if outputs.paired.sure else ", which cannot be told from none"
        yield (
            f"Accuracy: {one} {outputs.accuracy[0].plain()}, {other} {outputs.accuracy[1].plain()}; a difference of "
            f"{outputs.paired.points:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}){sure}: {other} alone is right "
            f"for {outputs.paired.won}, {one} alone for {outputs.paired.lost}."
        )


def _costlier(nats: Reading, other: str) -> str:
    """How much more a token costs the other."""
    if nats.interval is None:
        return f"a token costs {other} {nats.value:+.4f} nat more, of one passage"
    low, high = nats.interval
    sure = "" if low > 0 or high < 0 else ", which cannot be told from none"
    return f"a token costs {other} {nats.value:+.4f} nat more (95 % interval {low:+.4f} to {high:+.4f}){sure}"


def _of_layers(found: Difference) -> Iterator[str]:
    layers = found.layers
    what = "values inside" if found.of_graphs else "streams"
    known = [row for row in layers if row.distance is not None]
    if known:
        first = next((row for row in known if (row.distance or 0) > ROUNDING), None)
        farthest = max(known, key=lambda row: row.distance or 0)
        if first is None:
            yield f"The {what} are the same everywhere, up to rounding."
        else:
            yield f"The {what} part at {first.name}, and are farthest apart at {farthest.name} ({farthest.distance:.3g})."
    elif alike := [(row.cka, row.name) for row in layers if row.cka is not None]:
        cka, least = min(alike)
        yield f"The {what} have other widths; they are least alike at {least} (CKA {cka:.3g})."
    broken = [row.name for row in layers if row.cka is None]
    if broken:
        yield f"From {broken[0]} on there are values that are no finite numbers, and {len(broken)} places are not compared."


def _of_lineage(found: Difference) -> str:
    one, other = found.names
    lineage = found.lineage
    if not lineage.shared:
        return "Their histories have no step in common." if lineage.a or lineage.b else "Neither has a history."
    steps = _steps(len(lineage.shared))
    if not lineage.a and not lineage.b:
        return f"Both have the same history, of {steps}."
    if not lineage.a or not lineage.b:
        before, after, more = (one, other, lineage.b) if not lineage.a else (other, one, lineage.a)
        return f"The history of {after} is that of {before}, and {_steps(len(more))} more."
    return f"Their histories share the first {steps}, and part there."


def _steps(count: int) -> str:
    return f"{count} step{'' if count == 1 else 's'}"


# -------------------------------------------------------------------------------------------------------------- tables


def tables(found: Difference, *, everything: bool = False) -> list[Table]:
    """The tables that have rows; `everything` includes what is equal."""
    every = [
        _counts(found),
        _fields(found, everything=everything),
        _weights(found, everything=everything),
        _layers(found),
        _readings(found),
        _history(found),
    ]
    return [table for table in every if table.rows]


def _counts(found: Difference) -> Table:
    rows = [(count.name, *map(text_or_dash, (count.a, count.b)), over(count.a, count.b)) for count in found.counts]
    return Table("sizes, counted", ("", *found.names, "ratio"), rows)


def text_or_dash(reading: Reading | None) -> str:
    """A reading, or a dash."""
    return ABSENT if reading is None else reading.text()


def over(a: Reading | None, b: Reading | None) -> str:
    """`0.512x`, of B over A; a dash for what is in other units, as an accuracy and a perplexity are."""
    return ABSENT if a is None or b is None or not a.value or a.unit != b.unit else ratio(b, a).plain()


def _fields(found: Difference, *, everything: bool) -> Table:
    rows = [row for row in found.fields if everything or row.differs]
    cut = (
        [] if everything or len(rows) <= MOST else [f"and {len(rows) - MOST} more fields that differ: --all shows them"]
    )
    shown = rows if everything else rows[:MOST]
    cells = [(f"{row.place}.{row.name}".rstrip("."), row.a or ABSENT, row.b or ABSENT) for row in shown]
    return Table("architecture", ("field", *found.names), cells, cut)


def _weights(found: Difference, *, everything: bool) -> Table:
    rows = [row for row in found.weights if everything or row.distance]
    shown = rows if everything else sorted(rows, key=lambda row: -(row.distance or 0))[:FARTHEST]
    cut = [f"the farthest of {len(rows)} weights that differ: --all shows all"] if len(shown) < len(rows) else []
    cells = [(row.name, shapes(row), number(row.distance), number(row.cosine)) for row in shown]
    return Table("weights", ("weight", "shape", "distance", "cosine"), cells, cut)


def shapes(row: WeightRow) -> str:
    """`32x16`, or what both have: `32x16 / 24x16`."""
    one, other = ("x".join(map(str, shape)) if shape else "1" if shape == () else ABSENT for shape in (row.a, row.b))
    return one if one == other else f"{one} / {other}"


def number(value: float | None) -> str:
    """Three digits, or a dash."""
    return ABSENT if value is None else f"{value:.3g}"


def _layers(found: Difference) -> Table:
    if found.equal:
        return Table("", (), [])
    rows = [(row.name, owner(row), widths(row), number(row.distance), likeness(row)) for row in found.layers]
    notes = dict.fromkeys(row.note for row in found.layers if row.note)
    return Table(LAYERS[found.of_graphs], ("place", "in", "width", "distance", "CKA"), rows, [DISTANCE, *notes])


def likeness(row: LayerRow) -> str:
    """CKA with four digits, or a dash."""
    return ABSENT if row.cka is None else f"{row.cka:.4f}"


def owner(row: LayerRow) -> str:
    """Which of the two has the sub-layer."""
    return {"both": "both", "a": "A", "b": "B"}[row.where]


def widths(row: LayerRow) -> str:
    """`32`, or what both have: `32 / 24`."""
    one, other = row.widths
    return str(one) if one == other else f"{one} / {other}"


def _readings(found: Difference) -> Table:
    rows = [
        (
            row.name,
            row.a.text(),
            row.b.text(),
            over(row.a, row.b),
            "within noise" if row.alike and row.a != row.b else "",
        )
        for row in found.readings
    ]
    return Table("readings that both histories have of what they end with", ("", *found.names, "ratio", ""), rows)


def _history(found: Difference) -> Table:
    lineage = found.lineage
    rows = [
        (step, who)
        for who, steps in zip(("both", "A", "B"), (lineage.shared, lineage.a, lineage.b), strict=True)
        for step in steps
    ]
    return Table("history", ("step", "in"), rows)
