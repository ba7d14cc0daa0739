"""A front for each device, and how far two agree: by hand, and at both ends."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from wb.core.measures.metrics import Rules, parse_budget
from wb.core.measures.readings import Reading
from wb.search.page.report import write_report
from wb.search.results.devices import agreements, device_fronts
from wb.search.run import Run


def ms(value: float) -> Reading:
    """A predicted latency."""
    return Reading(value=value, unit="ms", how="predicted")


def test_devices_that_order_networks_alike_agree() -> None:
    rng = random.Random(0)
    values = [rng.random() for _ in range(12)]
    networks = [{"latency@a": ms(v), "latency@b": ms(v**2), "latency@c": ms(1 / v)} for v in values]
    found = {(one.first, one.second): one for one in agreements(networks, ("a", "b", "c"))}
    assert [found[pair].tau for pair in (("a", "b"), ("a", "c"))] == pytest.approx([1, -1])
    assert found["a", "b"].n == 12
    assert "rank correlation 1.00" in found["a", "b"].line()
    assert agreements(networks[:2], ("a", "b")) == []
    assert agreements([{"latency@a": ms(1), "latency@b": ms(2)}] * 3, ("a", "b")) == []


def test_each_device_has_its_front_and_the_page_shows_both(fabricate: Callable[..., Run]) -> None:
    run = fabricate(trials=24)
    points = run.read_front()
    order = sorted(points, key=lambda point: point.values["latency"].value)
    for i, point in enumerate(order):  # on the phone the slowest is the fastest
        values = {**point.values, "latency@board": point.values["latency"], "latency@phone": ms(9.0 - i)}
        order[i] = point.model_copy(update={"values": values})
    devices = {"board": "a board", "phone": "a phone"}
    board, phone = device_fronts(order, devices)
    assert set(board.ids) == {point.id for point in order}
    best = max(order, key=lambda point: point.validation.value)
    assert phone.ids[0] == order[-1].id
    assert best.id in phone.ids
    limits = parse_budget(["latency@board=1us"], Rules(("acc",), devices=True))
    assert [one.ids for one in device_fronts(order, devices, limits)] == [(), phone.ids]
    run.staging.mkdir()
    run.publish(order)
    run.write(run.read().model_copy(update={"devices": devices}))
    page = write_report(run).read_text()
    assert 'id="devices"' in page
    assert "<b>phone</b>" in page
