"""What a field of a configuration says of its option on the command line; `wb.cli` makes the option from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard, get_args

if TYPE_CHECKING:
    from pydantic import BaseModel, GetCoreSchemaHandler


@dataclass(frozen=True)
class Cli:
    """How an option differs from its field, which gives name, type, default, bounds and (as `description`) help.

    `name` is what the option is called. `default` says in words what holds where the option is not given. `typed` is the type
    of what is typed, where that is not the field's: several of a kind (`list[str]`) or a path; `parse` makes the field's value
    of it. The field takes the same text, one of a kind alone as well.
    """

    name: str | None = None
    default: str | None = None
    typed: Any = None
    parse: Callable[[Any], Any] | None = None
    metavar: str | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        from pydantic import BeforeValidator

        several = self.typed == list[str]
        if not several and self.parse is None:
            return handler(source)

        def of_text(value: object) -> object:
            value = (value,) if several and isinstance(value, str) else value
            typed = isinstance(value, list | tuple) if several else isinstance(value, str)
            return self.parse(value) if typed and self.parse is not None else value

        return BeforeValidator(of_text).__get_pydantic_core_schema__(source, handler)


def listed(text: str) -> tuple[str, ...]:
    """`a, b` -> ("a", "b")."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def flat(config: type[BaseModel]) -> Iterable[tuple[str, type[BaseModel], str]]:
    """Path, owner and name of each field; the fields of a configuration within, as `settings.keep`, in its place."""
    for name, field in config.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and _is_configuration(kind):
            yield from ((f"{name}.{path}", owner, inner) for path, owner, inner in flat(kind))
        else:
            yield name, config, name


def _is_configuration(kind: type) -> TypeGuard[type[BaseModel]]:
    from pydantic import BaseModel

    return issubclass(kind, BaseModel)


def structured(config: type[BaseModel], given: Mapping[str, Any], without: Collection[str] = ()) -> dict[str, Any]:
    """Values by name as `config` takes them: each wherever there is a field of that name, also in a configuration within.

    Fields whose path is in `without` get none. What there is no field for stays, for the validation to refuse.
    """
    paths = [path for path, _, name in flat(config) if name in given and path not in without]
    found: dict[str, Any] = {name: given[name] for name in given.keys() - {path.split(".")[-1] for path in paths}}
    for path in paths:
        *outer, name = path.split(".")
        place = found
        for part in outer:
            place = place.setdefault(part, {})
        place[name] = given[name]
    return found


def owner_of(config: type[BaseModel], name: str) -> type[BaseModel]:
    """The configuration, `config` or one within, that has the field `name`; `config` where none has it."""
    return next((owner for _, owner, field in flat(config) if field == name), config)


def value_of(config: BaseModel, name: str) -> Any:
    """The value of the field `name`, wherever it is.

    Raises:
        AttributeError: there is none.
    """
    path = next((path for path, _, field in flat(type(config)) if field == name), name)
    for part in path.split("."):
        config = getattr(config, part)
    return config


def metadata(config: type[BaseModel], field: str) -> tuple[Any, ...]:
    """All that is annotated to a field: constraints and `Cli`, also within `… | None` and aliases."""
    info = config.model_fields[field]
    return (*info.metadata, *_within(info.annotation))


def _within(annotation: Any) -> Iterable[Any]:
    for argument in get_args(annotation) if type(None) in get_args(annotation) else ():
        for one in getattr(argument, "__metadata__", ()):
            yield one
            yield from getattr(one, "metadata", ())


def option_of(config: type[BaseModel], field: str) -> str:
    """What a field is called on the command line."""
    names = (one.name for one in metadata(config, field) if isinstance(one, Cli) and one.name)
    return next(names, "--" + field.replace("_", "-"))


def located(config: type[BaseModel], place: Sequence[object]) -> str:
    """What the option of a field is called that a fault is in, without its dashes, and where in its value: `keep.0`."""
    outer, rest = config, [*place]
    while rest and isinstance(name := rest[0], str) and name in outer.model_fields:
        kind, rest = outer.model_fields[name].annotation, rest[1:]
        if not (isinstance(kind, type) and _is_configuration(kind)):
            return ".".join([option_of(outer, name).removeprefix("--"), *map(str, rest)])
        outer = kind
    return ".".join(map(str, rest))


def by_field(config: type[BaseModel], given: Mapping[str, Any], without: Collection[str] = ()) -> dict[str, Any]:
    """`given` with what is called as an option (`samples`) by the name of its field (`calibration`)."""
    fields = {
        option_of(owner, name).removeprefix("--").replace("-", "_"): name
        for path, owner, name in flat(config)
        if path not in without
    }
    return {fields.get(name, name): value for name, value in given.items()}
