"""Which names a Liquid template says that nobody declares: found by reading it, every branch, without values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from liquid import BoundTemplate, RenderContext
from liquid.ast import Node, PartialScope
from liquid.builtin.expressions import FilteredExpression, Path
from liquid.builtin.output import OutputNode
from liquid.builtin.tags.assign_tag import AssignNode
from liquid.builtin.tags.cycle_tag import CycleNode
from liquid.exceptions import LiquidError, TemplateNotFoundError
from liquid.expression import Expression

from agent_worker.prompting.liquid_engine import MAX_INCLUDES, compiled, environment, told
from agent_worker.prompting.liquid_scan import TOO_LARGE, problem

SYSTEM = "system"
_DEFAULT = "default"

Names = frozenset[str]
NONE: Names = frozenset()


def undeclared(text: str, includes: Mapping[str, str], declared: Names) -> list[str]:
    """Return the names, sorted.

    Raises:
        ConfigError: the template or a prompt it takes in is wrong; prompts take in each other in a circle.
    """
    reader = _Reader(includes, declared)
    with told(includes):
        reader.read(compiled(text), _Scope())
    return sorted(reader.found)


@dataclass
class _Scope:
    """Names the template gives itself, each with the undeclared names its value is made of."""

    assigned: dict[str, Names] = field(default_factory=dict)
    blocks: list[dict[str, Names]] = field(default_factory=list)

    def get(self, name: str) -> Names | None:
        for names in (*reversed(self.blocks), self.assigned):
            if name in names:
                return names[name]
        return None


class _Reader:
    def __init__(self, includes: Mapping[str, str], declared: Names) -> None:
        self.found: set[str] = set()
        self._includes = includes
        self._declared = declared
        self._knows_system = any(name.startswith(f"{SYSTEM}.") for name in declared)
        self._open: list[str] = []
        self._taken_in = 0

    def read(self, template: BoundTemplate, scope: _Scope) -> None:
        context = RenderContext(template)
        try:
            for node in template.nodes:
                self._node(node, scope, context)
        except LiquidError as error:
            if error.template_name is None:
                error.template_name = template.name
            raise

    def _node(self, node: Node, scope: _Scope, context: RenderContext) -> None:
        used = [self._names(expression, scope) for expression in node.expressions()]
        if isinstance(node, (OutputNode, CycleNode)):
            self.found.update(*used)
        for name in node.template_scope():
            scope.assigned[str(name)] = used[0] if isinstance(node, AssignNode) else NONE
        partial = node.partial_scope()
        if partial is not None:
            self._take_in(node, partial.scope, {str(name) for name in partial.in_scope}, scope)
        scope.blocks.append({str(name): NONE for name in node.block_scope()})
        for child in node.children(context, include_partials=False):
            self._node(child, scope, context)
        scope.blocks.pop()

    def _take_in(self, node: Any, kind: PartialScope, given: set[str], scope: _Scope) -> None:
        name = str(node.name.value)
        if name not in self._includes:
            raise TemplateNotFoundError(name, token=node.name.token)
        if name in self._open:
            raise problem(f"the prompt {name!r} takes in itself.", name=self._open[-1])
        self._taken_in += 1
        if self._taken_in > MAX_INCLUDES:
            raise problem(f"prompts are taken in more than {MAX_INCLUDES} times.", code=TOO_LARGE)
        values = dict.fromkeys(given, NONE)
        values |= {str(argument.name): self._names(argument.value, scope) for argument in node.args}
        self._open.append(name)
        if kind is PartialScope.SHARED:
            scope.blocks.append(values)
            self.read(compiled(self._includes[name], name), scope)
            scope.blocks.pop()
        else:
            self.read(compiled(self._includes[name], name), _Scope(blocks=[values]))
        self._open.pop()

    def _names(self, expression: Expression, scope: _Scope) -> Names:
        """Return the undeclared names that are said where this expression is."""
        if isinstance(expression, FilteredExpression):
            return self._filtered(expression, scope)
        if isinstance(expression, Path):
            return self._path(expression, scope)
        return NONE.union(*(self._names(child, scope) for child in expression.children()))

    def _filtered(self, expression: FilteredExpression, scope: _Scope) -> Names:
        value, arguments = self._names(expression.left, scope), NONE
        for applied in expression.filters or ():
            applied.validate_filter_arguments(environment())
            used = NONE.union(*(self._names(child, scope) for child in applied.children()))
            if applied.name == _DEFAULT:
                value = used
            else:
                arguments |= used
        return value | arguments

    def _path(self, path: Path, scope: _Scope) -> Names:
        root, written = str(path.head()), str(path)
        made_of = scope.get(root)
        if made_of is not None:
            return made_of
        if root == SYSTEM:
            return NONE if not self._knows_system or written in self._declared else frozenset({written})
        inner = path.path[1:]
        if root in self._declared and (not inner or inner == ["size"]):
            return NONE  # a variable is text, and all a text has below it is its length
        return frozenset({written})
