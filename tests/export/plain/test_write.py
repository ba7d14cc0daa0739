"""A network as plain PyTorch computes what it computes, in a process that has neither wb nor anything else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.combinations import EXPORTED
from tests.networks import images, of_digits, random_model, wired
from wb.core.errors import BadOption, Unsupported
from wb.core.records import ImageInput
from wb.export.plain.recording import record_part
from wb.export.plain.wording import Writer, merged
from wb.export.plain.write import export_plain, written
from wb.models.axes import Select
from wb.models.feeds import made_up
from wb.models.groups import settle
from wb.models.layers.operator import OperatorModule
from wb.models.model import Model, Step, remap_model


def plain(model: Model) -> Any:
    """The network that the code makes, and the one that it is made of."""
    network = model.network()
    settle(network)
    code, tensors = written(network)
    space: dict[str, Any] = {"__name__": "plain", "__file__": "model.py"}
    exec(code, space)
    return space["Network"](tensors).eval(), network


@pytest.mark.parametrize("name", [name for name, a in EXPORTED.items() if isinstance(a.input, ImageInput)])
def test_the_code_computes_what_the_network_does(name: str) -> None:
    model = random_model(EXPORTED[name])
    code, network = plain(model)
    x = images(model.architecture, 5)
    with torch.inference_mode():
        given, expected = code(x), network(x)
    if any(isinstance(module, OperatorModule) and module.jumps for module in network.modules()):
        given, expected = given.median(dim=0).values, expected.median(dim=0).values
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-4)


def test_so_does_that_of_a_pruned_network() -> None:
    """Blocks of different widths, with a scale that no longer follows from them."""
    model = random_model(of_digits())
    cut = remap_model(model, {"s0.b0.mlp": Select(torch.tensor([3, 5, 7])), "s0.b1.qk": Select(torch.tensor([0, 2]))})
    code, network = plain(cut)
    x = images(cut.architecture, 3)
    with torch.inference_mode():
        torch.testing.assert_close(code(x), network(x), atol=1e-5, rtol=1e-4)


def test_a_deep_network_that_norms_behind_its_joins_is_written_too() -> None:
    """Each of its 60 joins doubles the ways back from the last one."""
    code, network = plain(random_model(wired(of_digits(depth=30), "post")))
    x = images(network.architecture, 3)
    with torch.inference_mode():
        torch.testing.assert_close(code(x), network(x), atol=1e-4, rtol=1e-3)


def test_the_folder_needs_pytorch_and_nothing_else(tmp_path: Path) -> None:
    model = random_model(of_digits())
    model = Model(model.architecture.with_labels(["it's", *"abcdefghi"]), model.weights)
    export_plain(model, tmp_path / "out")
    x = images(model.architecture, 3)
    np.save(tmp_path / "x.npy", x.numpy())
    script = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('wb', 'safetensors', 'pydantic')))  # cannot be imported\n"
        "import numpy as np, torch\n"
        f"sys.path.insert(0, {str(tmp_path / 'out')!r})\n"
        "import model\n"
        f"y = model.load()(torch.from_numpy(np.load({str(tmp_path / 'x.npy')!r})))\n"
        f"np.save({str(tmp_path / 'y.npy')!r}, y.detach().numpy())\n"
        'assert model.CLASSES[0] == "it\'s"\n'
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run([sys.executable, "-P", "-c", script], check=True, cwd=tmp_path, env=environment)
    with torch.inference_mode():
        expected = model.network()(x)
    torch.testing.assert_close(torch.from_numpy(np.load(tmp_path / "y.npy")), expected, atol=1e-5, rtol=1e-4)


def test_it_can_be_trained(tmp_path: Path) -> None:
    """All that training changes is a parameter, and what it does not change is none."""
    code, network = plain(random_model(of_digits()))
    assert {name for name, _ in code.named_parameters()} == {name for name, _ in network.named_parameters()}
    code(images(of_digits(), 2)).sum().backward()
    assert all(parameter.grad is not None for name, parameter in code.named_parameters())


def test_equal_blocks_share_a_function() -> None:
    network = random_model(of_digits(depth=4)).network()
    settle(network)
    code, _ = written(network)
    assert code.count("def softmax_attention") == 1
    assert code.count("softmax_attention(layer_norm(") == 4
    assert max(map(len, code.splitlines())) <= 130


def test_nothing_is_written_over(tmp_path: Path) -> None:
    model = random_model(of_digits())
    export_plain(model, tmp_path)
    with pytest.raises(BadOption, match="exists already; choose another folder or say --force"):
        export_plain(model, tmp_path)
    assert [path.name for path in export_plain(model, tmp_path, force=True)] == ["model.safetensors", "model.py"]


class Doing(torch.nn.Module):
    """A module that does what it is told."""

    def __init__(self, does: Any) -> None:
        super().__init__()
        self.does = does

    def forward(self, x: torch.Tensor) -> Any:
        """What it is told."""
        return self.does(x)


def said(does: Any) -> str:
    """The code of what is done."""
    two, three = (record_part(Doing(does), torch.arange(2.0 * n).reshape(n, 2)) for n in (2, 3))
    return "; ".join(Writer(merged(two, three), lambda name: name)())


def said_of_texts(does: Any) -> str:
    """The code of what is done with texts of other numbers and lengths."""
    sizes = ((2, 5), (3, 5), (3, 7))
    runs = [record_part(Doing(does), torch.arange(float(n * m)).reshape(n, m)) for n, m in sizes]
    return "; ".join(Writer(merged(*runs), lambda name: name)())


@pytest.mark.parametrize(
    ("does", "code"),
    [
        (lambda x: x.reshape(x.numel()), "return x.reshape(len(x) * x.shape[1])"),
        (lambda x: x[:, : x.shape[1] - 2], "return x[:, :x.shape[1] - 2]"),
        (lambda x: torch.zeros(x.shape[1] + 1) + 5, "return torch.zeros(x.shape[1] + 1) + 5"),
        (lambda x: torch.arange(2 * x.shape[1])[len(x) :], "return torch.arange(2 * x.shape[1])[len(x):]"),
    ],
)
def test_sizes_follow_texts_and_their_tokens(does: Any, code: str) -> None:
    assert said_of_texts(does) == code
    x = torch.rand(4, 9)
    torch.testing.assert_close(eval(code.removeprefix("return "), {"x": x, "torch": torch}), does(x))


@pytest.mark.parametrize(
    ("does", "words"),
    [
        (lambda x: x / x.shape[1] ** 0.5, "for another number of texts or tokens"),
        (lambda x: x @ torch.from_numpy(np.ones(x.shape[1], np.float32)), "other constants for other numbers of texts"),
        (lambda x: x if x.shape[1] == 5 else x + 1, "other things for other numbers of texts or tokens"),
    ],
)
def test_what_follows_the_length_otherwise_is_said(does: Any, words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        said_of_texts(does)


TEXTS = [name for name, a in EXPORTED.items() if a.input.usual_tokens is not None]


@pytest.mark.parametrize("name", TEXTS)
def test_the_code_computes_what_a_network_for_texts_does_at_any_length_and_with_padding(name: str) -> None:
    code, network = plain(random_model(EXPORTED[name]))
    longest = int(network.architecture.layout.shape[0])
    for tokens in {1, 2, 3, longest}:
        feed = made_up(network.architecture.input.specs(), 4, tokens, tokens)
        ids, mask = feed.values()
        with torch.inference_mode():
            torch.testing.assert_close(code(ids, mask), network(ids, mask), atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(code(ids), network(ids), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="padding stands in front of a text"):
        code(torch.ones(1, 2, dtype=torch.int64), torch.tensor([[0, 1]]))


def test_a_tokenizer_goes_with_the_network(tmp_path: Path) -> None:
    model = random_model(EXPORTED[TEXTS[0]])
    model = model.then(Step(name="train", arguments={"tokenizer": "{}"}))
    assert [path.name for path in export_plain(model, tmp_path)] == ["model.safetensors", "model.py", "tokenizer.json"]
    assert (tmp_path / "tokenizer.json").read_text(encoding="utf-8") == "{}"
    assert "texts as ids (B, N)" in (tmp_path / "model.py").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("does", "code"),
    [
        (lambda x: 2 - (x - 1), "return 2 - (x - 1)"),
        (lambda x: -(x**2) * 3, "return -x ** 2 * 3"),
        (lambda x: (x + 1) * 2 / (x * x), "return (x + 1) * 2 / (x * x)"),
        (lambda x: (x @ x.T)[:, 0, None], "return (x @ x.T)[:, 0, None]"),
        (
            lambda x: x.expand(2, *x.shape).reshape(2 * len(x), 2),
            "return x.expand(2, len(x), 2).reshape(2 * len(x), 2)",
        ),
        (lambda x: x.split(1, dim=1)[1], "return x.split(1, dim=1)[1]"),
        (
            lambda x: torch.cat([x, x.max(dim=1).values[:, None]], 1),
            "return torch.cat((x, x.max(dim=1)[0][:, None]), 1)",
        ),
        (lambda x: torch.nn.functional.gelu(x, approximate="tanh"), "return F.gelu(x, approximate='tanh')"),
        (lambda x: x.masked_fill(x > 1, float("-inf")), 'return x.masked_fill(x > 1, float("-inf"))'),
    ],
)
def test_expressions(does: Any, code: str) -> None:
    assert said(does) == code
    x = torch.arange(6.0).reshape(3, 2)
    found = eval(code.removeprefix("return "), {"x": x, "torch": torch, "F": torch.nn.functional})
    torch.testing.assert_close(found, does(x))


@pytest.mark.parametrize(
    ("does", "words"),
    [
        (lambda x: x.clone().add_(1), "writes into a tensor"),
        (lambda x: x if len(x) == 2 else x + 1, "other things for other numbers of images"),
        (lambda x: x * (len(x) + 1), "for another number of images"),
    ],
)
def test_what_cannot_be_written_is_said(does: Any, words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        said(does)
