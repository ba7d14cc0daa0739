"""The options of a command from the fields of its configuration, and those that are of no configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args, get_origin

import typer
from typer.core import TyperCommand
from typer.main import get_command

if TYPE_CHECKING:
    from pydantic import BaseModel

    from wb.core.commands.option import Cli

FORMER = {"--rate": "--learning-rate", "--calib": "--samples"}  # earlier names, which still work and are not shown
# What most commands have comes last, in this order.
LAST = (
    "data",
    "text_column",
    "label_column",
    "tokenizer",
    "truncate",
    "image_size",
    "limit",
    "by_index",
    "device",
    "threads",
    "seed",
)
_DERIVED = "__derived__"  # where a command keeps what gives its options


class After:
    """Where an option of no configuration stands: after the first of `names` that the command has, else at the end."""

    def __init__(self, *names: str) -> None:
        self.names = names


class Offer(NamedTuple):
    """The fields that a command offers: those of `config`, and of configurations in it, but for `without`.

    `defaults` are values that the command takes where they are not given, instead of the configuration's.
    """

    config: type[BaseModel]
    without: Sequence[str] = ()
    defaults: Mapping[str, Any] = {}


def options(offer: Callable[[], Offer]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options of a command: of the fields that `offer` gives, and of its own parameters.

    The command gets the former first, as values by the names of fields: those that were typed, and `Offer.defaults`. Its
    parameters by position come before them in the help, those by keyword after; one with the name of a field stands in its
    place. `offer` imports the configuration, and is called when the command is: `wb --help` needs no pydantic.
    """

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        def stub() -> None:
            """Stands for the command until it is called, for its name and its text."""

        stub.__name__, stub.__doc__ = command.__name__, command.__doc__
        setattr(stub, _DERIVED, lambda: _whole(command, offer()))
        return stub

    return decorated


def _whole(command: Callable[..., None], offer: Offer) -> Callable[..., None]:
    """The command as a function of all its options, which typer reads off its signature."""
    _, *own = inspect.signature(command, eval_str=True).parameters.values()
    fields = _fields(offer, {one.name for one in own})
    before = [one for one in own if one.kind is not one.KEYWORD_ONLY]
    after = [one for one in own if one.kind is one.KEYWORD_ONLY]
    parameters = [*before, *(field.parameter(offer.defaults) for field in fields.values())]
    for one in after:
        names = [parameter.name for parameter in parameters]
        wanted = [name for mark in get_args(one.annotation) if isinstance(mark, After) for name in mark.names]
        at = next((names.index(name) + 1 for name in wanted if name in names), len(names))
        parameters.insert(at, one)

    def called(ctx: typer.Context, **values: Any) -> None:
        given = dict(offer.defaults)
        for name, field in fields.items():
            value, source = values.pop(name), ctx.get_parameter_source(name)
            if source is not None and source.name != "DEFAULT":
                given[name] = value if field.cli.parse is None else field.cli.parse(value)
        command(given, **values)

    called.__name__, called.__doc__ = command.__name__, command.__doc__
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [one.replace(kind=one.KEYWORD_ONLY) for one in parameters]
    called.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]  # as PEP 362 has it
    called.__annotations__ = {one.name: one.annotation for one in (context, *parameters)}
    return called


class _Field(NamedTuple):
    """A field that a command offers."""

    name: str
    owner: type[BaseModel]
    cli: Cli

    def parameter(self, defaults: Mapping[str, Any]) -> inspect.Parameter:
        """The parameter that typer makes an option of."""
        from wb.core.commands.option import metadata, option_of

        info, marks = self.owner.model_fields[self.name], metadata(self.owner, self.name)
        kind = _plain(info.annotation)
        choices = get_args(kind) if get_origin(kind) is Literal else ()
        typed = self.cli.typed or (str if choices or self.cli.parse else kind)
        default = inspect.Parameter.empty if info.is_required() else info.get_default(call_default_factory=True)
        default = defaults.get(self.name, default)
        if (
            default is None or self.cli.typed or self.cli.parse
        ):  # what is shown is in words, if there is anything to show
            default = default if default is inspect.Parameter.empty else None
            typed = typed if default is inspect.Parameter.empty else typed | None
        name = option_of(self.owner, self.name)
        option = typer.Option(
            f"{name}/--no-{name.removeprefix('--')}" if default is True or (kind is bool and default is None) else name,
            help=_with_choices(
                _with_range(next(t for one in (info, *marks) if (t := _description(one))), marks), choices
            ),
            metavar=self.cli.metavar,
            show_default=self.cli.default or True,
            autocompletion=_completion(choices) if choices else None,
        )
        return inspect.Parameter(
            self.name, inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[typed, option], default=default
        )


def _fields(offer: Offer, own: set[str]) -> dict[str, _Field]:
    """The fields that are offered and are none of the command's `own` parameters, by name; `LAST` comes last."""
    from wb.core.commands.option import Cli, flat, metadata

    found: dict[str, _Field] = {}
    for path, owner, name in flat(offer.config):
        if path not in offer.without and name not in own and name not in found:
            marks = [one for one in metadata(owner, name) if isinstance(one, Cli)]
            found[name] = _Field(name, owner, marks[0] if marks else Cli())
    return dict(sorted(found.items(), key=lambda item: LAST.index(item[0]) if item[0] in LAST else -1))


def _plain(annotation: Any) -> Any:
    """`Annotated[int, …] | None` -> int."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    kinds = [one for one in get_args(annotation) if one is not type(None)]
    return _plain(kinds[0]) if type(None) in get_args(annotation) and len(kinds) == 1 else annotation


def _description(one: Any) -> str | None:
    text = getattr(one, "description", None)
    return text if isinstance(text, str) else None


def _with_choices(text: str, choices: Sequence[str]) -> str:
    """The help, with the choices at its end where it does not name them."""
    if all(choice in text for choice in choices):
        return text
    return f"{text.removesuffix('.')}: {' or '.join(filter(None, (', '.join(choices[:-1]), choices[-1])))}."


def _completion(choices: Sequence[str]) -> Callable[[str], list[str]]:
    return lambda incomplete: [choice for choice in choices if choice.startswith(incomplete)]


def _with_range(text: str, metadata: Sequence[Any]) -> str:
    """The help, with the least and the largest value at its end; the configuration is what refuses others, in its words."""
    ends = {name: getattr(one, name) for one in metadata for name in ("ge", "gt", "le", "lt") if hasattr(one, name)}
    words = {"ge": "{} or more", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}
    said = ", ".join(words[name].format(ends[name]) for name in words if name in ends)
    return f"{text.removesuffix('.')} ({said})." if said else text


class Command(TyperCommand):
    """A command that also accepts former names of its options, and refuses arguments that are not UTF-8 text.

    Most libraries that read and write models refuse other paths, each in its own way, and some late. Options that are derived
    are made when they are first asked for.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self._whole: Callable[[], Callable[..., None]] | None = None
        super().__init__(*arguments, **settings)
        self._whole = getattr(self.callback, _DERIVED, None)

    @property
    def params(self) -> list[Any]:
        """The parameters."""
        if self._whole is not None:
            app, whole, self._whole = typer.Typer(add_completion=False), self._whole, None
            app.command()(whole())
            made = get_command(app)
            self._params, self.callback = made.params, made.callback
        return self._params

    @params.setter
    def params(self, params: list[Any]) -> None:
        self._params = params

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer re-exports
        from wb.core.errors import BadOption

        for argument in args:
            if not argument.isascii() and any("\ud800" <= character <= "\udfff" for character in argument):
                raise BadOption(f"{argument!r} has bytes that are no UTF-8 text; rename the file or folder")
        own = {name for parameter in self.params for name in parameter.opts}
        end = args.index("--") if "--" in args else len(args)
        renamed = [_renamed(argument, own) for argument in args[:end]]
        return super().parse_args(ctx, renamed + args[end:])


def _renamed(argument: str, own: set[str]) -> str:
    """`--calib=8` -> `--samples=8`, if `own`, the options of the command, has the new name and not the old one."""
    name, sign, value = argument.partition("=")
    new = FORMER.get(name)
    return argument if new is None or name in own or new not in own else f"{new}{sign}{value}"
