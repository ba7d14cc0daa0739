"""LiteRT, once TensorFlow Lite: runs `.tflite` files, into which onnx2tf converts graphs of fixed shapes.

Both are in an environment of its own (`environment.py`): the converter is a program there, and the interpreter runs in a runner
(`wb.hardware.remote`) that its Python starts, beside ONNX Runtime with the reference graph.

Limits: on the processor only. A conversion takes from ten seconds to minutes, so it is for finished networks. Graphs of operator
set 20 and later are converted whole; in earlier ones Gelu is made of Erf, which becomes an operator that the interpreter lacks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray
from platformdirs import user_cache_dir

from wb.core.commands.progress import told
from wb.core.errors import BadArtefact, Unsupported
from wb.core.records import Precision
from wb.core.system.files import replacing, scratch
from wb.hardware.runtimes.base import Graph, Loaded, Way
from wb.hardware.runtimes.environment import how, run_there, versions
from wb.hardware.runtimes.shapes import shaped

if TYPE_CHECKING:
    import onnx

Kind = Literal["fp32", "int8"]
PROGRAM = Path(__file__).with_name("to_litert.py")
LIMIT_S = 1800.0  # of a conversion
MAGIC = slice(4, 8), b"TFL3"  # of the format


class LiteRt:
    """LiteRT's interpreter with XNNPACK, in another process."""

    name = "litert"
    kinds: Mapping[Precision, Way] = {}
    slow: str | None = "a graph is converted for it, which takes from ten seconds to minutes"
    address: str | None = "local,runtime=litert"
    rounds = False
    threads: int | None = None
    makers: tuple[str, ...] = ("onnx2tf",)

    def version(self) -> str:
        """As `Runtime.version`. Raises `MissingExtra` without the environment."""
        return self.version_with(versions()["ai-edge-litert"])

    def version_with(self, interpreter: str) -> str:
        """The version with such an interpreter, which names what converts here too: timings are of both. Raises as `version`."""
        found = versions()
        return f"{interpreter} (by {' and '.join(f'{name} {found[name]}' for name in self.makers)})"

    def devices(self) -> Mapping[str, str]:
        """As `Runtime.devices`: none in this process."""
        return {}

    def how(self) -> str:
        """As `Runtime.how`."""
        return how()

    def prepare(self, graph: Graph, inputs: Mapping[str, NDArray[Any]]) -> Graph:
        """As `Runtime.prepare`: the content of a `.tflite` file."""
        return converted_to_tflite(graph, inputs, "int8" if self.rounds else "fp32")

    def load(self, graph: Graph, device: str, threads: int) -> Loaded:
        """As `Runtime.load`. Raises `Unsupported`: what runs it is a runner (`address`)."""
        del graph, threads
        raise Unsupported(f"{device} runs in an environment of its own, not here; name it with --device {self.address}")

    def nodes(self, graph: Graph, device: str, threads: int) -> Mapping[str, int]:
        """As `Runtime.nodes`: it does not tell."""
        del graph, device, threads
        return {}


class LiteRtInt8(LiteRt):
    """The same with weights in 8 bits by channel; activations are rounded to 8 bits in every run."""

    name = "litert-int8"
    rounds = True
    makers: tuple[str, ...] = ("onnx2tf", "ai-edge-quantizer")
    address: str | None = "local,runtime=litert-int8"


def converted_to_tflite(graph: Graph, inputs: Mapping[str, NDArray[Any]], kind: Kind = "fp32") -> bytes:
    """The content of a `.tflite` file for inputs of these shapes; it has yet to be compared with the graph.

    What was converted where the same versions are installed is kept in the user's cache, until it is dropped.

    Raises:
        BadArtefact: the converter fails, gives no such file or takes longer than `LIMIT_S`.
        MissingExtra: there is no environment.
    """
    content = _bare(shaped(graph, inputs))
    parts = (content, PROGRAM.read_bytes(), repr(sorted(versions().items())).encode())
    key = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()[:32]
    found = _made("model.onnx", content, _kept() / f"{key}.fp32.tflite")
    return found if kind == "fp32" else _made("float.tflite", found, _kept() / f"{key}.int8.tflite")


def drop(content: Graph) -> None:
    """Keeps no longer what turned out to be wrong, nor what else was made of that network."""
    for path in _kept().glob("[!.]*.tflite"):
        with suppress(FileNotFoundError):  # another process may drop it too
            if path.read_bytes() == content:
                for one in _kept().glob(f"{path.name.partition('.')[0]}.*"):
                    one.unlink()


def _kept() -> Path:
    """The folder of what was converted."""
    return Path(user_cache_dir("wb")) / "litert"


def _made(name: str, content: bytes, kept: Path) -> bytes:
    """What the program makes of a file of that name and content, which is `kept`."""
    with suppress(FileNotFoundError):
        if (found := kept.read_bytes())[MAGIC[0]] == MAGIC[1]:
            return found
        kept.unlink()
    told("converting for LiteRT, which takes from ten seconds to minutes")
    with scratch() as folder:
        (folder / name).write_bytes(content)
        run_there([str(PROGRAM), name, "made.tflite"], folder, LIMIT_S, "the conversion for LiteRT")
        made = folder / "made.tflite"
        found = made.read_bytes() if made.is_file() else b""
    if found[MAGIC[0]] != MAGIC[1]:
        raise BadArtefact("the converter for LiteRT says that all went well, and has written no .tflite file")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with replacing(kept) as temporary:
        temporary.write_bytes(found)
    return found


def _bare(model: onnx.ModelProto) -> bytes:
    """The graph with the shapes of its outputs, and without metadata, so that equal networks are converted once."""
    import onnx

    model = onnx.shape_inference.infer_shapes(model)
    del model.metadata_props[:]
    return bytes(model.SerializeToString())
