"""Reading files of `torch.save` that hold only numbers, text and plain tensors; they are scanned first and never run.

torch's own reader of weights refuses foreign code, but builds whatever size or depth the file asks for
(`wb.core.system.pickles`), and its messages are long. So the file is scanned before torch reads it.
"""

from __future__ import annotations

import io
import mmap
import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from wb.core.errors import BadArtefact, printable, reason
from wb.core.system.files import regular
from wb.core.system.pickles import PLAIN, DamagedPickle, ForeignName, SuspiciousPickle, scan

_ZIP = b"PK\x03\x04"
_LEGACY_PICKLES = 5  # magic number, version, system, content, names of the storages; the bytes of the storages follow
_STORAGES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool", "Untyped")
_COMPLEX = ("ComplexDouble", "ComplexFloat")  # allowed here, so that they are refused later by name
_ALLOWED = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
    "torch.storage.UntypedStorage",
    *(f"torch.{kind}Storage" for kind in (*_STORAGES, *_COMPLEX)),
}
_TENSORS = (
    "torch._utils",
    "torch._tensor",
    "torch.Size",
    "torch.device",
    "torch.serialization",
    "torch.float",
    "torch.int",
)
_OPCODES = (PLAIN | {"BINPERSID"}) - {
    "STACK_GLOBAL"
}  # torch names storages with BINPERSID, and never writes STACK_GLOBAL


def read_torch(path: Path, expected: str) -> Any:
    """The content of a `torch.save` file, tensors on the CPU; `expected` describes the right file in errors.

    Raises:
        BadArtefact: no regular file, damaged, or holding anything but numbers, text and plain tensors.
    """
    regular(path, expected)
    try:
        with path.open("rb") as file:
            zipped = file.read(len(_ZIP)) == _ZIP
            file.seek(0)
            (_scan_zip if zipped else _scan_legacy)(file, path.stat().st_size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about kinds of storage
            return torch.load(path, map_location="cpu", weights_only=True)
    except ForeignName as error:
        why = _refusal(error.name)
    except Exception as error:  # torch raises many types, depending on where the file is broken
        refused = isinstance(error, SuspiciousPickle) and not isinstance(error, DamagedPickle)
        why = str(error) if refused else f"it is damaged or no torch file ({reason(error)})"
    raise BadArtefact(f"{path} cannot be read as weights only: {printable(why, 400)}; expected {expected}")


def _scan_zip(file: BinaryIO, size: int) -> None:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        pickles = [entry for entry in entries if entry.filename.endswith(".pkl")]
        if any(Path(entry.filename).name == "constants.pkl" for entry in pickles):
            raise SuspiciousPickle("it is a TorchScript module, which is a program; save module.state_dict() instead")
        # torch stores without compression; an archive that unpacks to more than its size is a bomb
        if (
            any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
            or sum(e.file_size for e in entries) > size
        ):
            raise SuspiciousPickle("it is a compressed archive, and torch writes none")
        damaged = archive.testzip()
        if damaged is not None:
            raise DamagedPickle(f"the checksum of {damaged} is wrong")
        for entry in pickles:
            content = archive.read(entry)
            scan(io.BytesIO(content), len(content), opcodes=_OPCODES, names=_ALLOWED)


def _scan_legacy(file: BinaryIO, size: int) -> None:
    """Scans a file of torch before 1.6: pickles in a row, then the bytes of the tensors."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for _ in range(_LEGACY_PICKLES):
            scan(mapped, size, opcodes=_OPCODES, names=_ALLOWED)


def _refusal(name: str) -> str:
    """The reason in words why a file that asks for `name` is refused."""
    if name.partition(".")[0] in ("builtins", "__builtin__", "_codecs", "collections") or name.startswith(_TENSORS):
        return f"it holds {name}, and only numbers, text, lists, dictionaries and plain dense tensors are read"
    return f"it is a pickled object ({name}), and reading one runs code; save module.state_dict() instead"
