"""The best values of a layer's rows once it is decided which weights are zero."""

from __future__ import annotations

import torch
from torch import Tensor

_MATRIX_VALUES = 2**24
"""Largest total size of the matrices solved at once (128 MiB)."""


def least_error_rows(optimum: Tensor, hessian: Tensor, free: Tensor, fixed: Tensor | None = None) -> Tensor:
    """Rows v that minimise ``1/2 (v - optimum)^T H (v - optimum)`` with the values that are not ``free`` given.

    optimum   ``(rows, inputs)`` float64
    hessian   ``(groups, inputs, inputs)``; equal numbers of rows share one
    free      ``(rows, inputs)`` bool
    fixed     ``(rows, inputs)``, read where not free; default zero
    """
    given = torch.zeros_like(optimum) if fixed is None else fixed
    change = (given - optimum).masked_fill(free, 0)
    result = torch.where(free, optimum, given)
    rows_per_group = len(optimum) // len(hessian)
    step = max(1, _MATRIX_VALUES // hessian[0].numel())
    for group, matrix in enumerate(hessian):
        for start in range(group * rows_per_group, (group + 1) * rows_per_group, step):
            rows = slice(start, min(start + step, (group + 1) * rows_per_group))
            # a row in which nothing moved stays as it is, to the bit
            moved = change[rows].any(dim=1).nonzero().flatten() + start
            if len(moved):
                pull = (change[moved] @ matrix).masked_fill(~free[moved], 0)
                solved = torch.linalg.solve(cut(matrix.expand(len(moved), -1, -1), free[moved]), pull.unsqueeze(2))
                result[moved] -= solved.squeeze(2)
    return result


def cut(matrices: Tensor, kept: Tensor) -> Tensor:
    """The matrices with the rows and columns that are not kept replaced by those of the identity."""
    both = kept.unsqueeze(-1) & kept.unsqueeze(-2)
    return torch.where(both, matrices, torch.diag_embed((~kept).to(matrices)))


def rows_within_range(
    optimum: Tensor, hessian: Tensor, kept: Tensor, start: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """Rows of least error between ``low`` and ``high`` ``(inputs,)``, zero where not kept.

    start   rows of least error without limits
    Values beyond a limit are fixed there and the others solved again, until none is beyond. A value that is fixed is
    not let go again, so the result can fall short of the true minimum; it is never outside.
    """
    values, free = start, kept.clone()
    while bool((outside := free & ((values < low) | (values > high))).any()):
        free &= ~outside
        values = least_error_rows(optimum, hessian, free, values.clamp(low, high))
    return values
