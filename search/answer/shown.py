"""The answer in words and as a table, for terminal and notebook."""

from __future__ import annotations

from collections.abc import Mapping

from wb.search.answer.record import Answer, Relaxation


def sentences(answer: Answer) -> list[str]:
    """What a reader has to know: how many meet everything; where none does, what relaxation would help and what binds."""
    asked = ", ".join(answer.requirements)
    searched = f"{answer.reached} of {answer.evaluated} evaluated ones did when searched"
    count = len(answer.meeting)
    if answer.met:
        found = [f"{'One network meets' if count == 1 else f'{count} networks meet'} {asked}; {searched}."]
    else:
        found = [f"No network meets {asked}: the nearest are left; {searched}."]
        found += [relaxed(text, one) for text, one in answer.relaxations.items()]
    if answer.binds is not None:
        found.append(
            f"{answer.binds} binds most often: {answer.binding[answer.binds]} evaluated networks miss it more than anything else."
        )
    return found


def missed(answer: Answer, how: str) -> str:
    """The error where nothing meets everything, with what to do next; `how` says how the run is continued."""
    number, verdicts = next(iter(answer.verdicts.items()))
    short = "; ".join(f"{text}: {one.text}" for text, one in verdicts.items() if one.text.endswith(")"))
    return (
        f"no network meets all requirements; network {number} is nearest ({short}). Relax one, for example "
        f"{_example(answer)}, or {how} --trials N"
    )


def _example(answer: Answer) -> str:
    helpful = [text for text, one in answer.relaxations.items() if one.reading is not None]
    return helpful[0] if helpful else answer.binds or answer.requirements[0]


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


def rows(answer: Answer) -> list[tuple[str, ...]]:
    """A row for each network that is left: its id, then reading and verdict for each requirement."""
    return [
        (str(number), *(f"{one.reading.text()}: {one.text}" for one in verdicts.values()))
        for number, verdicts in answer.verdicts.items()
    ]


def preferred(shares: Mapping[str, float]) -> str:
    """`softmax 84 %, pool 12 %`."""
    ordered = sorted(shares, key=lambda option: -shares[option])
    return ", ".join(f"{option} {100 * shares[option]:.0f} %" for option in ordered)
