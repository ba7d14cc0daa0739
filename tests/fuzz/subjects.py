"""Every reader with a good file for it, and how to damage that."""

from __future__ import annotations

import csv
import gzip
import json
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image

from tests.foreign.checkpoints import REFERENCES, vit_pytorch
from tests.fuzz.mutate import PICKLES, bytes_of, json_of, packed, zip_of
from tests.hardware.test_tables import OURS, PHONE, written
from tests.networks import assembled
from wb.compress.depgraph.foreign import load_weights
from wb.compress.prune import record as pruning
from wb.compress.prune.config import PruneConfig
from wb.compress.prune.job import PruneJob
from wb.core.architecture import Architecture, Block, Stage
from wb.core.measures.readings import Reading
from wb.core.records import ConvStem, ImageInput, Lmu, Mlp, Pool, Softmax
from wb.data.load import load as load_data
from wb.data.texts.vocabulary import vocabulary_of
from wb.foreign.importing import read_checkpoint
from wb.hardware.tables import table_device
from wb.jobs.frame.page import write_page
from wb.jobs.inputs import read_architecture
from wb.models.model import Step, from_network, load, save
from wb.models.network import build

Mutants = Iterator[tuple[str, bytes]]


@dataclass(frozen=True)
class Subject:
    """A reader: `make` fills a folder and names the file that is damaged, `mutants` damages its content, `read` reads it."""

    make: Callable[[Path], Path]
    mutants: Callable[[bytes, Random, int], Mutants]
    read: Callable[[Path], object]


def architecture() -> Architecture:
    """Small, with operators of several kinds."""
    blocks = (
        Block(mixer=Softmax(heads=2, qk=3, v=2), ffn=Mlp(mlp=5)),
        Block(mixer=Lmu(memory=4, hidden=6)),
        Block(mixer=Pool(), ffn=Mlp(mlp=4)),
    )
    return assembled(
        input=ImageInput(channels=1, height=8, width=8, mean=(0.3,), std=(0.4,)),
        stem=ConvStem(patch=2, width=3),
        stages=(Stage(embed=6, blocks=blocks),),
        classes=3,
        labels=("a", "b", "c"),
    )


def _model(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        network = build(architecture())
        network.reset()
        score = Reading(value=0.5, unit="fraction", how="measured", interval=(0.4, 0.6), n=9)
        step = Step(name="train", arguments={"epochs": 1, "data": {"spec": "digits"}}, readings={"validation": score})
        save(from_network(architecture(), network, (step,)), folder / name, force=True)
        return folder / name

    return make


def _pt_mutants(content: bytes, random: Random, count: int) -> Mutants:
    yield from PICKLES.items()
    for what, text in PICKLES.items():
        yield (
            f"zipped {what}",
            packed({"archive/data.pkl": text, "archive/version": b"3\n", "archive/byteorder": b"little"}),
        )
    yield from _state_mutants(content, random, count)


def _state_mutants(content: bytes, random: Random, count: int) -> Mutants:
    yield from bytes_of(content, random, count // 2)
    yield from zip_of(content, random, count // 2)


def _safetensors_mutants(content: bytes, random: Random, count: int) -> Mutants:
    """Damaged anywhere, and damaged in the header alone, with or without the right length before it."""
    (length,) = struct.unpack("<Q", content[:8])
    header, rest = json.loads(content[8 : 8 + length]), content[8 + length :]
    yield from bytes_of(content, random, count // 2)
    for what, text in json_of(header, random, count // 4):
        changed = text.encode()
        yield f"header {what}", struct.pack("<Q", len(changed)) + changed + rest
    for key in ("wb.architecture", "wb.history"):
        for what, text in json_of(json.loads(header["__metadata__"][key]), random, count // 8):
            metadata = {**header["__metadata__"], key: text}
            changed = json.dumps({**header, "__metadata__": metadata}).encode()
            yield f"{key} {what}", struct.pack("<Q", len(changed)) + changed + rest


def _architecture_file(folder: Path) -> Path:
    path = folder / "a.json"
    path.write_text(architecture().to_json(), encoding="utf-8")
    return path


def _json_mutants(content: bytes, random: Random, count: int) -> Mutants:
    yield from bytes_of(content, random, count // 4)
    for what, text in json_of(json.loads(content), random, count - count // 4):
        yield what, text.encode()


def _record_file(folder: Path) -> Path:
    acc = Reading(value=0.9, unit="fraction", how="measured", interval=(0.85, 0.93), n=60)
    readings = {
        "acc": acc,
        "latency": Reading(value=2.0, unit="ms", how="measured", interval=(1.9, 2.1)),
        "macs": Reading(value=1234.0, unit="MAC", how="counted"),
        "params": Reading(value=99.0, unit="parameters", how="counted"),
        "size": Reading(value=999.0, unit="B", how="counted"),
    }
    a = architecture()
    parts = {"ends": 5, "s0.b0.ffn": 9}
    round_ = pruning.Round(
        stage=0, aims={"macs": 0.3}, architecture=a, readings=readings, predicted={"macs": 0.3}, costs={"macs": 0.6}
    )
    result = pruning.Result(
        name="out",
        limits=("macs <= 1 k",),
        verdict="within noise",
        architecture=a,
        parts=parts,
        before=readings,
        after=readings,
        test=acc,
        model="out.safetensors",
    )
    record = pruning.Pruning(
        created="2026-01-01T00:00:00+00:00",
        version="0",
        config=PruneConfig(budget=("macs=0.5x",), snapshots=(0.75,)),
        model="m.safetensors",
        model_key="0123456789abcdef",
        data={"spec": "stripes", "train": 192},
        machine={"device": "cpu"},
        versions={"torch": "2"},
        pace=Reading(value=1.5, unit="ms", how="measured"),
        architecture=a,
        parts=parts,
        dense=readings,
        dense_final=readings,
        dense_test=acc,
        spectrum={"s0.embed": (1e-9, 1e-30)},
        rounds=(round_,),
        results=(result,),
        seconds={"pruning": 1.25},
    )
    record.write(folder / "out.json")
    return folder / "out.json"


def _latency_table(folder: Path) -> Path:
    return written(folder / "own.json", OURS)


def _phone_table(folder: Path) -> Path:
    return written(folder / "phone.json", PHONE)


def _report(path: Path) -> None:
    write_page(PruneJob, pruning.Pruning.read(path), path, path.with_suffix(".html"), force=True)


def _state_file(folder: Path) -> Path:
    torch.save(torch.nn.Linear(3, 2).state_dict(), folder / "w.pt")
    return folder / "w.pt"


def _pictures(end: str, **options: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        random = np.random.default_rng(0)
        for name in "ab":
            home = folder / end / name
            home.mkdir(parents=True)
            for i in range(3):
                picture = Image.fromarray(random.integers(0, 256, (9, 7, 3), dtype=np.uint8))
                picture.save(home / f"{i}.{end}", **options)  # type: ignore[arg-type]
        return folder / end / "a" / f"1.{end}"

    return make


def _read_pictures(path: Path) -> object:
    return load_data(f"imagefolder:{path.parents[1]}")


def _idx(folder: Path) -> Path:
    """MNIST's four files; the images of training are damaged."""
    home = folder / "idx"
    home.mkdir()
    random = np.random.default_rng(0)
    for part, count in (("train", 40), ("t10k", 6)):
        images, labels = random.integers(0, 256, (count, 4, 5), dtype=np.uint8), np.arange(count, dtype=np.uint8) % 3
        for kind, array in (("images", images), ("labels", labels)):
            head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            (home / f"{part}-{kind}-idx{array.ndim}-ubyte").write_bytes(head + array.tobytes())
    return home / "train-images-idx3-ubyte"


def _idx_zipped(folder: Path) -> Path:
    path = _idx(folder)
    zipped = path.with_name(path.name + ".gz")
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return zipped


def _npz(folder: Path) -> Path:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (40, 4, 5), dtype=np.uint8), np.arange(40) % 3
    np.savez(folder / "a.npz", x=images, y=labels, split=np.where(np.arange(40) % 4, "train", "test"))
    return folder / "a.npz"


_SAID = [(f'is the "card" {i}, late', "ab"[i % 2]) for i in range(12)]


def _csv(folder: Path) -> Path:
    with (folder / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *_SAID])
    return folder / "a.csv"


def _jsonl(folder: Path) -> Path:
    lines = [json.dumps({"text": text, "label": label}) for text, label in _SAID]
    (folder / "a.jsonl").write_text("\n".join(lines))
    return folder / "a.jsonl"


def _tokenizer(folder: Path) -> Path:
    (folder / "tokenizer.json").write_text(vocabulary_of([text for text, _ in _SAID], "words").text)
    return folder / "tokenizer.json"


def _cifar(folder: Path) -> Path:
    home = folder / "cifar"
    home.mkdir()
    random = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        rows = random.integers(0, 256, (4, 3072), dtype=np.uint8)
        (home / name).write_bytes(pickle.dumps({b"data": rows, b"labels": [0, 1, 2, 9]}, protocol=2))
    return home / "data_batch_2"


def _pickle_mutants(content: bytes, random: Random, count: int) -> Mutants:
    yield from PICKLES.items()
    yield from bytes_of(content, random, count)


def _checkpoint(name: str, of: str = "hf-vit") -> Callable[[Path], Path]:
    """A folder of another library, one file of which is damaged."""

    def make(folder: Path) -> Path:
        shutil.copytree(REFERENCES / of, folder / "hf")
        return folder / "hf" / name

    return make


def _header_mutants(content: bytes, random: Random, count: int) -> Mutants:
    """Tensors of others: damaged anywhere, and in the header alone, with the right length before it."""
    (length,) = struct.unpack("<Q", content[:8])
    yield from bytes_of(content, random, count // 2)
    for what, text in json_of(json.loads(content[8 : 8 + length]), random, count // 2):
        yield f"header {what}", struct.pack("<Q", len(text.encode())) + text.encode() + content[8 + length :]


def _foreign_state(folder: Path) -> Path:
    torch.save({"model": vit_pytorch()}, folder / "v.pt")
    return folder / "v.pt"


SUBJECTS: dict[str, Subject] = {
    "checkpoint": Subject(_checkpoint("model.safetensors"), _header_mutants, lambda path: read_checkpoint(path.parent)),
    "checkpoint config": Subject(_checkpoint("config.json"), _json_mutants, lambda path: read_checkpoint(path.parent)),
    "checkpoint of text": Subject(
        _checkpoint("config.json", "hf-llama3"), _json_mutants, lambda path: read_checkpoint(path.parent)
    ),
    "checkpoint's tokenizer": Subject(
        _checkpoint("tokenizer.json", "hf-bert"), bytes_of, lambda path: read_checkpoint(path.parent)
    ),
    "checkpoint pt": Subject(_foreign_state, _pt_mutants, read_checkpoint),
    "safetensors": Subject(_model("m.safetensors"), _safetensors_mutants, load),
    "pt": Subject(_model("m.pt"), _pt_mutants, load),
    "state": Subject(_state_file, _state_mutants, lambda path: load_weights(torch.nn.Linear(3, 2), path)),
    "architecture": Subject(_architecture_file, _json_mutants, read_architecture),
    "record": Subject(_record_file, _json_mutants, _report),
    "latency table": Subject(_latency_table, _json_mutants, lambda path: table_device(f"table:{path}")),
    "phone's table": Subject(_phone_table, _json_mutants, lambda path: table_device(f"table:{path}")),
    "png": Subject(_pictures("png"), bytes_of, _read_pictures),
    "tif": Subject(_pictures("tif"), bytes_of, _read_pictures),
    "gif": Subject(_pictures("gif"), bytes_of, _read_pictures),
    "idx": Subject(_idx, bytes_of, lambda path: load_data(f"idx:{path.parent}")),
    "idx.gz": Subject(_idx_zipped, bytes_of, lambda path: load_data(f"idx:{path.parent}")),
    "npz": Subject(_npz, _state_mutants, lambda path: load_data(f"npz:{path}")),
    "csv": Subject(_csv, bytes_of, lambda path: load_data(f"csv,tokenizer=words:{path}")),
    "jsonl": Subject(_jsonl, bytes_of, lambda path: load_data(f"jsonl,tokenizer=words:{path}")),
    "tokenizer": Subject(_tokenizer, bytes_of, lambda path: vocabulary_of([text for text, _ in _SAID], str(path))),
    "cifar": Subject(_cifar, _pickle_mutants, lambda path: load_data(f"cifar10:{path.parent}")),
}
