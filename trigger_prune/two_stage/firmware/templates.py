"""Templates of generated sources, from the folder of the generator."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined


@cache
def template_environment(package: str) -> Environment:
    """Templates of ``package``; an unknown name is an error, and nothing is escaped: this is no HTML."""
    return Environment(
        loader=FunctionLoader(lambda name: files(package).joinpath(name).read_text(encoding="utf-8")),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
