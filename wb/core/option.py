"""What a field of a configuration says of its option on the command line; `wb.cli` makes the option from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from pydantic import BaseModel


@dataclass(frozen=True)
class Cli:
    """How an option differs from its field, which gives name, type, default, bounds and (as `description`) help.

    `name` is what the option is called. `default` says in words what holds where the option is not given. `typed` is the type
    of what is typed, where that is not the field's: several of a kind (`list[str]`) or a path; `parse` makes the field's value
    of it. Without `bounded` a number out of bounds is refused by the configuration alone, in its words.
    """

    name: str | None = None
    default: str | None = None
    typed: Any = None
    parse: Callable[[Any], Any] | None = None
    metavar: str | None = None
    bounded: bool = True


def listed(text: str) -> tuple[str, ...]:
    """`a, b` -> ("a", "b")."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def flat(config: type[BaseModel]) -> Iterable[tuple[str, type[BaseModel], str]]:
    """Path, owner and name of each field; the fields of a configuration within, as `settings.keep`, in its place."""
    from pydantic import BaseModel

    for name, field in config.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from ((f"{name}.{path}", owner, inner) for path, owner, inner in flat(kind))
        else:
            yield name, config, name


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
