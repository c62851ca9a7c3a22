"""The Liquid library, set up for prompts: every name, filter and loop goes through here, so that all are bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache, partial
from io import StringIO
from typing import Any, TextIO

from liquid import BoundTemplate, Environment, RenderContext, Token, Undefined
from liquid.builtin.expressions import StringLiteral
from liquid.builtin.output import Output, OutputNode
from liquid.builtin.tags.echo_tag import EchoNode, EchoTag
from liquid.builtin.tags.for_tag import ForNode, ForTag
from liquid.builtin.tags.include_tag import IncludeTag
from liquid.builtin.tags.render_tag import RenderTag
from liquid.exceptions import (
    BlockNestingError,
    ContextDepthError,
    LiquidError,
    LiquidSyntaxError,
    ResourceLimitError,
    TemplateNotFoundError,
    UnknownFilterError,
)
from liquid.loader import BaseLoader, TemplateSource
from liquid.output import LimitedStringIO
from liquid.stream import TokenStream
from liquid.undefined import UNDEFINED
from liquid.utils import ReadOnlyChainMap

from agent_worker.errors import ConfigError
from agent_worker.prompting.liquid_numbers import compare_numbers
from agent_worker.prompting.liquid_scan import TOO_LARGE, meant, problem, scan

MAX_OUTPUT_BYTES = 200_000
MAX_LOOPS = 1_000
"""Rounds of all loops of a template and its includes together."""

MAX_INCLUDES = 200
MAX_DEPTH = 20
MAX_LOOKUPS = 50_000
MAX_LIST = 10_000
MAX_FILTERED_CHARS = 20_000
"""Text the filters that take apart HTML and dates are given."""

_UNWANTED_TAGS = ("tablerow",)
_UNWANTED_FILTERS = ("safe", "escapejs")


class TooMuch(ResourceLimitError):
    """A template does more than a prompt ever needs."""


@dataclass
class _Run:
    """What one rendering has used up, and what it had no value for."""

    includes: Mapping[str, str]
    now: str = ""
    missing: set[str] = field(default_factory=set)
    loops: int = 0
    lookups: int = 0
    included: int = 0
    speaking: bool = False
    muted: bool = False

    def look_up(self) -> None:
        self.lookups += 1
        if self.lookups > MAX_LOOKUPS:
            raise TooMuch(f"names are used more than {MAX_LOOKUPS} times.", token=None)

    def loop(self, rounds: int) -> None:
        self.loops += rounds
        if self.loops > MAX_LOOPS:
            raise TooMuch(f"loops go round more than {MAX_LOOPS} times.", token=None)

    def take_in(self) -> None:
        self.included += 1
        if self.included > MAX_INCLUDES:
            raise TooMuch(f"prompts are taken in more than {MAX_INCLUDES} times.", token=None)


_run: ContextVar[_Run] = ContextVar("liquid_run")


def render(text: str, values: Mapping[str, Any], includes: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return the text, and the names it has no value for.

    Raises:
        ConfigError: the template is wrong, or does too much.
    """
    system = values.get("system")
    now = system.get("now") if isinstance(system, Mapping) else None
    run = _Run(includes, now if isinstance(now, str) else "")
    with _running(run), told(includes):
        said: str = compiled(text).render(dict(values))
    # half a surrogate pair, which JSON can carry and nothing after this could send on
    return said.encode("utf-8", "replace").decode(), tuple(sorted(run.missing))


@contextmanager
def _running(run: _Run) -> Iterator[None]:
    token = _run.set(run)
    try:
        yield
    finally:
        _run.reset(token)


@contextmanager
def told(includes: Mapping[str, str]) -> Iterator[None]:
    """Turn what the library raises into `ConfigError`, in our words and without a value in it."""
    try:
        yield
    except TemplateNotFoundError as error:
        name = str(error.args[0]) if error.args else ""
        raise _placed(error, f"there is no prompt {name!r} to take in.", remedy=meant(name, list(includes))) from error
    except UnknownFilterError as error:
        name = error.token.value if error.token else ""
        known = list(environment().filters)
        raise _placed(error, f"there is no filter {name!r}.", remedy=meant(name, known)) from error
    except ContextDepthError as error:
        raise _placed(error, f"prompts take in each other more than {MAX_DEPTH} deep.") from error
    except BlockNestingError as error:
        raise _placed(error, f"tags are nested more than {MAX_DEPTH} deep.") from error
    except ResourceLimitError as error:
        what = str(error.message) if isinstance(error, TooMuch) else f"the text is over {MAX_OUTPUT_BYTES} bytes."
        raise _placed(error, what, code=TOO_LARGE) from error
    except LiquidError as error:
        raise _placed(error, f"{str(error.message).rstrip('.')}.") from error
    except RecursionError as error:
        raise problem("an expression is nested too deeply.") from error


def _placed(error: LiquidError, what: str, **more: str) -> ConfigError:
    try:
        context = error.context()
    except ValueError:  # the mistake is that the text ends here
        context = None
    if context is None and error.token is not None:
        line: int | None = error.token.source.count("\n") + 1
    else:
        line = context[0] if context else None
    return problem(what, line=line, name=str(error.template_name or ""), **more)


@lru_cache(maxsize=128)
def compiled(text: str, name: str = "") -> BoundTemplate:
    """Return the template, compiled once while it is in use.

    Raises:
        ConfigError: it is too large, or something in it is not closed.
        LiquidError: it is wrong in another way.
    """
    scan(text, name)
    try:
        template = environment().from_string(text, name=name, path=name or None)
        compare_numbers(template, text)
    except LiquidError as error:
        if isinstance(error.__cause__, RecursionError):
            raise problem("an expression is nested too deeply.", name=name) from error
        raise
    return template


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the library's set-up: its own tags and filters, ours in place of some of them."""
    environment = _Environment(loader=_Prompts(), undefined=_Nothing)
    for tag in (_Output, _Echo, _For, _Render, _Include):
        environment.add_tag(tag)
    for name in _UNWANTED_TAGS:
        environment.tags.pop(name, None)
    for name in _UNWANTED_FILTERS:
        environment.filters.pop(name, None)
    return environment


class _Nothing(Undefined):
    """A name without a value: false in a condition, and reported where it would have been said."""

    __slots__ = ()
    force_liquid_default = True

    def __str__(self) -> str:
        run = _run.get(None)
        if run is not None and not run.muted:
            run.missing.add(self.name)
        return ""


class _Buffer(LimitedStringIO):
    """Text within bounds, line ends as they are."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit, newline="")

    def write(self, text: str, /) -> int:
        self.size += len(text.encode("utf-8", "surrogatepass"))
        if self.size > self.limit:
            raise TooMuch(f"the text is over {MAX_OUTPUT_BYTES} bytes.", token=None)
        return StringIO.write(self, text)


class _Context(RenderContext):
    """The names a template sees: the values it was given and its own, and nothing of the library's."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.scope = ReadOnlyChainMap(self.locals, self.globals, self.counters)

    def get(self, path: list[object], *, token: Token | None, default: object = UNDEFINED) -> object:
        _run.get().look_up()
        found = super().get(path, token=token, default=default)
        if isinstance(found, _Nothing) and found.name == path[0] and len(path) > 1:
            found.name = dotted(path)
        return found

    def filter(self, name: str, token: Token | None) -> Callable[..., object]:
        return partial(_filtered, name, super().filter(name, token))

    def raise_for_loop_limit(self, length: int = 1) -> None:
        _run.get().loop(length)

    def get_buffer(self, buf: TextIO | None = None) -> StringIO:
        return _Buffer(MAX_OUTPUT_BYTES - (buf.size if isinstance(buf, LimitedStringIO) else 0))


class _Template(BoundTemplate):
    context_class = _Context

    def _get_buffer(self) -> StringIO:
        return _Buffer(MAX_OUTPUT_BYTES)

    def make_partial_namespace(self, partial: bool, render_args: Mapping[str, object]) -> Mapping[str, object]:
        return dict(render_args)  # the library would add a name of its own, which hides a variable called so

    def render_with_context(self, context: RenderContext, buffer: TextIO, *args: Any, **options: Any) -> None:
        _run.get().take_in()
        try:
            super().render_with_context(context, buffer, *args, **options)
        except LiquidError as error:
            if error.template_name is None:
                error.template_name = self.name
            raise


class _Environment(Environment):
    template_class = _Template
    context_depth_limit = MAX_DEPTH
    block_nesting_limit = MAX_DEPTH
    loop_iteration_limit = MAX_LOOPS
    local_namespace_limit = MAX_OUTPUT_BYTES
    output_stream_limit = MAX_OUTPUT_BYTES


class _Prompts(BaseLoader):
    """The prompts of this rendering, by name; there is nothing else to load."""

    def get_source(self, env: Environment, template_name: str, **options: object) -> TemplateSource:
        text = _run.get().includes.get(template_name)
        if text is None:
            raise TemplateNotFoundError(template_name)
        return TemplateSource(text, template_name, None)

    def load(self, env: Environment, name: str, **options: object) -> BoundTemplate:
        return compiled(self.get_source(env, name).text, name)


class _OutputNode(OutputNode):
    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        return _spoken(super().render_to_output, context, buffer)


class _EchoNode(EchoNode):
    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        return _spoken(super().render_to_output, context, buffer)


class _Output(Output):
    node_class = _OutputNode


class _Echo(EchoTag):
    node_class = _EchoNode


class _ForNode(ForNode):
    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        _bounded(self.expression.iterable.evaluate(context))  # an offset would be counted up to one by one
        return super().render_to_output(context, buffer)


class _For(ForTag):
    node_class = _ForNode


class _Render(RenderTag):
    def parse(self, stream: TokenStream) -> Any:
        return _named_in_quotes(super().parse(stream))


class _Include(IncludeTag):
    def parse(self, stream: TokenStream) -> Any:
        return _named_in_quotes(super().parse(stream))


def _named_in_quotes(node: Any) -> Any:
    if not isinstance(node.name, StringLiteral):
        # what is taken in is the operator's choice, not that of a value; and `check` can look at all of it
        raise LiquidSyntaxError("the name of a prompt to take in must stand in quotes", token=node.token)
    return node


def _spoken(render_node: Callable[[RenderContext, TextIO], int], context: RenderContext, buffer: TextIO) -> int:
    run = _run.get()
    run.speaking = True
    try:
        return render_node(context, buffer)
    finally:
        run.speaking = False


def _filtered(name: str, function: Callable[..., object], left: object, *args: object, **named: object) -> object:
    """Apply a filter within bounds; what it makes of a name without a value is still without a value."""
    run = _run.get()
    if name == "default":
        return function(left, *args, **named)
    for argument in (*args, *named.values()):
        if isinstance(argument, _Nothing):
            run.missing.add(argument.name)
        _bounded(argument)
    _bounded(left)
    run.muted = True
    try:
        result = _applied(name, function, left, *args, **named)
    except (TooMuch, RecursionError):
        raise
    except Exception as error:  # the caller: a filter meets values nobody foresaw, and its words may quote them
        raise LiquidError(f"the filter {name!r} cannot be applied to what it is given", token=None) from error
    finally:
        run.muted = False
    _bounded(result)
    if isinstance(left, _Nothing):
        if result is None or isinstance(result, Undefined) or result == "" or result == []:
            return left
        if run.speaking or isinstance(result, (str, list)):
            run.missing.add(left.name)
    return result


def _applied(name: str, function: Callable[..., object], left: object, *args: object, **named: object) -> object:
    match name:
        case "replace" if args and not isinstance(args[0], Undefined):
            text, old, new = str(left), str(args[0]), str(args[1]) if len(args) > 1 else ""
            _sized(len(text) + (text.count(old) if old else len(text) + 1) * len(new))
        case "join" if isinstance(left, (list, tuple, range)):
            _sized(sum(len(str(item)) for item in left) + len(left) * len(str(args[0]) if args else " "))
        case "strip_html" | "date" if isinstance(left, str) and len(left) > MAX_FILTERED_CHARS:
            raise TooMuch(f"{name} is given more than {MAX_FILTERED_CHARS} characters.", token=None)
        case "date" if left in ("now", "today") and _run.get().now:
            left = datetime.fromisoformat(_run.get().now)  # the agent's time, not this host's
        case _:
            pass
    return function(left, *args, **named)


def _bounded(value: object) -> None:
    if isinstance(value, str):
        _sized(len(value))
    elif isinstance(value, range):
        if value.stop - value.start > MAX_LOOPS:
            raise TooMuch(f"a range has more than {MAX_LOOPS} numbers.", token=None)
    elif isinstance(value, (list, tuple)):
        if len(value) > MAX_LIST:
            raise TooMuch(f"a list has more than {MAX_LIST} entries.", token=None)
    elif isinstance(value, int) and value.bit_length() > 1_024:
        raise TooMuch("a number is too large.", token=None)


def _sized(characters: int) -> None:
    if characters > MAX_OUTPUT_BYTES:
        raise TooMuch(f"the text is over {MAX_OUTPUT_BYTES} bytes.", token=None)


def dotted(path: list[object]) -> str:
    """Return a path as it is written: `system.now`, `lines[0].name`."""
    first, *rest = path
    return str(first) + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in rest)
