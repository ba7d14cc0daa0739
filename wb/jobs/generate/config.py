"""How `wb generate` continues a text."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from wb.core.commands.option import Cli
from wb.jobs.running.config import SharedConfig


class GenerateConfig(SharedConfig):
    """The prompt, how many tokens follow it, and how they are drawn; and which processes compute them."""

    prompt: Annotated[str, Field(description="The text to continue.")]
    tokens: Annotated[int, Field(ge=1, le=1 << 20, description="How many tokens to add.")] = 200
    temperature: Annotated[
        float,
        Field(ge=0, le=100, description="What scores are divided by: 0 always takes the most probable token."),
    ] = 0.8
    top_k: Annotated[
        Annotated[int, Field(ge=1)] | None,
        Field(description="Draw among so many of the most probable tokens."),
        Cli(default="all"),
    ] = None
    truncate: Annotated[
        bool,
        Field(
            description="Of a prompt that is longer than the network reads continue the end, and say so; it is refused "
            "otherwise."
        ),
    ] = False
    seed: Annotated[int, Field(ge=0, lt=2**32, description="Seed of the draws.")] = 0
