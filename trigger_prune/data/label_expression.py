"""Boolean expressions of columns, ``'is_b == 1 and abs(eta) < 2.4'``, evaluated without ``eval``."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trigger_prune.errors import ConfigError

_FUNCTIONS: dict[str, Callable[[Any], Any]] = {"abs": np.abs, "sqrt": np.sqrt, "log": np.log}

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
}

_GRAMMAR = (
    "an expression may hold column names, numbers, + - * / % **, == != < <= > >=, and, or, not, parentheses, "
    f"{', '.join(_FUNCTIONS)}"
)


@dataclass(frozen=True)
class LabelExpression:
    """A parsed expression and the columns it needs."""

    text: str
    tree: ast.expr
    columns: tuple[str, ...]

    def evaluate(self, columns: Mapping[str, NDArray[Any]], n_rows: int) -> NDArray[np.bool_]:
        """True where the expression holds, bool ``(n_rows,)``; ``columns`` are one-dimensional.

        Integers are widened to 64 bits first, so that arithmetic on narrow columns cannot wrap around. Where a value
        is undefined (log of a negative number), comparisons are false. Raises ConfigError when the result, or an
        operand of and/or/not, is not boolean.
        """
        widened = {name: _widen(columns[name]) for name in self.columns}
        with np.errstate(all="ignore"):
            value = self._value(self.tree, widened)
        return np.broadcast_to(self._boolean(value, self.tree), (n_rows,)).copy()

    def _value(self, node: ast.expr, columns: Mapping[str, NDArray[Any]]) -> Any:
        if isinstance(node, ast.Constant):
            return np.asarray(node.value)
        if isinstance(node, ast.Name):
            return columns[node.id]
        if isinstance(node, ast.BoolOp):
            combine = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            values = [self._boolean(self._value(part, columns), part) for part in node.values]
            return combine.reduce(np.broadcast_arrays(*values))
        if isinstance(node, ast.UnaryOp):
            value = self._value(node.operand, columns)
            if isinstance(node.op, ast.Not):
                return np.logical_not(self._boolean(value, node.operand))
            return self._number(value, node.operand) * (-1 if isinstance(node.op, ast.USub) else 1)
        if isinstance(node, ast.BinOp):
            left, right = (self._number(self._value(part, columns), part) for part in (node.left, node.right))
            if isinstance(node.op, ast.Pow):
                left = left.astype(np.float64)
            return _ARITHMETIC[type(node.op)](left, right)
        if isinstance(node, ast.Compare):
            parts = [self._value(part, columns) for part in (node.left, *node.comparators)]
            results = [_COMPARISONS[type(op)](parts[i], parts[i + 1]) for i, op in enumerate(node.ops)]
            return np.logical_and.reduce(np.broadcast_arrays(*results))
        assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        return _FUNCTIONS[node.func.id](self._number(self._value(node.args[0], columns), node.args[0]))

    def _boolean(self, value: NDArray[Any], node: ast.expr) -> NDArray[Any]:
        if value.dtype != np.bool_:
            raise ConfigError(
                f"data.label_expression: {ast.unparse(node)!r} in {self.text!r} is a number, not true or false",
                hint=f"write a comparison, e.g. {ast.unparse(node)} != 0",
            )
        return value

    def _number(self, value: NDArray[Any], node: ast.expr) -> NDArray[Any]:
        if value.dtype == np.bool_:
            return value.astype(np.int64)
        if value.dtype.kind not in "if":
            raise ConfigError(f"data.label_expression: {ast.unparse(node)!r} in {self.text!r} is not a number")
        return value


def parse_label_expression(text: str) -> LabelExpression:
    """Check the grammar. Raises ConfigError quoting the part that is not allowed."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"data.label_expression: {text!r} is not an expression ({error})", hint=_GRAMMAR) from None
    names: dict[str, None] = {}
    _check(tree, text, names)
    return LabelExpression(text, tree, tuple(names))


def _check(node: ast.expr, text: str, names: dict[str, None]) -> None:
    """Walk the expression, collect column names, refuse everything outside the grammar."""
    inner: list[ast.expr] = []
    allowed = False
    if isinstance(node, ast.Constant):
        # bool is a subclass of int; a number beyond 64 bits would become a Python object inside numpy.
        allowed = isinstance(node.value, (int, float)) and not isinstance(node.value, bool) and abs(node.value) < 2**63
    elif isinstance(node, ast.Name):
        allowed = True
        names[node.id] = None
    elif isinstance(node, ast.BoolOp):
        allowed, inner = True, node.values
    elif isinstance(node, ast.UnaryOp):
        allowed, inner = isinstance(node.op, (ast.Not, ast.USub, ast.UAdd)), [node.operand]
    elif isinstance(node, ast.BinOp):
        allowed, inner = type(node.op) in _ARITHMETIC, [node.left, node.right]
    elif isinstance(node, ast.Compare):
        allowed, inner = all(type(op) in _COMPARISONS for op in node.ops), [node.left, *node.comparators]
    elif isinstance(node, ast.Call):
        known = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
        allowed, inner = known and len(node.args) == 1 and not node.keywords, node.args
    if not allowed:
        raise ConfigError(
            f"data.label_expression: {ast.get_source_segment(text.strip(), node)!r} in {text!r} is not allowed",
            hint=_GRAMMAR,
        )
    for part in inner:
        _check(part, text, names)


def _widen(column: NDArray[Any]) -> NDArray[Any]:
    if column.dtype.kind in "iu":
        return column.astype(np.int64)
    return column.astype(np.float64) if column.dtype.kind == "f" else column
