"""Model files of networks with early exits: a model file whose metadata also have the record of the exits."""

from __future__ import annotations

import json
from pathlib import Path

from wb.core.errors import BadArtefact, BadOption, reason
from wb.core.system.files import regular, replacing
from wb.models.exits.module import PREFIX, Exiting
from wb.models.exits.record import KEY, Exits, read_exits
from wb.models.files.header import EXPECTED, described, metadata_in
from wb.models.files.tensorfile import entries_of, header_of, write_tensors
from wb.models.model import Model, check_weights, metadata_of, read_safetensors, single

ENDING = ".safetensors"


def exits_of(path: Path) -> Exits | None:
    """The record of the exits in a model file, without its weights; None for a file without exits, or of another kind.

    Raises:
        BadArtefact: the record is damaged.
    """
    if path.suffix != ENDING or not path.is_file():
        return None
    try:
        metadata = metadata_in(path)
    except BadArtefact:
        return None  # whoever reads the model says what is wrong with it
    return read_exits(metadata, str(path))


def save_exiting(model: Exiting, path: Path, *, force: bool = False) -> None:
    """Writes trunk, exits and history, atomically.

    Raises:
        BadOption: another ending, or the file exists and `force` is false.
        StorageFailed: it could not be written.
    """
    if path.suffix != ENDING:
        raise BadOption(f"{path.name} is no name for a model file with early exits; end it in {ENDING}")
    metadata = {**metadata_of(model.trunk), KEY: json.dumps(model.record.model_dump(mode="json"))}
    weights = {**model.trunk.weights, **model.weights}
    with replacing(path, force=force) as temporary:
        entries = entries_of(weights)
        write_tensors(temporary, header_of(entries, metadata), entries, weights.__getitem__)


def load_exiting(path: Path) -> Exiting:
    """Reads what `save_exiting` wrote.

    Raises:
        BadArtefact: no such file, damaged, without exits, or with weights that do not fit or are not finite.
        Unsupported: the network cannot have exits.
    """
    regular(path, EXPECTED)
    metadata, weights = read_safetensors(path)
    architecture, history = described(metadata, path)
    record = read_exits(metadata, str(path))
    if record is None:
        raise BadArtefact(f"{path} is a model without early exits; `wb exits {path}` adds some")
    known = {name for name, _, _ in architecture.blocks()}
    if not known.issuperset(record.after):
        raise BadArtefact(
            f"{path} has exits after blocks that its network lacks; expected some of {', '.join(sorted(known))}"
        )
    whole = {name: single(weights.pop(name), name, path) for name in list(weights)}
    check_weights(whole, str(path))
    early = {name: weight for name, weight in whole.items() if name.startswith(f"{PREFIX}.")}
    trunk = Model(architecture, {name: weight for name, weight in whole.items() if name not in early}, history)
    found = Exiting(trunk, record, early)
    try:
        found.network()
    except BadArtefact as error:
        raise BadArtefact(f"{path}: {reason(error)}") from error
    return found
