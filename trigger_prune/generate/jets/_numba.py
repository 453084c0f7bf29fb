"""numba's compiler with its types told to mypy, and a clear error when it is absent."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import ParamSpec, TypeVar

from trigger_prune.errors import ToolError

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def njit(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Compile on first call and keep the machine code beside the source. No fast-math: bits must not depend on luck.

    Raises ToolError when numba is not installed.
    """
    try:
        numba = import_module("numba")
    except ImportError as error:
        raise ToolError(
            "numba is not installed, and the jet features need it", hint="pip install 'trigger_prune[generate]'"
        ) from error
    compiled: Callable[_Arguments, _Result] = numba.njit(cache=True, error_model="numpy")(function)
    return compiled
