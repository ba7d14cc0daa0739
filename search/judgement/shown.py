"""The judgement in words and as a table, for terminal and notebook."""

from __future__ import annotations

from collections.abc import Mapping

from wb.search.judgement.record import Judgement, Relaxation


def sentences(judgement: Judgement) -> list[str]:
    """What a reader has to know: how many meet everything; where none does, what relaxation would help and what binds."""
    asked = ", ".join(judgement.requirements)
    searched = f"{judgement.reached} of {judgement.evaluated} evaluated ones did when searched"
    count = len(judgement.meeting)
    if judgement.met:
        found = [f"{'One network meets' if count == 1 else f'{count} networks meet'} {asked}; {searched}."]
    else:
        found = [f"No network meets {asked}: the nearest are left; {searched}."]
        found += [relaxed(text, one) for text, one in judgement.relaxations.items()]
        if judgement.attainable is not None:
            found.append(
                f"Network {judgement.attainable.network} meets {', '.join(judgement.attainable.requirements)}."
            )
    if judgement.binds is not None:
        count = judgement.binding[judgement.binds]
        found.append(f"{judgement.binds} binds most often: {count} evaluated networks miss it more than anything else.")
    return found


def missed(judgement: Judgement, command: str) -> str:
    """The error where nothing meets everything, with what to do next; `command` continues the run."""
    number, verdicts = next(iter(judgement.verdicts.items()))
    short = "; ".join(f"{text}: {one.text}" for text, one in verdicts.items() if one.text.endswith(")"))
    said = f"no network meets all requirements; network {number} is nearest ({short}). Search on with: {command} --trials N"
    offer = judgement.attainable
    if offer is None or not offer.requirements:
        return said
    asked = ",".join(text.replace(" ", "") for text in offer.requirements)
    return f'{said}; or ask for what network {offer.network} has: {command} --sampler generate --require "{asked}"'


def relaxed(text: str, one: Relaxation) -> str:
    """What relaxing this requirement alone would take."""
    if one.reading is None and one.predicted is None:
        return f"Relaxing {text} alone does not help: no evaluated network meets the others, and none is predicted to."
    parts = []
    if one.reading is not None:
        parts.append(f"network {one.network} meets all others and has {one.reading.text()} ({one.reading.how})")
    if one.predicted is not None:
        parts.append(f"{one.predicted.text()} is predicted to be reachable")
    return f"Relaxing {text} alone: {'; '.join(parts)}."


def rows(judgement: Judgement) -> list[tuple[str, ...]]:
    """A row for each network that is left: its id, then reading and verdict for each requirement."""
    return [
        (str(number), *(f"{one.reading.text()}: {one.text}" for one in verdicts.values()))
        for number, verdicts in judgement.verdicts.items()
    ]


def preferred(shares: Mapping[str, float]) -> str:
    """`softmax 84 %, pool 12 %`."""
    ordered = sorted(shares, key=lambda option: -shares[option])
    return ", ".join(f"{option} {100 * shares[option]:.0f} %" for option in ordered)
