"""Opening untrusted ONNX files. All are opened here, and every size in them is checked by arithmetic.

Nothing of the file is run or handed to compiled code except protobuf's parser: ONNX and the runtime crash on some damaged
graphs. Faults that only a run reveals are found by `wb.export.foreign.trial`, in a separate process.
"""

from __future__ import annotations

import math
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from wb.core.errors import BadArtefact, reason
from wb.core.measures.readings import Reading
from wb.export.foreign.stored import Scope, family, inputs, named, scopes, tensors

FILE_BYTES = 2**31 - 1  # protobuf's limit; larger weights are stored in files beside
INPUT_NUMBERS = 2**28  # numbers in one input for one example, at most: 1 GiB in float32
NAME = 1000  # characters of a name, at most
FUNCTION_NODES = 10**6  # nodes after inlining all functions, at most
BITS = {"INT2": 2, "UINT2": 2, "INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "FLOAT6E2M3": 6, "FLOAT6E3M2": 6}
PACKED = {kind: BITS[name] for name, kind in TensorProto.DataType.items() if name in BITS}
COMPLEX = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)


def open_graph(path: Path) -> onnx.ModelProto:
    """Reads and checks any ONNX file; weights stored in other files are checked, but not read.

    As in the runtime, an input axis with a negative size is dynamic.

    Raises:
        BadArtefact: the file does not exist, is not an ONNX graph, or is damaged: a tensor has another number of values than
            its shape says, a file of weights is missing or outside the folder, functions call each other in a circle, or an
            input is absurdly large.
    """
    model = _parsed(path)
    _check_names(model, path)
    for tensor in tensors(model):
        _check_tensor(tensor, path)
    _check_inputs(model, path)
    _check_functions(model, path)
    return model


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of any ONNX file. Raises `BadArtefact` as `open_graph` does."""
    return metadata_of(open_graph(path))


def metadata_of(model: onnx.ModelProto) -> dict[str, str]:
    """The metadata of an opened graph."""
    return {entry.key: entry.value for entry in model.metadata_props}


def sidecars(model: onnx.ModelProto, path: Path) -> list[Path]:
    """The files beside `path` that hold its weights, sorted by name.

    Raises:
        BadArtefact: one of them is missing, is not a regular file, or lies outside the folder of `path`.
    """
    outside = (tensor for tensor in tensors(model) if tensor.data_location == TensorProto.EXTERNAL)
    places = {place.resolve(): place for place in (_place(tensor, path) for tensor in outside)}
    return sorted(places.values())


def file_size(path: Path) -> Reading:
    """The size in bytes of an ONNX file, including the files beside it that hold its weights. Raises as `open_graph` does."""
    beside = sidecars(open_graph(path), path)
    size = path.stat().st_size + sum(file.stat().st_size for file in beside)
    note = f"with the weights in {', '.join(file.name for file in beside)}" if beside else None
    return Reading(value=size, unit="B", how="counted", note=note)


def _parsed(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        what = "is no ordinary file" if path.exists() else "is not there"
        raise BadArtefact(f"there is no file {path} to read ({what}); expected an ONNX graph")
    size = path.stat().st_size
    if size > FILE_BYTES:
        raise BadArtefact(f"{path} has {size} bytes, and an ONNX file ends at {FILE_BYTES}; save its weights beside it")
    model, cause = onnx.ModelProto(), None
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf raises its own types
        model, cause = onnx.ModelProto(), error
    if not model.graph.node:  # protobuf parses an empty file, and some others, as an empty graph
        raise BadArtefact(
            f"{path} is no ONNX graph or is damaged; expected a file that `wb export` or another exporter wrote"
        ) from cause
    return model


# ------------------------------------------------------------------------------------------------------------- tensors


def _check_tensor(tensor: TensorProto, path: Path) -> None:
    shape = list(tensor.dims)
    what = f"{path} is damaged: the tensor {named(tensor.name)} {shape}"
    if tensor.data_type not in TensorProto.DataType.values() or tensor.data_type == TensorProto.UNDEFINED:
        raise BadArtefact(f"{what} is of the unknown type {tensor.data_type}; export it again")
    if any(n < 0 for n in shape):
        raise BadArtefact(f"{what} has a negative size; export it again")
    numbers = math.prod(shape)
    if tensor.data_location == TensorProto.EXTERNAL:
        _check_external(tensor, numbers, path)
        return
    if tensor.HasField("raw_data"):
        given, wanted, unit = len(tensor.raw_data), _bytes(tensor.data_type, numbers), "bytes"
    else:
        field = helper.tensor_dtype_to_field(tensor.data_type)
        per_entry = 8 // _packed(tensor.data_type)
        wanted = -(-numbers // per_entry) * (2 if tensor.data_type in COMPLEX else 1)
        given, unit = len(getattr(tensor, field)), "numbers"
    if given != wanted:
        raise BadArtefact(f"{what} has {given} {unit} where its shape needs {wanted}; export it again")


def _bytes(kind: int, numbers: int) -> int:
    """The number of bytes that `numbers` values of the type `kind` take."""
    if kind == TensorProto.STRING:
        return 0  # strings are stored in another field
    bits = 8 * helper.tensor_dtype_to_np_dtype(kind).itemsize
    return -(-numbers * (_packed(kind) if bits == 8 else bits) // 8)


def _packed(kind: int) -> int:
    """The bits per value of a type that numpy stores in one byte: less than 8 for packed types."""
    return next((bits for other, bits in PACKED.items() if other == kind), 8)


def _check_external(tensor: TensorProto, numbers: int, path: Path) -> None:
    file = _place(tensor, path)
    entries = {entry.key: entry.value for entry in tensor.external_data}
    size = file.stat().st_size
    try:
        offset = int(entries.get("offset", "0"))
        length = int(entries.get("length", str(size - offset)))
    except ValueError as error:
        raise BadArtefact(
            f"{path} is damaged: the place of {named(tensor.name)} is no number ({reason(error)})"
        ) from error
    wanted = _bytes(tensor.data_type, numbers)
    if offset < 0 or length < wanted or offset + wanted > size:
        raise BadArtefact(
            f"{named(tensor.name)} {list(tensor.dims)} of {path} needs {wanted} bytes, and {file.name} has {size}, of "
            f"which it is to read {length} from {offset} on; copy both files again"
        )


def _place(tensor: TensorProto, path: Path) -> Path:
    """The file that holds the tensor's values; raises `BadArtefact` unless it is a regular file in the folder of `path`."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    folder = path.absolute().parent
    where = f"the weights {named(tensor.name)} of {path} lie in {named(location)}"
    if not location or "\0" in location or Path(location).is_absolute():
        raise BadArtefact(f"{where}; expected the name of a file in the same folder")
    file = folder / location
    try:
        real, roots = (
            file.resolve(),
            {folder.resolve(), path.resolve().parent},
        )  # caches keep links to both in one folder
        there, ordinary = file.exists(), file.is_file()
    except (OSError, RuntimeError) as error:  # circular links, names that are too long
        raise BadArtefact(f"{where}, which cannot be followed ({type(error).__name__})") from error
    if roots.isdisjoint(real.parents):
        raise BadArtefact(
            f"{where}, outside its folder, where nothing is read; save it as one file, or with the weights beside"
        )
    if not ordinary:
        what = "which is no ordinary file" if there else "which is not there"
        raise BadArtefact(f"{where}, {what}; copy both files into one folder")
    return file


# -------------------------------------------------------------------------------------------------- inputs, functions


def _check_inputs(model: onnx.ModelProto, path: Path) -> None:
    for value in inputs(model):
        dims = value.type.tensor_type.shape.dim
        for dim in dims:
            if dim.HasField("dim_value") and dim.dim_value < 0:
                dim.ClearField("dim_value")
        sizes = [dim.dim_value for dim in dims if dim.HasField("dim_value")]
        shown = [dim.dim_value if dim.HasField("dim_value") else dim.dim_param[:20] or None for dim in dims]
        if 0 in sizes:
            raise BadArtefact(
                f"{path} takes {named(value.name)} {shown}, which is empty; export it with sizes of at least 1"
            )
        if math.prod(sizes) > INPUT_NUMBERS:
            raise BadArtefact(
                f"{path} takes {named(value.name)} {shown}, {math.prod(sizes):.3g} numbers, and {INPUT_NUMBERS} (2**28) are the "
                "most that wb makes up for one input; export it with a smaller or a dynamic first axis"
            )


def _check_functions(model: onnx.ModelProto, path: Path) -> None:
    """Raises `BadArtefact` if functions call each other in a circle, or have too many nodes after inlining."""
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    sizes: dict[tuple[str, str, str], int] = {}
    under_way: list[tuple[str, str, str]] = []

    def size(root: Scope) -> int:
        total = 0
        for node in (node for scope in family(root) for node in scope.nodes):
            key = (node.domain, node.op_type, node.overload)
            total += 1 if key not in functions else of(key)
            if total > FUNCTION_NODES:
                raise BadArtefact(
                    f"{path} has functions that are more than {FUNCTION_NODES} nodes when they are written out"
                )
        return total

    def of(key: tuple[str, str, str]) -> int:
        if key in under_way or len(under_way) > 100:
            raise BadArtefact(
                f"{path} is damaged: its function {named(key[1])} calls itself, or calls are nested over 100 deep"
            )
        if key not in sizes:
            under_way.append(key)
            sizes[key] = size(Scope(functions[key].node))
            under_way.pop()
        return sizes[key]

    if functions:
        for key in functions:
            of(key)
        size(Scope(model.graph.node))


def _check_names(model: onnx.ModelProto, path: Path) -> None:
    """Checks every string that is used later: protobuf returns bytes for a string that is not UTF-8."""
    names = [name for scope in scopes(model) for node in scope.nodes for name in _names(node)]
    names += [tensor.name for tensor in tensors(model)]
    for value in (*model.graph.input, *model.graph.output):
        names += [value.name, *(dim.dim_param for dim in value.type.tensor_type.shape.dim)]
    for function in model.functions:
        names += [function.name, function.domain, function.overload]
    entries = [*model.metadata_props, *(entry for tensor in tensors(model) for entry in tensor.external_data)]
    texts = [text for entry in entries for text in (entry.key, entry.value)]
    if not all(isinstance(text, str) for text in (*names, *texts)):
        raise BadArtefact(f"{path} is damaged: it has a name that is no UTF-8 text; export it again")
    longest = max(map(len, names), default=0)
    if longest > NAME:
        raise BadArtefact(f"{path} has a name of {longest} characters, and {NAME} are the most; export it again")


def _names(node: onnx.NodeProto) -> tuple[str, ...]:
    attributes = (attribute.name for attribute in node.attribute)
    return (node.name, node.op_type, node.domain, node.overload, *node.input, *node.output, *attributes)
