"""Universal approximation: one layer fits a smooth function better and better as it grows wider.

Two networks of one layer, both made of this workbench's operators. A perceptron fits f(x, y) = sin(pi x) exp(-y^2) on a
square. A block of attention and a perceptron, with a head for every eight hidden units (wide attention: one layer, many
heads), fits for each of eight tokens f = sin(pi x_i) exp(-(mean_j y_j - y_i)^2), which depends on the others. Both are
fitted to points at random by Levenberg-Marquardt in float64, and judged on as many others by the root mean square of the
error, as a share of the function's deviation: measured. The target: the widest of each is below `--error`, and of two
widths the four times larger is always the better.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import matplotlib as mpl
import torch
from tables import Output, Table, begin, parser_of, told
from torch import Tensor, nn

from wb.core.layout import Layout
from wb.core.records import Mlp, Softmax
from wb.models.block import build_operator

mpl.use("Agg")
from matplotlib import pyplot as plt

TOKENS, LIFTED, PER_HEAD = 8, 16, 8
WIDER = 4
TRIES = 8  # of a step, more and more damped


class Fitted(NamedTuple):
    """What one width reached: the error on points that were fitted and on others, parameters, and seconds."""

    width: int
    error: float
    fitted: float
    parameters: int
    seconds: float


class Layer(nn.Module):
    """Points or tokens (B, N, 2) -> values (B, N): a map into the stream, the operators, a map out of it."""

    def __init__(self, width: int, *, attention: bool) -> None:
        super().__init__()
        layout = Layout((TOKENS if attention else 1,))
        self.enter, self.leave = nn.Linear(2, LIFTED), nn.Linear(LIFTED, 1)
        heads = max(1, width // PER_HEAD)
        self.mixer = build_operator(Softmax(heads=heads, qk=4, v=4), LIFTED, layout) if attention else None
        self.ffn = build_operator(Mlp(mlp=width), LIFTED, layout)
        for operator in (self.mixer, self.ffn):
            if operator is not None:
                operator.reset()

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(x)
        y = y if self.mixer is None else y + self.mixer(y)
        return self.leave(self.ffn(y))[..., 0]


def wanted(x: Tensor, *, attention: bool) -> Tensor:
    """The function's values (B, N) at points (B, N, 2)."""
    away = x[..., 1].mean(dim=1, keepdim=True) - x[..., 1] if attention else x[..., 1]
    return torch.sin(torch.pi * x[..., 0]) * torch.exp(-away.square())


def drawn(count: int, seed: int, *, attention: bool) -> Tensor:
    """Points in the square from -1 to 1, one or `TOKENS` to an example."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count // TOKENS, TOKENS, 2) if attention else (count, 1, 2)
    return 2 * torch.rand(shape, dtype=torch.float64, generator=generator) - 1


def missed(layer: Layer, x: Tensor, y: Tensor) -> float:
    """The root mean square of the error as a share of the function's deviation."""
    with torch.no_grad():
        return ((layer(x) - y).square().mean() / y.var(correction=0)).sqrt().item()


def descend(layer: Layer, x: Tensor, y: Tensor, steps: int) -> None:
    """Levenberg-Marquardt: least squares on the linearised network, damped more where a step does not help."""
    weights = {name: weight.detach() for name, weight in layer.named_parameters()}

    def given(values: dict[str, Tensor], example: Tensor) -> Tensor:
        return torch.func.functional_call(layer, values, (example[None],))[0]  # (N)

    slopes, damping = torch.func.vmap(torch.func.jacrev(given), (None, 0)), 0.1
    rest = (y - layer(x).detach()).flatten()
    for _ in range(steps):
        found = slopes(weights, x)
        matrix = torch.cat([found[name].reshape(len(rest), -1) for name in weights], dim=1)  # (points, parameters)
        wide = matrix.shape[0] < matrix.shape[1]
        square = matrix @ matrix.T if wide else matrix.T @ matrix
        for _ in range(TRIES):
            damped = square + damping * torch.eye(len(square), dtype=square.dtype)
            step = matrix.T @ torch.linalg.solve(damped, rest) if wide else torch.linalg.solve(damped, matrix.T @ rest)
            parts = step.split([weight.numel() for weight in weights.values()])
            new = {name: w + part.view_as(w) for (name, w), part in zip(weights.items(), parts, strict=True)}
            left = (y - torch.func.functional_call(layer, new, (x,)).detach()).flatten()
            if left.square().sum() < rest.square().sum():
                weights, rest, damping = new, left, damping / 3
                break
            damping *= 4
    layer.load_state_dict(weights)


def fit(width: int, options: argparse.Namespace, *, attention: bool) -> Fitted:
    """One width, fitted; of several tries the one that fits the given points best."""
    x, other = (drawn(options.points, seed, attention=attention) for seed in (1, 2))
    y, beside = wanted(x, attention=attention), wanted(other, attention=attention)
    start, found = time.process_time(), []
    for seed in range(options.tries):
        torch.manual_seed(seed)
        layer = Layer(width, attention=attention).double()
        descend(layer, x, y, options.steps)
        found.append((missed(layer, x, y), missed(layer, other, beside)))
    fitted, error = min(found)
    count = sum(weight.numel() for weight in layer.parameters())
    return Fitted(width, error, fitted, count, time.process_time() - start)


def reached(curve: list[Fitted], most: float) -> bool:
    """Whether the widest is below `most`, and each four times wider one better."""
    errors = {one.width: one.error for one in curve}
    falls = all(errors[width * WIDER] < error for width, error in errors.items() if width * WIDER in errors)
    return falls and curve[-1].error <= most


def table_of(title: str, curve: list[Fitted], *, attention: bool) -> Table:
    """The curve as a table."""
    heads = ("heads",) if attention else ()
    table = Table(title, ("hidden units", *heads, "parameters", "error", "on fitted points", "CPU s"))
    for one in curve:
        number = (str(max(1, one.width // PER_HEAD)),) if attention else ()
        errors = (f"{one.error:.2g}", f"{one.fitted:.2g}")
        table.row(str(one.width), *number, f"{one.parameters:,}", *errors, f"{one.seconds:.1f}")
    return table


def plot(curves: dict[str, list[Fitted]], most: float, path: Path) -> None:
    """The curves as a picture."""
    figure, axes = plt.subplots(figsize=(7, 4), dpi=120)
    for title, curve in curves.items():
        axes.loglog([one.width for one in curve], [one.error for one in curve], marker="o", label=title)
    axes.axhline(most, color="#888888", lw=1, ls="--", label="target")
    axes.set_xlabel("hidden units of the one layer")
    axes.set_ylabel("error on other points, of the function's deviation")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


def run(options: argparse.Namespace, output: Output) -> bool:
    """Both networks at all widths; whether both reach the target."""
    curves: dict[str, list[Fitted]] = {}
    for title, attention in (("a perceptron", False), ("attention and a perceptron", True)):
        curve = curves[title] = []
        for width in options.widths:
            curve.append(fit(width, options, attention=attention))
            told(f"{title}, {width}: {curve[-1].error:.3g}")
        output.table(table_of(f"{title}, {options.points:,} points", curve, attention=attention))
        met = reached(curve, options.error)
        output.say(
            f"{title}: an error of {curve[-1].error:.2g} with {curve[-1].width} hidden units (at most {options.error:g} "
            f"wanted, and less whenever it is four times as wide): {'reached' if met else 'not reached'}"
        )
    if options.plot is not None:
        plot(curves, options.error, options.plot)
        output.say(f"![Error against width]({options.plot.name})" if output.markdown else f"wrote {options.plot}")
    return all(reached(curve, options.error) for curve in curves.values())


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--widths", type=lambda text: [int(one) for one in text.split(",")], default=[1, 2, 4, 8, 16, 32]
    )
    parser.add_argument("--points", type=int, default=768, help="to fit, and as many others to judge")
    parser.add_argument("--steps", type=int, default=100, help="of Levenberg-Marquardt")
    parser.add_argument("--tries", type=int, default=2, help="of each width, from other first values")
    parser.add_argument("--error", type=float, default=0.01, help="the target for the widest")
    parser.add_argument("--plot", type=Path, help="a picture of the curves, such as docs/approximation.png")
    return parser


def main() -> int:
    """Runs the benchmark; 3 where the target is missed."""
    options, output = begin(arguments())
    torch.set_num_threads(1)
    return 0 if run(options, output) else 3


if __name__ == "__main__":
    sys.exit(main())
