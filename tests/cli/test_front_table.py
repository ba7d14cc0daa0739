"""The front as `wb search` and `wb show` print it."""

from __future__ import annotations

from rich.console import Console

from wb.cli.searching.tables import front_table
from wb.core.measures.readings import Reading
from wb.core.records import ImageInput
from wb.core.statistics.scores import score
from wb.search.results.point import FrontPoint
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit


def test_accuracies_have_their_intervals_in_points_and_the_largest_class() -> None:
    labels = [3] * 963 + [0] * 37
    image = ImageInput(channels=1, height=8, width=8, mean=(0.0,), std=(1.0,))
    values = {
        "acc": score(970, labels, "cpu"),
        "latency": Reading(value=0.5, unit="ms", how="measured", interval=(0.49, 0.51)),
        **{name: Reading(value=1000, unit=unit, how="counted") for name, unit in (("size", "B"), ("macs", "MAC"))},
        "params": Reading(value=1000, unit="parameters", how="counted"),
    }
    point = FrontPoint(
        id=7,
        values=values,
        test=score(500, [0, 1] * 359, "cpu"),
        searched=score(975, labels, "cpu"),
        choices={},
        architecture=Vit(TINY, image, 2).largest("softmax").model_dump(mode="json"),
        model="models/7.safetensors",
        onnx="models/7.onnx",
    )
    console = Console(width=120)
    with console.capture() as capture:
        console.print(front_table([point], energy=False))
    text = capture.get()
    assert "val %" in text
    words = text.split()
    assert words.count("pts") == 2
    assert {"97.00", "±1.1", "69.64", "±3.4", "0.5", "±2.0"} <= set(words)
    assert "val % of 7: always naming the largest class would give 96.30 %" in text
    assert "7, test" not in text
    assert "7: fine-tuning made it worse: 97.50 % before, 97.00 % after (5 of 1000 images, less than its 95 %" in text
