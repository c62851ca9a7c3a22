"""Secrets in requests: what one does not say stays as it is stored, and none is taken from the environment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent_worker.config.yaml_file import Location
from agent_worker.domain.lifecycle_hook import variable_of


def named_in_environment(body: Mapping[str, Any]) -> Iterator[Location]:
    """Yield the place of each secret that a request would take from this process's environment.

    The keys of this deployment's providers are there too, and the request also says where the secret is sent.
    """
    for path, value in _secrets_of(body):
        if isinstance(value, str) and variable_of(value) is not None:
            yield path


def names_environment(value: Any) -> bool:
    """Return whether anything in a number's template is taken from this process's environment."""
    if isinstance(value, Mapping):
        return any(names_environment(inner) for inner in value.values())
    if isinstance(value, list):
        return any(names_environment(inner) for inner in value)
    return isinstance(value, str) and variable_of(value) is not None


def _secrets_of(body: Mapping[str, Any]) -> Iterator[tuple[Location, Any]]:
    targets: list[tuple[Location, Any]] = []
    if isinstance(hooks := body.get("webhooks"), Mapping):
        targets += [(("webhooks", name), hook) for name, hook in hooks.items()]
    if isinstance(tools := body.get("tools"), list):
        pairs = [(index, tool) for index, tool in enumerate(tools) if isinstance(tool, Mapping)]
        targets += [(("tools", index, "source"), tool.get("source")) for index, tool in pairs]
    for path, target in targets:
        if isinstance(target, Mapping):
            yield (*path, "secret"), target.get("secret")
            headers = target.get("authHeaders")
            for index, header in enumerate(headers if isinstance(headers, list) else ()):
                if isinstance(header, Mapping):
                    yield (*path, "authHeaders", index, "value"), header.get("value")
    if isinstance(secrets := body.get("toolSecrets"), Mapping):
        yield from ((("toolSecrets", name), value) for name, value in secrets.items())


def with_kept_secrets(body: Mapping[str, Any], stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return webhooks, tools and tool secrets of a request, with the stored secrets that it does not say."""
    kept = stored or {}
    found: dict[str, Any] = {}
    if isinstance(hooks := body.get("webhooks"), Mapping):
        before = kept.get("webhooks") or {}
        found["webhooks"] = {**before, **{name: _with_kept(before.get(name), hook) for name, hook in hooks.items()}}
    if isinstance(tools := body.get("tools"), list):
        by_name = {tool["name"]: tool for tool in kept.get("tools", [])}
        found["tools"] = [
            with_kept_source(by_name.get(str(tool.get("name")), {}), tool) if isinstance(tool, Mapping) else tool
            for tool in tools
        ]
    if isinstance(secrets := body.get("toolSecrets"), Mapping):
        found["toolSecrets"] = {**kept.get("toolSecrets", {}), **secrets}
    return found


def with_kept_source(before: Mapping[str, Any], tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool of a request with the secrets of the stored one that it does not say."""
    source, stored = tool.get("source"), before.get("source")
    if not isinstance(source, Mapping) or source.get("kind") != "webhook":
        return dict(tool)
    same = isinstance(stored, Mapping) and stored.get("kind") == "webhook"
    return {**tool, "source": _with_kept(stored if same else None, source)}


def _with_kept(stored: Mapping[str, Any] | None, given: Any) -> Any:
    """Return a hook or a tool's source with the secrets it does not say; null takes one away."""
    if not isinstance(given, Mapping):
        return given
    after = {key: value for key, value in given.items() if key != "secretRef"}
    before = {key: stored[key] for key in ("secret", "authHeaders") if stored and key in stored}
    values = {header["name"].lower(): header.get("value") for header in before.get("authHeaders", [])}
    if isinstance(headers := after.get("authHeaders"), list):
        after["authHeaders"] = [_with_kept_value(header, values) for header in headers]
    return {**before, **after}


def _with_kept_value(header: Any, values: Mapping[str, Any]) -> Any:
    if not isinstance(header, Mapping):
        return header
    after = {key: value for key, value in header.items() if key != "secretRef"}
    if after.get("value") is None:
        after["value"] = values.get(str(after.get("name")).lower())
    return after
