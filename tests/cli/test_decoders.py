"""Commands on decoders: trained, tuned, exported, measured, asked for text, searched, and refused where they name no classes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from tests.catalogue import DECODERS
from tests.commands import succeeded, wb
from wb import api
from wb.core.architecture import Architecture
from wb.core.measures.metrics import METRICS, Rules, parse_budget
from wb.core.records import TextInput
from wb.data.texts.vocabulary import Vocabulary
from wb.models.decoding import decoded, started
from wb.models.files.history import tokenizer_of
from wb.models.model import load
from wb.search.page.usage import script

WORD = "hello world. "
SMALL = TextInput(vocabulary=11, length=16, tokens=16)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A text that says one thing again and again."""
    path = tmp_path_factory.mktemp("prose") / "hello.txt"
    path.write_text(WORD * 150, encoding="utf-8")
    return path


def tiny() -> Architecture:
    return DECODERS["rotary"].model_copy(update={"input": SMALL})


@pytest.fixture(scope="module")
def model(text: Path) -> Path:
    """A model that has learned it."""
    out = text.with_name("d.safetensors")
    text.with_name("a.json").write_text(tiny().to_json())
    data = f"lm,length=16:{text}"
    found = succeeded(
        "train",
        "--data",
        data,
        "--architecture",
        text.with_name("a.json"),
        "--epochs",
        6,
        "--learning-rate",
        0.03,
        "-o",
        out,
        "--json",
    )
    assert json.loads(found.stdout)["test"]["value"] < 2.0
    return out


@pytest.fixture(scope="module")
def graph(model: Path) -> Path:
    succeeded("export", model, "-o", model.with_suffix(".onnx"))
    return model.with_suffix(".onnx")


def refused(*arguments: object) -> str:
    """The error of a command, on one line."""
    result = wb(*arguments)
    assert result.exit_code in (1, 2), (arguments, result.output)
    error = " ".join(result.output.split())
    assert "Traceback" not in error
    return error[error.index("error:") :]


def test_it_continues_a_text_as_it_has_learned(model: Path, graph: Path) -> None:
    for file in (model, graph):
        said = succeeded("generate", file, "--prompt", "hello wor", "--tokens", 40, "--temperature", 0).stdout
        assert said == ("hello world. " * 4)[:49] + "\n"
    drawn = [
        api.generate(graph, "hello ", tokens=60, temperature=2.0, seed=seed, quiet=True).text for seed in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    best = api.generate(graph, "hello ", tokens=30, temperature=2.0, top_k=1, quiet=True)
    assert best.text == api.generate(model, "hello ", tokens=30, temperature=0, quiet=True).text
    content = json.loads(
        succeeded("generate", graph, "--prompt", "hel", "--tokens", 2, "--temperature", 0, "--json").stdout
    )
    assert content == {"model": str(graph), "prompt": "hel", "text": "lo", "tokens": 2}


def test_tokens_are_drawn_as_the_network_foresees_them(model: Path) -> None:
    """Against a computation of the whole text for each token, within what the network reads."""
    kept = load(model)
    network = kept.network()
    vocabulary = Vocabulary(str(tokenizer_of(kept.history)), 16, 16)
    ids, random = vocabulary.whole("hell").tolist(), np.random.default_rng(7)
    for _ in range(12):
        with torch.no_grad():
            logits, _ = decoded(network, torch.tensor([ids]), started(network, 1), 0)
        scores = logits[0, -1].double().numpy() / 1.5
        order = np.argsort(-scores, kind="stable")[:3]
        chances = np.exp(scores[order] - scores[order].max())
        ids.append(int(random.choice(order, p=chances / chances.sum())))
    found = api.generate(model, "hell", tokens=12, temperature=1.5, top_k=3, seed=7, quiet=True)
    assert "hell" + found.text == vocabulary.read(ids)


def test_a_script_of_the_page_continues_texts(graph: Path) -> None:
    code = script(str(graph), tiny(), "lm")
    said = subprocess.run([sys.executable, "-c", code, "hello "], capture_output=True, text=True, check=True).stdout
    assert said.startswith("hello ")
    assert len(said) == 16 + 1


def test_latencies_are_of_a_prompt_and_of_one_more_token(graph: Path, text: Path) -> None:
    found = json.loads(succeeded("measure", graph, "--cap", 0.1, "--data", f"lm,length=16:{text}", "--json").stdout)
    assert found["latency@prompt"]["note"].startswith("of one text of 16 tokens")
    assert found["latency@token"]["note"].startswith("of one more token behind 15")
    assert "latency" not in found
    assert found["perplexity (hello.txt, test)"]["value"] < 2.0


def test_a_model_is_tuned_further_and_shown(model: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.safetensors"
    said = succeeded("train", "--from", model, "--data", f"lm,length=8:{text}", "--epochs", 1, "-o", out)
    assert "ppl" in said.stdout
    assert load(out).architecture == load(model).architecture
    shown = " ".join(succeeded("show", out).stdout.split())
    assert "the next token (scores of the next token)" in shown
    assert "classes" not in shown


def test_a_decoder_is_written_as_plain_pytorch(model: Path, tmp_path: Path) -> None:
    """Whole, without a cache; its tokenizer lies beside it."""
    succeeded("export", model, "--to", "torch", tmp_path / "plain")
    space: dict[str, Any] = {"__name__": "model", "__file__": str(tmp_path / "plain" / "model.py")}
    exec((tmp_path / "plain" / "model.py").read_text(encoding="utf-8"), space)
    plain = space["load"]()
    vocabulary = Tokenizer.from_file(str(tmp_path / "plain" / "tokenizer.json")).get_vocab_size()
    network, ids = load(model).network(), torch.randint(0, vocabulary, (2, 9))
    with torch.inference_mode():
        torch.testing.assert_close(plain(ids), network(ids), rtol=1e-4, atol=1e-4)


def test_what_cannot_be_done_to_decoders_says_why(model: Path, graph: Path, tmp_path: Path) -> None:
    whys = {
        "continues texts token by token, and this names classes": ("predict", graph, "hello"),
        "such graphs are quantized from their model": ("quantize", graph, "-o", tmp_path / "q.onnx"),
        "take int8-dynamic": ("quantize", model, "--policy", "int8", "-o", tmp_path / "q.onnx"),
        "give one on size or ppl": ("quantize", model, "--budget", "latency=0.5x", "-o", tmp_path / "q.onnx"),
        "is a loss in points, which perplexity has not": ("quantize", model, "--budget", "ppl=-0.5", "-o", "q.onnx"),
        "has no softmax attention to hash": ("binarize", model, "--attention", "hash", "-o", tmp_path / "b.pt"),
        "leave --supernet out": ("search", "--from", model, "--supernet", "--out", tmp_path / "run"),
        "there are budgets on both": (
            *("prune", "nvit", model, "--budget", "latency=0.5x,latency@token=0.5x", "-o", tmp_path / "p.pt"),
        ),
    }
    for why, command in whys.items():
        assert why in refused(*command), command


def test_a_decoder_is_looked_into_and_compared(model: Path, graph: Path, tmp_path: Path) -> None:
    page = tmp_path / "depth.html"
    said = succeeded("analyze", "depth", model, "--limit", 4, "-o", page).stdout
    assert "measured on 4 passages of validation" in said
    assert "accuracy" not in page.read_text().lower().replace("location-accuracy-circle", "")  # of the plots' own style
    assert "nat a token" in said
    found = json.loads(succeeded("diff", model, graph, "--samples", 4, "-o", tmp_path / "d.html", "--json").stdout)
    assert (found["outputs"]["noun"], found["outputs"]["images"]) == ("passages", 4)
    assert found["outputs"]["distance"] < 1e-5
    assert found["outputs"]["ppl"][0]["unit"] == "ppl"


@pytest.mark.usefixtures("untimed", "unpaged")
def test_a_decoder_is_pruned_quantized_and_bundled(model: Path, tmp_path: Path) -> None:
    cut, low, bundle = (tmp_path / name for name in ("c.safetensors", "q.onnx", "bundle"))
    how = ("--budget", "macs=0.6x", "--rounds", 1, "--samples", 16, "--recovery", 1, "--finetune", 1)
    said = succeeded("prune", "nvit", model, *how, "-o", cut).stdout
    assert "latency@token" in said
    assert api.generate(cut, "hello", tokens=3, quiet=True).text
    said = " ".join(succeeded("quantize", cut, "-o", low).stdout.split())
    assert "8-bit activations have one range for all tokens of a run" in said
    assert "ppl on test" in said
    succeeded("bundle", low, "-o", bundle, "--cap", 0.1)
    card = json.loads((bundle / "card.json").read_text())
    assert (card["task"], card["labels"], card["stepwise"]) == ("next token", [], False)
    assert not (bundle / "labels.txt").exists()
    done = subprocess.run([sys.executable, "infer.py", "hello"], cwd=bundle, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("hello")
    assert len(done.stdout) > 100


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("train", "--from", "MODEL", "--data", "listops", "-o", "x.pt"), "name a text with --data lm:FILE"),
        (("train", "--from", "MODEL", "--new-head", "-o", "x.pt"), "is of heads for classes"),
        (("train", "--data", "listops", "--architecture", "MODEL", "-o", "x.pt"), "name a text with --data lm:FILE"),
        (
            ("train", "--data", "lm,length=16:TEXT", "--recipe", "text", "-o", "x.pt"),
            "--recipe text is not for passages",
        ),
        (("measure", "MODEL", "--data", "digits"), "have images"),
        (("generate", "MODEL", "--prompt", "HELLO"), "has 'E', 'H', 'L', 'O' that the model has never seen"),
        (("generate", "MODEL", "--prompt", ""), "has no token"),
        (("export", "MODEL", "--exporter", "dynamo", "-o", "x.onnx"), "exported by torchscript"),
        (("data", "lm,length=16:TEXT"), "without classes to count"),
        (
            ("search", "--space", "text", "--data", "lm,length=16:TEXT"),
            "is not for passages, which the data are; say --space decoder",
        ),
        (("search", "--space", "decoder", "--data", "listops"), "is not for texts"),
        (("search", "--data", "lm,length=16:TEXT", "--objectives", "acc,latency"), "have no accuracy"),
        (("search", "--data", "listops", "--objectives", "acc,latency@token"), "have no latency of one more token"),
        (("search", "--data", "lm,length=16:TEXT", "--latency", "table"), "blocks that see a whole text"),
        (("search", "--data", "lm,length=16:TEXT", "--set", "mixer=performer"), "sees the tokens that follow"),
    ],
)
def test_wrong_uses_are_explained(words: tuple[str, ...], why: str, model: Path, text: Path, tmp_path: Path) -> None:
    given = [word.replace("MODEL", str(model)).replace("TEXT", str(text)) for word in words]
    given = [str(tmp_path / word) if word in ("x.pt", "x.onnx") else word for word in given]
    assert why in refused(*given)


def test_budgets_are_on_perplexity_and_both_latencies() -> None:
    limits = parse_budget(["ppl=4.5,latency@token=0.2ms,latency@prompt=0.002s"], Rules(tuple(METRICS), shares=False))
    assert [(one.metric.name, one.value) for one in limits] == [
        ("ppl", 4.5),
        ("latency@token", 0.2),
        ("latency@prompt", 2.0),
    ]
    assert METRICS["ppl"].quality


@pytest.mark.usefixtures("untimed", "unpaged")
def test_a_front_over_perplexity_and_the_latency_of_a_token(text: Path, tmp_path: Path) -> None:
    options = (
        "--set",
        "embed=8,16",
        "--set",
        "depth=1",
        "--set",
        "mlp=1",
        "--set",
        "mixer=linear,rotary",
        "--set",
        "heads=1,2",
    )
    brief = (
        "--trials",
        3,
        "--epochs",
        1,
        "--finetune",
        1,
        "--rungs",
        "none",
        "--finalists",
        2,
        "--limit",
        30,
        "--baselines",
    )
    out = tmp_path / "run"
    succeeded("search", "--space", "decoder", "--data", f"lm,length=16:{text}", *options, *brief, "--out", out)
    points = json.loads((out / "front.json").read_text())
    assert json.loads((out / "run.json").read_text())["config"]["objectives"] == "ppl,latency@token"
    assert points
    for point in points:
        assert {"ppl", "latency@token", "latency@prompt", "latency"} <= point["values"].keys()
        assert point["quality"] == "ppl"
        assert point["values"]["ppl"]["value"] > 1.0
        said = api.generate(out / point["onnx"], "hello", tokens=3, quiet=True)
        assert len(said.text) == 3
    assert json.loads((out / "baselines.json").read_text())
    assert not (out / "answers.json").exists()
