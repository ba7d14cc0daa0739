"""What a reading is against its limit, with the drift of the machine in it or not, and what is said of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.core.measures.metrics import METRICS, Limit, Rules, parse_budget
from wb.core.measures.readings import Reading
from wb.core.statistics.scores import score
from wb.core.statistics.verdict import Judgement, judge, loss, lost_in_tuning, of_tuning, undone, worsened, worst

POSITIVE = st.floats(0.1, 10)
MS = METRICS["latency"]


def ms(value: float, spread: float | None = None) -> Reading:
    interval = (value * (1 - spread), value * (1 + spread)) if spread is not None else None
    return Reading(value=value, unit="ms", how="measured", interval=interval)


@given(drift=POSITIVE, dense=POSITIVE, share=st.floats(0.1, 0.9), over=st.floats(-0.5, 0.5))
def test_a_share_is_compared_by_the_ratio_to_the_dense_model(
    drift: float, dense: float, share: float, over: float
) -> None:
    found = judge(Limit(MS, share, relative=True), ms(share * dense * drift * (1 + over), 0.01), ms(dense * drift))
    assert found.over == pytest.approx(over, abs=1e-9)
    assert found.reading.interval is not None
    assert found.reading.interval[0] / share == pytest.approx((1 + over) * 0.99)


def test_an_absolute_limit_is_compared_as_it_is() -> None:
    assert judge(Limit(MS, 2.0), ms(3.0), ms(8.0)).over == pytest.approx(0.5)


def test_a_change_is_added_to_what_the_input_model_has() -> None:
    (limit,) = parse_budget(["acc=-0.5"], Rules(changes=True))
    dense = score(960, [0, 1] * 500, "cpu")
    found = judge(limit, score(954, [0, 1] * 500, "cpu"), dense)
    assert found.verdict == "missed", "an accuracy on all the images has no interval here"
    assert found.text("the float graph") == (
        "acc is 95.40 % (at least 95.50 % has to be left); acc >= -0.5 points was asked for"
    )
    assert judge(limit, score(955, [0, 1] * 500, "cpu"), dense).verdict == "met"


@pytest.mark.parametrize(
    ("value", "spread", "expected"),
    [
        (1.0, 0.1, "met"),
        (0.99, None, "met"),
        (1.01, 0.02, "within noise"),
        (1.01, 0.001, "missed"),
        (1.01, None, "missed"),
    ],
)
def test_the_verdict_knows_the_interval(value: float, spread: float | None, expected: str) -> None:
    assert judge(Limit(MS, 1.0), ms(value, spread), ms(2.0)).verdict == expected


def test_one_limit_that_is_missed_is_enough() -> None:
    met, noise, missed = (judge(Limit(MS, 1.0), ms(value, 0.05), ms(2.0)) for value in (0.9, 1.01, 1.2))
    assert [one.verdict for one in (met, noise, missed)] == ["met", "within noise", "missed"]
    assert worst([met, noise]) == "within noise"
    assert worst([noise, missed, met]) == "missed"
    assert worst([met]) == "met"


def test_the_number_that_decides_is_said_with_its_interval_and_what_it_is_held_against() -> None:
    """Milliseconds below the limit's are no contradiction where the dense model became faster, too: the share is said."""
    share = judge(Limit(MS, 0.7, relative=True), ms(0.06951, 0.01), ms(0.09763, 0.0))
    assert share.verdict == "missed"
    assert share.text("the dense model") == (
        "latency is 0.712x of the dense model’s (95 % interval 0.705x to 0.719x); latency <= 0.7x was asked for"
    )
    absolute = judge(Limit(MS, 0.06987), ms(0.0712, 0.01), ms(0.1))
    assert "latency is 0.0712 ms (95 % interval 0.07049 ms to 0.07191 ms)" in absolute.text("the dense model")
    assert "; latency <= 0.06987 ms was asked for" in absolute.text("the dense model")
    hair = judge(
        Limit(METRICS["size"], 0.3, relative=True), *(Reading(value=v, unit="B", how="counted") for v in (3001, 10000))
    )
    assert "0.300x of the dense model’s (0.033 % over)" in hair.text("the dense model")


def test_a_judgement_comes_back_from_json() -> None:
    one = judge(Limit(MS, 0.7, relative=True), ms(0.7, 0.01), ms(1.0))
    assert Judgement.model_validate_json(one.model_dump_json()) == one


def test_fine_tuning_that_made_it_worse_is_called_so() -> None:
    labels = [*range(10)] * 50
    before, little, much = (score(right, labels, "cpu") for right in (229, 222, 150))
    assert loss("fine-tuning", little, before) is None
    assert loss("fine-tuning", before, before) is None
    slight, heavy = loss("fine-tuning", before, little), loss("fine-tuning", before, much)
    assert slight is not None
    assert slight.text == (
        "fine-tuning made it worse: 45.80 % before, 44.40 % after (7 of 500 images, less than its 95 % interval)."
    )
    assert not slight.warn
    assert heavy is not None
    assert heavy.text == "fine-tuning made it worse: 45.80 % before, 30.00 % after (79 of 500 images)."
    assert heavy.warn


def test_only_what_fine_tuning_made_worse_goes_back_and_it_is_said_which_was_kept() -> None:
    """Of a perplexity more is worse."""
    labels = [*range(10)] * 50
    less, more = (score(right, labels, "cpu") for right in (222, 229))
    low, high = (Reading(value=value, unit="ppl", how="measured", n=10) for value in (2.0, 3.0))
    before, after = {"a": less, "b": more, "c": more, "p": low}, {"a": more, "b": less, "c": more, "p": high}
    assert worsened(before, after) == {"b": less, "p": high}
    assert of_tuning(less, more, None) == "fine-tuning is kept: 44.40 % before, 45.80 % after."
    assert of_tuning(more, more, less) == "fine-tuning is not kept: 45.80 % before, 44.40 % after."
    assert lost_in_tuning(less, more, None) is None
    assert lost_in_tuning(more, more, less) == undone("fine-tuning", more, less)
    assert lost_in_tuning(more, less, None) == loss("fine-tuning", more, less), "as records of older versions have it"
