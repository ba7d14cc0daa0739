"""`wb device`: profiles of devices elsewhere, and what there is to know of one before it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli.device.npu import Npu, check_npu, refuse_given
from wb.cli.frame import output
from wb.cli.frame.common import ForceOption, JsonOption
from wb.cli.frame.options import Command

NameArgument = Annotated[str, typer.Argument(help="Its name, for --device.")]

app = typer.Typer(no_args_is_help=True, help="Devices elsewhere, on which latency is measured.")


@app.command(cls=Command)
def add(
    name: NameArgument,
    address: Annotated[
        str,
        typer.Argument(
            help="local, ssh:USER@HOST[:PORT] or adb:SERIAL, with ,runtime=openvino|litert|litert-int8|web, "
            ",cores=big|little|0+1, ,python=PATH and, for web, ,folder=PATH; run:COMMAND, which starts a Python there; or "
            "table:FILE, of a device that is not there."
        ),
    ],
) -> None:
    """Keep the address of a device under a name. Nothing is asked of it; `wb device check` does that."""
    from wb.hardware.remote.profiles import add_profile, profiles_path

    add_profile(name, address)
    output.written(profiles_path())


@app.command(name="list", cls=Command)
def list_profiles(as_json: JsonOption = False) -> None:
    """List the kept addresses."""
    from wb.hardware.remote.profiles import profiles_path, read_profiles

    known = read_profiles()
    if as_json:
        output.print_json(known)
    elif known:
        from wb.jobs.calls.shown import Table

        output.data.print(output.table(Table("devices", ("name", "address"), [*known.items()])))
    else:
        output.messages.print(f"no devices in {profiles_path()}; add one with: wb device add NAME ADDRESS")


@app.command(cls=Command)
def remove(name: NameArgument) -> None:
    """Forget the address of a device."""
    from wb.hardware.remote.profiles import profiles_path, remove_profile

    remove_profile(name)
    output.written(profiles_path())


@app.command(cls=Command)
def record(
    device: Annotated[str, typer.Argument(help="A name, or an address.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The table to write, a JSON file.")],
    models: Annotated[
        list[Path] | None, typer.Argument(help="Model files whose blocks are timed.", show_default="none")
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="A run of wb search: blocks of its candidates, and of random networks of its space.",
            show_default="none",
        ),
    ] = None,
    networks: Annotated[int, typer.Option(min=0, help="With --run: random networks.")] = 100,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the runtime.")] = 1,
    force: ForceOption = False,
) -> None:
    """Time blocks of networks on a device, and write a table that others predict with, as --device table:FILE."""
    from wb.cli.frame.running import telling
    from wb.search.recording import record_table

    with output.progress() as work:
        count = record_table(device, out, models or [], run, networks, threads, telling(work, "blocks"), force=force)
    output.messages.print(f"{count} blocks; predict with: wb measure MODEL --device table:{out}")
    output.written(out)


@app.command(cls=Command)
def check(
    what: Annotated[
        str,
        typer.Argument(
            metavar="DEVICE|MODEL",
            help="A device: its name, or an address. With --npu a model file, an ONNX graph, or a network of a front: RUN:ID.",
        ),
    ],
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds of sampling the reference graph.", show_default="2")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the runtime.", show_default="1")] = None,
    npu: Annotated[
        Npu | None,
        typer.Option(
            help="Ask the compiler and the simulator of an NPU that is not here what they make of MODEL. qnn is Qualcomm's: "
            "pip install onnxruntime-qnn, under its licence.",
            show_default="none",
        ),
    ] = None,
    soc: Annotated[
        str | None,
        typer.Option(
            help="With --npu: the processor, sm8450, sm8475, sm8550, sc8380xp, sm8650, sm8750 or sm8850.",
            show_default="sm8550, a Snapdragon 8 Gen 2",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="With --npu: fp16, which is the graph as it is, u8 or u16, which are activations over weights in 8 bits; some, "
            "with commas between.",
            show_default="fp16",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="With --npu: what it is tried on, and ranges are found on.",
            show_default="those the model was trained with, else made up",
        ),
    ] = None,
    examples: Annotated[int | None, typer.Option(min=1, help="With --npu: runs.", show_default="8")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="With --npu: keep the compiled file here.", show_default="it is not kept"),
    ] = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Say what a device is, how steady its clock is, which opsets it runs, and whether it computes what this machine does.

    With --npu: what an NPU that is not here takes of a network, operators that fall back by name, how far its simulator is from
    the processor here, and the compiled file. Never a time.
    """
    of_npu = {
        "soc": soc,
        "precision": precision,
        "data": data,
        "examples": examples,
        "out": out,
        "force": force or None,
    }
    if npu is not None:
        check_npu(what, of_npu, {"seconds": seconds, "threads": threads}, as_json=as_json)
        return
    refuse_given(of_npu, "is of no use without --npu")
    from wb.cli.frame.running import telling
    from wb.export.timing.checkup import checkup
    from wb.jobs.calls.shown import Table

    with output.progress() as work:
        found = checkup(what, threads or 1, seconds or 2.0, telling(work, "reaching the device"))
    if as_json:
        output.print_json(found.content())
        return
    output.data.print(output.table(Table(what, ("what", "found"), found.rows(), found.advice())))
