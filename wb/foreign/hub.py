"""Checkpoints by their name on the Hugging Face hub, fetched into its cache."""

from __future__ import annotations

import importlib.util
import re
from importlib import import_module
from pathlib import Path

from wb.core.errors import BadArtefact, MissingExtra, reason

NAME = re.compile(r"[\w.-]+/[\w.-]+")
FILES = [
    "config.json", "preprocessor_config.json", "*.safetensors", "model.safetensors.index.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
]  # fmt: skip


def fetched(source: Path) -> Path:
    """`source` if it is there, or the folder with the checkpoint of that name on the hub.

    Raises:
        BadArtefact: it is neither.
        MissingExtra: it looks like a name, and the library that fetches it is not installed.
    """
    if source.exists() or source.is_absolute() or not NAME.fullmatch(source.as_posix()):
        return source
    if importlib.util.find_spec("huggingface_hub") is None:
        raise MissingExtra(
            f"there is no file or folder {source}; to fetch the model of that name from the hub, say pip install 'wb[hf]'"
        )
    try:
        folder = import_module("huggingface_hub").snapshot_download(source.as_posix(), allow_patterns=FILES)
    except Exception as error:  # its errors have no common base, and some are of the library that it connects with
        raise BadArtefact(
            f"there is no file or folder {source}, and the hub does not give a model of that name ({reason(error)}); check the "
            "name, or whether this machine is online"
        ) from error
    return Path(str(folder))
