"""Early exits: accuracy against measured mean latency, beside the network without them.

A network is trained (or `--model` is read), exits are added to it frozen, and with `--epochs` also to a copy that is
tuned with its exits, the network as it was being the teacher. For each beta the gates alone differ; those called
"kept" are the cheapest that keep validation accuracy. Test accuracy and mean
latency over real test images, one at a time, are measured on the exported graphs, in one interleaved run with the network
without exits. The target: the gates that validation images choose are at least as accurate on the test split, in at most
0.75 of the mean latency.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from tables import Output, Table, begin, parser_of, told

from wb.compress.exits.begin import begin as exits
from wb.compress.exits.config import configured
from wb.compress.exits.record import WANTED, EarlyExits
from wb.data import Dataset, load
from wb.foreign.reading import load as load_model
from wb.models.counting import count_macs
from wb.models.model import Model
from wb.spaces.spaces import space_for
from wb.training.recipes.choose import recipe_for
from wb.training.recipes.recipe import RecipeOptions
from wb.training.train import train


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--model", type=Path, help="a model file; without it one is trained")
    parser.add_argument("--train-epochs", type=int, default=30, help="epochs of a network that is trained here")
    parser.add_argument("--after", help="blocks with exits; without it at most three")
    parser.add_argument("--epochs", type=int, default=0, help="epochs in which trunk and exits are tuned together")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="of that tuning")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def network(options: argparse.Namespace, data: Dataset) -> Model:
    """The network without exits."""
    if options.model is not None:
        return load_model(options.model)
    a = space_for(data).usual().with_classes(data.classes)
    recipe = recipe_for(RecipeOptions(), count_macs(a).value, data, options.train_epochs, convolutions=a.has_maps)
    return train(
        a, data, recipe, seed=options.seed, report=lambda epoch, of, loss: told(f"epoch {epoch} of {of}: {loss:.3f}")
    )


def run(options: argparse.Namespace, model: Model, data: Dataset, epochs: int, folder: Path) -> EarlyExits:
    """The job, with or without tuning."""
    given = {"data": options.data, "epochs": epochs, "seed": options.seed, "after": options.after or ()}
    given |= {"learning_rate": options.learning_rate} if epochs else {}
    name = str(options.model or "a network trained here")
    out = folder / f"{epochs}.safetensors"
    config = configured(given, exiting=False)
    return exits(config, model, name, data, out, lambda *what: told(*what), force=True)()


def ladder(record: EarlyExits, title: str, output: Output) -> None:
    """The table of one record."""
    ways = ", ".join(
        f"after {way.name} {way.latency.text()}, {way.validation.plain()} right alone" for way in record.ways[:-1]
    )
    end = record.ways[-1]
    alone = "" if record.alone is None else f", the network without exits {record.alone.text()}"
    output.say(f"{title}: {ways}; to the end {end.latency.text()}{alone} (measured together)")
    columns = (
        "gates",
        *(f"leave at {name}" for name in record.after),
        "test accuracy",
        "predicted",
        "measured",
        "of without",
    )
    table = Table(title, columns)
    test, latency = record.without["test"].text(), record.without["latency"].text()
    table.row("without exits", *("-" for _ in record.after), test, "-", latency, "1x")
    for rung in record.rungs:
        shares = [f"{100 * share:.1f} %" for share in rung.leaving[:-1]]
        read = [one.text() if one else "" for one in (rung.test, rung.expected, rung.latency, rung.ratio)]
        table.row(f"{rung.dial}{' (chosen)' if rung.beta == record.beta else ''}", *shares, *read)
    output.table(table)


def verdict(records: dict[str, EarlyExits], output: Output) -> bool:
    """Says for each record whether the target is reached; whether any does."""
    reached = False
    for title, record in records.items():
        rung = record.chosen
        if rung.paired is None or rung.ratio is None:
            continue
        met = rung.paired.points >= 0 and rung.ratio.value <= WANTED
        reached |= met
        output.say(
            f"{title}, {rung.dial}, chosen on validation images: {rung.paired.text()}; {rung.ratio.text()} of the mean "
            f"latency of the network without exits, measured (at most {WANTED:g} wanted): {'reached' if met else 'not reached'}"
        )
    return reached


def main() -> int:
    """Runs the benchmark; 3 where the target is missed."""
    options, output = begin(arguments())
    torch.set_num_threads(1)
    data = load(options.data)
    model = network(options, data)
    records: dict[str, EarlyExits] = {}
    with tempfile.TemporaryDirectory() as folder:
        for epochs in sorted({0, options.epochs}):
            title = f"tuned for {epochs} epochs with its exits" if epochs else "trunk as it was"
            records[title] = run(options, model, data, epochs, Path(folder))
            ladder(records[title], title, output)
    return 0 if verdict(records, output) else 3


if __name__ == "__main__":
    sys.exit(main())
