"""The decorator of every compiled loop of the toy detector."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def kernel(function: Function) -> Function:
    """``function`` compiled at its first call and kept on disk for the next process.

    numba looks only at the function's own file to see whether the kept machine code is still right: a kernel calls
    kernels of its own file alone. No fast-math: the bits follow from the source.
    """
    return cast(Function, njit(cache=True)(function))
