"""Lets a template compare a variable with a number: variables are text, and Liquid compares no text with a number."""

from __future__ import annotations

from collections.abc import Iterable

from liquid import BoundTemplate, RenderContext
from liquid.ast import Node
from liquid.builtin.expressions import StringLiteral
from liquid.builtin.expressions.logical import (
    EqExpression,
    GeExpression,
    GtExpression,
    LeExpression,
    LtExpression,
    NeExpression,
)
from liquid.expression import Expression

_COMPARISONS = (EqExpression, NeExpression, LtExpression, GtExpression, LeExpression, GeExpression)
_OPERATORS = ("<", ">", "==", "!=")
_MAX_DIGITS = 30


def compare_numbers(template: BoundTemplate, text: str) -> None:
    """Make the comparisons of a template just compiled take a numeric text for a number where the other side is one.

    Args:
        text: what the template was compiled from.
    """
    if not any(operator in text for operator in _OPERATORS):
        return
    context = RenderContext(template)
    waiting: list[Node] = list(template.nodes)
    while waiting:
        node = waiting.pop()
        _prepare(node.expressions())
        waiting.extend(node.children(context, include_partials=False))


def _prepare(expressions: Iterable[Expression]) -> None:
    waiting = list(expressions)
    while waiting:
        expression = waiting.pop()
        waiting.extend(expression.children())
        if isinstance(expression, _COMPARISONS):
            left, right = expression.left, expression.right
            if not isinstance(left, StringLiteral) and not isinstance(right, StringLiteral):
                expression.left, expression.right = _Operand(left, right), _Operand(right, left)


class _Operand(Expression):
    """One side of a comparison, as a number where the other side is one."""

    __slots__ = ("_other", "_own")

    def __init__(self, own: Expression, other: Expression) -> None:
        super().__init__(own.token)
        self._own = own
        self._other = other

    def __str__(self) -> str:
        return str(self._own)

    def evaluate(self, context: RenderContext) -> object:
        value = self._own.evaluate(context)
        if isinstance(value, str) and _is_number(self._other.evaluate(context)):
            return _number(value)
        return value

    def children(self) -> Iterable[Expression]:
        return [self._own]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(text: str) -> float | int | None:
    """Return the number a text is; None, which no number equals and none is above or below, where it is none."""
    bare = text.strip()
    if len(bare) > _MAX_DIGITS or not bare.isascii() or not any(character.isdigit() for character in bare):
        return None
    try:
        return int(bare)
    except ValueError:
        pass
    try:
        return float(bare)
    except ValueError:
        return None
