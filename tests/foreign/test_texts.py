"""Networks of transformers that take texts: what they compute in steps and behind padding, and how they are handed back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor

from tests.foreign.checkpoints import NAMES, REFERENCES, answer, config, tensors, written
from wb.core.architecture import axis_sizes, kind_of_axis
from wb.core.errors import BadArtefact, Unsupported, WbError
from wb.core.records import Classify, Softmax, TextInput
from wb.core.records.attention import Rotary
from wb.data.texts.vocabulary import Vocabulary
from wb.foreign.exporting import export_checkpoint
from wb.foreign.families.texts.rope import rope_of
from wb.foreign.importing import read_checkpoint
from wb.models.axes import Select
from wb.models.decoding import decoded, started
from wb.models.files.history import tokenizer_of
from wb.models.model import Model, remap_model

TEXTS = [name for name in NAMES if read_checkpoint(REFERENCES / name).family.takes == "text"]
DECODERS = [name for name in TEXTS if read_checkpoint(REFERENCES / name).model.architecture.causal]
ENCODERS = [name for name in TEXTS if name not in DECODERS]
HEAD, TABLE = "lm_head.weight", "model.embed_tokens.weight"


def imported(name: str) -> Model:
    return read_checkpoint(REFERENCES / name).model


def edited(folder: Path, name: str, about: dict[str, Any], weights: dict[str, Tensor] | None = None) -> Path:
    """The checkpoint of that name with other settings, None for those that are left out, and other weights."""
    given = {key: value for key, value in {**config(name), **about}.items() if value is not None}
    return written(folder, tensors(name) | (weights or {}), given)


def halved(model: Model, kind: str) -> Model:
    """The network with half of every width of a kind."""
    sizes = axis_sizes(model.architecture)
    return remap_model(model, {at: Select(torch.arange(n // 2)) for at, n in sizes.items() if kind_of_axis(at) == kind})


@pytest.mark.parametrize("name", DECODERS)
def test_the_library_gives_step_by_step_what_it_gives_for_the_whole(name: str) -> None:
    network, (ids, expected) = imported(name).network(), answer(name)
    past, found, before = started(network, len(ids)), [], 0
    with torch.inference_mode():
        for step in (3, 1, 1, 6):
            logits, past = decoded(network, ids[:, before : before + step], past, before)
            found.append(logits)
            before += step
    torch.testing.assert_close(torch.cat(found, dim=1), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ENCODERS)
def test_padding_behind_a_text_changes_nothing(name: str) -> None:
    network, (ids, expected) = imported(name).network(), answer(name)
    padded = torch.cat([ids, torch.full((len(ids), 1), -1)], dim=1)
    with torch.inference_mode():
        torch.testing.assert_close(network(padded), expected, atol=1e-4, rtol=1e-4)


def test_the_sizes_are_those_of_the_configurations() -> None:
    a = imported("hf-roberta").architecture
    assert a.input == TextInput(vocabulary=32, length=12, tokens=12), "two of the 14 rows of positions are of no token"
    assert isinstance(a.head, Classify)
    assert a.head.hidden is not None
    mixer = imported("hf-qwen3").architecture.stages[0].blocks[0].mixer
    assert isinstance(mixer, Rotary)
    assert (mixer.heads, mixer.queries, mixer.qk, mixer.v, mixer.rms) == (2, 2, 3, 6, True)
    assert imported("hf-bert").architecture.head.labels == ("bird", "cat", "deer", "dog", "frog")


def test_a_tokenizer_comes_along_without_cutting_texts() -> None:
    vocabulary = Vocabulary(str(tokenizer_of(imported("hf-bert").history)), 99, 9)
    assert vocabulary.encoded(["a b " * 20]).counts.tolist() == [42]
    assert (vocabulary.front, vocabulary.whole("a").tolist()) == ((1,), [4])
    assert tokenizer_of(imported("hf-qwen3").history) is None


@pytest.mark.parametrize(("name", "key"), [("hf-llama", "intermediate_size"), ("hf-gpt2", "n_inner")])
def test_smaller_networks_are_handed_back_with_both_forms_of_rotary_positions(
    name: str, key: str, tmp_path: Path
) -> None:
    less = halved(imported(name), "mlp")
    export_checkpoint(less, "source", tmp_path / "m")
    said = json.loads((tmp_path / "m/config.json").read_text())
    assert said[key] == (10 if name == "hf-llama" else 24)
    assert ("rope_theta" in said, "rope_parameters" in said) == ((True, True) if name == "hf-llama" else (False, False))
    again = read_checkpoint(tmp_path / "m").model
    assert again.architecture == less.architecture
    ids, _ = answer(name)
    torch.testing.assert_close(again.network()(ids), less.network()(ids))
    assert (tmp_path / "m/tokenizer.json").read_bytes() == (REFERENCES / name / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("name", ["hf-llama", "hf-gpt2", "hf-bert", "hf-distilbert"])
def test_networks_of_no_library_are_written_for_it(name: str, tmp_path: Path) -> None:
    """Of families with the same parts the first that says them."""
    model = replace(halved(imported(name), "mlp"), history=())
    export_checkpoint(model, "hf", tmp_path / "m")
    again = read_checkpoint(tmp_path / "m").model
    assert again.architecture == model.architecture
    ids, _ = answer(name)
    torch.testing.assert_close(again.network()(ids), model.network()(ids))


def test_rows_of_no_token_are_handed_back_with_a_network_that_changed(tmp_path: Path) -> None:
    export_checkpoint(halved(imported("hf-roberta"), "mlp"), "source", tmp_path / "m")
    name = "roberta.embeddings.position_embeddings.weight"
    assert torch.equal(read_rows(tmp_path / "m", name), tensors("hf-roberta")[name].float())
    fewer = {f"s0.b{j}.heads": Select(torch.arange(2)) for j in range(2)}
    less = remap_model(imported("hf-roberta"), {"s0.embed": Select(torch.arange(8)), **fewer})
    export_checkpoint(less, "source", tmp_path / "narrow")
    rows = read_rows(tmp_path / "narrow", name)
    assert rows.shape == (14, 8)
    assert not rows[:2].any()
    assert read_checkpoint(tmp_path / "narrow").model.architecture == less.architecture


def read_rows(folder: Path, name: str) -> Tensor:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")[name].float()


def test_what_the_formats_cannot_say_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match=r"heads of 4 query/key and 2 value channels\); ONNX can"):
        export_checkpoint(halved(imported("hf-llama"), "v"), "source", tmp_path / "m")
    model = imported("hf-qwen3")
    turns = {**model.weights, "stages.0.0.mixer.frequencies": model.weights["stages.0.0.mixer.frequencies"].flip(1)}
    with pytest.raises(Unsupported, match=r"computes stages\.0\.0\.mixer\.frequencies from its configuration"):
        export_checkpoint(replace(model, weights=turns), "source", tmp_path / "m")
    gains = {**model.weights, "stages.0.0.mixer.q_gain": torch.randn_like(model.weights["stages.0.0.mixer.q_gain"])}
    with pytest.raises(Unsupported, match="one set of gains for all heads, and this network has several"):
        export_checkpoint(replace(model, weights=gains), "source", tmp_path / "m")


def test_networks_without_a_head_of_their_own_may_be_saved_without_prefix(tmp_path: Path) -> None:
    weights = {name.removeprefix("transformer."): tensor for name, tensor in tensors("hf-gpt2").items()}
    weights["h.0.attn.bias"] = torch.ones(1, 1, 14, 14, dtype=torch.bool).tril()  # old versions kept masks
    folder = written(tmp_path / "given", weights, config("hf-gpt2"))
    ids, expected = answer("hf-gpt2")
    found = read_checkpoint(folder).model
    torch.testing.assert_close(found.network()(ids), expected, atol=1e-4, rtol=1e-4)
    export_checkpoint(found, "source", tmp_path / "back")
    assert (tmp_path / "back/model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_a_head_that_is_the_table_again_is_handed_back(tmp_path: Path) -> None:
    given = edited(tmp_path / "given", "hf-llama", {}, {HEAD: tensors("hf-llama")[TABLE].clone()})
    model = read_checkpoint(given).model
    export_checkpoint(model, "source", tmp_path / "back")
    assert (tmp_path / "back/model.safetensors").read_bytes() == (given / "model.safetensors").read_bytes()
    export_checkpoint(halved(model, "mlp"), "source", tmp_path / "less")
    assert torch.equal(read_rows(tmp_path / "less", HEAD), read_rows(tmp_path / "less", TABLE))


@pytest.mark.parametrize(
    ("name", "about", "words", "kind"),
    [
        ("hf-llama", {"num_key_value_heads": 4}, r"k_proj.weight \[8, 16\], expected \[16, 16\]", BadArtefact),
        ("hf-llama", {"num_key_value_heads": 3}, "=4 and num_key_value_heads=3; expected a divisor", BadArtefact),
        ("hf-llama", {"tie_word_embeddings": False}, r"1 tensors are missing: lm_head.weight \[32, 16\]", BadArtefact),
        ("hf-llama", {"vocab_size": 33}, r"embed_tokens.weight \[32, 16\], expected \[33, 16\]", BadArtefact),
        ("hf-llama", {"attention_bias": True}, "attention_bias=True: no record has a bias", Unsupported),
        (
            "hf-llama",
            {"rope_parameters": {"rope_type": "dynamic"}},
            "of type 'dynamic'; known are default",
            Unsupported,
        ),
        ("hf-llama", {"rope_parameters": {"rope_type": ["a"]}}, "rotary positions of type", Unsupported),
        ("hf-llama", {"rope_parameters": {"full": {"rope_theta": 1e4}}}, "differ from layer to layer", Unsupported),
        ("hf-llama", {"rope_parameters": {"rope_type": "linear"}}, "factor=None for rotary positions", BadArtefact),
        ("hf-llama", {"rope_parameters": {"rope_theta": "x"}}, "rope_theta='x' for rotary positions", BadArtefact),
        ("hf-qwen2", {"use_sliding_window": True}, "use_sliding_window=True: networks of wb see all", Unsupported),
        ("hf-qwen2", {"model_type": "llama"}, "6 tensors are left over: .*bias", BadArtefact),
        ("hf-qwen2", {"model_type": "gemma"}, "which is a Gemma: no records of wb have norms", Unsupported),
        ("hf-gpt2", {"n_positions": 15}, r"wpe.weight \[14, 12\], expected \[15, 12\]", BadArtefact),
        ("hf-gpt2", {"activation_function": "mish"}, "activation_function='mish'; of activations", Unsupported),
        ("hf-bert", {"problem_type": "multi_label_classification"}, "networks of wb name one class", Unsupported),
        ("hf-bert", {"position_embedding_type": "relative_key"}, "networks of wb have absolute positions", Unsupported),
        ("hf-bert", {"type_vocab_size": 3}, r"token_type_embeddings.weight \[2, 12\], expected \[3, 12\]", BadArtefact),
        ("hf-distilbert", {"dim": 13}, "dim=13 and n_heads=3; expected a divisor", BadArtefact),
    ],
)
def test_configurations_that_contradict_the_weights_or_ask_for_more(
    name: str, about: dict[str, Any], words: str, kind: type[WbError], tmp_path: Path
) -> None:
    with pytest.raises(kind, match=words) as error:
        read_checkpoint(edited(tmp_path / "m", name, about))
    assert "\n" not in str(error.value)


def test_a_head_that_differs_although_it_is_said_to_be_the_table(tmp_path: Path) -> None:
    folder = edited(tmp_path / "m", "hf-llama", {}, {HEAD: tensors("hf-llama")[TABLE] + 1})
    with pytest.raises(BadArtefact, match=r"lm_head.weight is model.embed_tokens.weight .* differ by up to 1; set"):
        read_checkpoint(folder)
    read_checkpoint(
        edited(tmp_path / "own", "hf-llama", {"tie_word_embeddings": False}, {HEAD: tensors("hf-llama")[TABLE] + 1})
    )


def test_a_tokenizer_that_is_larger_than_the_embeddings(tmp_path: Path) -> None:
    folder = edited(tmp_path / "m", "hf-llama", {"vocab_size": 20}, {TABLE: tensors("hf-llama")[TABLE][:20].clone()})
    (folder / "tokenizer.json").write_bytes((REFERENCES / "hf-llama/tokenizer.json").read_bytes())
    with pytest.raises(BadArtefact, match="has ids up to 29, and the embeddings 20 rows"):
        read_checkpoint(folder)


@pytest.mark.parametrize("name", ["hf-bert", "hf-llama"])
def test_networks_without_the_head_that_is_read(name: str, tmp_path: Path) -> None:
    weights = {key: one for key, one in tensors(name).items() if "classifier" not in key}
    weights |= {"score.weight": torch.zeros(2, 16)} if name == "hf-llama" else {}
    with pytest.raises(Unsupported, match=r"save a (BertForSequenceClassification|LlamaForCausalLM)"):
        read_checkpoint(written(tmp_path / "m", weights, config(name)))


def test_old_and_new_settings_of_rotary_positions_mean_the_same() -> None:
    scaling = {"rope_type": "linear", "factor": 2.0}
    new = rope_of({"rope_parameters": {**scaling, "rope_theta": 500.0}, "rope_theta": 7.0}, 4, 32)
    old = rope_of({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 500.0}, 4, 32)
    assert torch.equal(new.frequencies, old.frequencies)
    assert (new.base, old.base) == (500.0, 500.0)
    assert rope_of({}, 4, 32).base == 10_000


def test_scores_that_shrink_from_layer_to_layer() -> None:
    scales = [
        block.mixer.scale
        for _, _, block in imported("hf4-gpt2").architecture.blocks()
        if isinstance(block.mixer, Softmax)
    ]
    assert scales == [None, 4**-0.5 / 2]


@pytest.mark.parametrize("file", ["tokenizer_config.json", "tokenizer.json"])
@pytest.mark.parametrize("name", ["hf-bert", "hf-distilbert", "hf-roberta", "hf-gpt2", "hf-llama"])
def test_padding_in_front_is_refused_where_places_are_counted_with_it(name: str, file: str, tmp_path: Path) -> None:
    place = written(tmp_path, tensors(name), config(name))
    if file == "tokenizer.json":
        tokenizer = Tokenizer(WordLevel({"a": 0, "b": 1}, unk_token="a"))
        tokenizer.enable_padding(direction="left")
        tokenizer.save(str(place / file))
    else:
        (place / file).write_text('{"padding_side": "left"}', encoding="utf-8")
    if name not in ("hf-bert", "hf-distilbert"):
        notes = read_checkpoint(place).notes
        assert any("here it is behind, which gives the numbers that a text has alone" in note for note in notes)
        return
    with pytest.raises(
        Unsupported, match=rf"{file} says that padding stands in front .*counts places .*padding_side right"
    ):
        read_checkpoint(place)
    (place / "tokenizer_config.json").write_text('{"padding_side": "right"}', encoding="utf-8")
    assert not any("padding" in note for note in read_checkpoint(place).notes), "the settings win over the tokenizer"
