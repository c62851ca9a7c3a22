"""`/v1/phone-numbers`: whose calls we take and place, and which agent answers them (contract 1.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Path
from pydantic import ConfigDict, Field

from agent_worker.api.agents import unlimited
from agent_worker.api.audit import audit
from agent_worker.api.auth import Principal
from agent_worker.api.backend import Backend
from agent_worker.api.bodies import invalid
from agent_worker.api.errors import ApiError
from agent_worker.api.known_agents import Admin, Reader, files_of
from agent_worker.api.known_numbers import all_numbers, number_to_change, row_of_number, the_number
from agent_worker.api.number_rows import PhoneNumberRow
from agent_worker.api.shapes import CamelShape, RequestShape, errors
from agent_worker.config.agent_body import FROM_FILES_ONLY, Remark
from agent_worker.config.kept_secrets import names_environment
from agent_worker.config.number_setup import may_take_calls
from agent_worker.config.problems import did_you_mean
from agent_worker.config.resolve import without_secrets
from agent_worker.domain.call import utc_now
from agent_worker.domain.number import ConnectionName, DispatchTemplate, NumberConfig
from agent_worker.errors import ControlPlaneError
from agent_worker.store.agents import delete_number, save_number, stored_agent

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

NumberId = Annotated[str, Path(max_length=200)]
Direction = Literal["inbound", "outbound", "both"]
AgentRef = Annotated[str, Field(max_length=200)]
Label = Annotated[str, Field(max_length=120)]


class NumberImport(RequestShape):
    """A number of a carrier's; the connection is one that `telephony.yaml` describes."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"e164": "+12015550123", "sipConnectionInstallationId": "carrier", "agentId": "front-desk"}]
        }
    )

    e164: str = Field(alias="e164", pattern=r"^\+[1-9][0-9]{6,14}$")
    sip_connection_installation_id: ConnectionName | None = Field(
        None, description="Name of a SIP connection; none = the only one there is."
    )
    sip_trunk_id: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="LiveKit's outbound trunk instead of a connection."
    )
    sip_provider_name: Label | None = None
    direction: Direction | None = Field(
        None, description="None = `both` where an agent or a template is given, else `outbound`."
    )
    dispatch_metadata_template: DispatchTemplate | None = None
    label: Label | None = None
    agent_id: AgentRef | None = None


class NumberChange(RequestShape):
    """What is to change; null clears what can be cleared, and unlinks the agent."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"agentId": "front-desk"}]})

    direction: Direction | None = None
    dispatch_metadata_template: DispatchTemplate | None = None
    label: Label | None = None
    agent_id: AgentRef | None = None
    sms_automation_enabled: bool | None = None


class Released(CamelShape):
    """The number is no longer ours."""

    released: Literal[True]


def phone_numbers_routes(backend: Backend) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["phone numbers"], prefix="/phone-numbers")

    @router.get("", responses=errors())
    async def list_numbers(principal: Reader) -> list[PhoneNumberRow]:
        """Every number, those of files first."""
        async with backend.control.reading() as connection:
            found = await all_numbers(connection, backend)
        return [row_of_number(known, backend) for known in found if principal.may_see(known.number.agent_id)]

    @router.post("/import", responses=errors(409))
    async def import_number(principal: Admin, body: NumberImport) -> PhoneNumberRow:
        """Add a number that a carrier routes to LiveKit's SIP bridge; `provision` makes LiveKit know it."""
        return await _shown(backend, principal, await _import(backend, principal, body))

    @router.get("/{number_id}", responses=errors(404))
    async def get_number(number_id: NumberId, principal: Reader) -> PhoneNumberRow:
        """One number."""
        async with backend.control.reading() as connection:
            return row_of_number(await the_number(connection, backend, principal, number_id), backend)

    @router.patch("/{number_id}", responses=errors(404, 409, 501))
    async def update_number(number_id: NumberId, principal: Admin, body: NumberChange) -> PhoneNumberRow:
        """Change a number, link it to an agent, or unlink it with `agentId: null`."""
        number = await _change(backend, principal, number_id, body)
        return await _shown(backend, principal, number_id, unlinked=number.agent_id is None)

    @router.delete("/{number_id}", responses=errors(404, 409))
    async def remove_number(number_id: NumberId, principal: Admin) -> Released:
        """Forget a number; the carrier still has it, and `provision` takes it from LiveKit's trunks."""
        async with backend.control.writing() as connection:
            await number_to_change(connection, backend, principal, number_id)
            await delete_number(connection, backend.organization_id, number_id)
            await audit(connection, backend, principal, "phone_number.delete", f"phone-numbers/{number_id}")
        await backend.keeper.refresh()
        return Released(released=True)

    return router


async def _import(backend: Backend, principal: Principal, body: NumberImport) -> str:
    unlimited(principal)
    _check_connection(body, backend)
    _check_template(body.dispatch_metadata_template)
    answered = body.agent_id is not None or bool(body.dispatch_metadata_template)
    number = NumberConfig(
        e164=body.e164,
        direction=body.direction or ("both" if answered else "outbound"),
        agent_id=body.agent_id,
        dispatch_metadata_template=body.dispatch_metadata_template,
        label=body.label,
        sip_connection=body.sip_connection_installation_id,
    )
    _check_answered(number, "direction")
    if number.e164 in backend.catalog.current().numbers:
        raise _taken()
    trunk_id = None if body.sip_connection_installation_id else body.sip_trunk_id
    trunk = {"sip_trunk_id": trunk_id, "sip_provider_name": body.sip_provider_name}
    organization = backend.organization_id
    async with backend.control.writing() as connection:
        await _check_agent(connection, backend, principal, number.agent_id)
        try:
            made = await save_number(connection, organization, number, number_id=None, now=utc_now(), trunk=trunk)
        except ControlPlaneError as error:
            raise _taken() if error.code == "number_exists" else error from error
        await audit(connection, backend, principal, "phone_number.create", f"phone-numbers/{made}")
    return made


async def _change(backend: Backend, principal: Principal, number_id: str, body: NumberChange) -> NumberConfig:
    supplied = body.model_fields_set
    if body.sms_automation_enabled:
        sentence = "Text messages are not sent or taken here: use your carrier's own interface for them."
        raise ApiError(501, "NOT_SUPPORTED", sentence, retryable=False)
    if "direction" in supplied and body.direction is None:
        raise invalid([Remark(("direction",), "cannot be cleared")])
    _check_template(body.dispatch_metadata_template)
    async with backend.control.writing() as connection:
        before = await number_to_change(connection, backend, principal, number_id)
        number = before.number.model_copy(update=_changes(body, before.number))
        # an agent that goes leaves its numbers behind, so a number may be unlinked as well
        if supplied & {"direction", "dispatch_metadata_template"}:
            _check_answered(number, "direction" if "direction" in supplied else "dispatchMetadataTemplate")
        if "agent_id" in supplied:
            await _check_agent(connection, backend, principal, number.agent_id)
        await save_number(connection, backend.organization_id, number, number_id=number_id, now=utc_now())
        detail = {"keys": sorted(supplied)}
        await audit(connection, backend, principal, "phone_number.update", f"phone-numbers/{number_id}", detail)
    return number


async def _shown(backend: Backend, principal: Principal, number_id: str, *, unlinked: bool = False) -> PhoneNumberRow:
    """Return a number that was changed, as the next call meets it; also to who unlinked it and sees it no more."""
    await backend.keeper.refresh()
    who = Principal(principal.key_id, principal.scope) if unlinked else principal
    async with backend.control.reading() as connection:
        return row_of_number(await the_number(connection, backend, who, number_id), backend)


def _changes(body: NumberChange, before: NumberConfig) -> dict[str, Any]:
    changes = {name: getattr(body, name) for name in body.model_fields_set & NumberConfig.model_fields.keys()}
    template, stored = changes.get("dispatch_metadata_template"), before.dispatch_metadata_template
    if template and stored:
        changes["dispatch_metadata_template"] = _unmasked(template, stored)
    return changes


def _unmasked(template: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a template with what a client read masked and sent back as it was."""
    shown = without_secrets(stored)
    return {key: stored[key] if key in stored and value == shown[key] else value for key, value in template.items()}


def _check_connection(body: NumberImport, backend: Backend) -> None:
    name, known = body.sip_connection_installation_id, backend.catalog.current().connections
    if name is not None and name not in known:
        meant = did_you_mean(name, list(known)) or "telephony.yaml describes none."
        raise invalid([Remark(("sipConnectionInstallationId",), f"There is no such SIP connection. {meant}")])


def _check_template(template: Mapping[str, Any] | None) -> None:
    if names_environment(template):
        raise invalid([Remark(("dispatchMetadataTemplate",), FROM_FILES_ONLY)])


def _check_answered(number: NumberConfig, key: str) -> None:
    if not may_take_calls(number):
        sentence = "A number that takes calls needs an agentId or a dispatchMetadataTemplate."
        raise invalid([Remark((key,), sentence)])


async def _check_agent(
    connection: AsyncConnection, backend: Backend, principal: Principal, agent_id: str | None
) -> None:
    if agent_id is None:
        return
    known = principal.may_see(agent_id) and (
        agent_id in files_of(backend).agents
        # held, so that it is not deleted before it is linked
        or await stored_agent(connection, backend.organization_id, agent_id, for_update=True) is not None
    )
    if not known:
        raise invalid([Remark(("agentId",), "There is no such agent.")])


def _taken() -> ApiError:
    return ApiError(409, "NUMBER_EXISTS", "The number is there already: change that one.", retryable=False)
