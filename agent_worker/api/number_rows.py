"""A phone number as the API answers it (contract 1.5), and how far it is set up."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field

from agent_worker.api.shapes import CamelShape, Moment
from agent_worker.config.number_setup import NumberSetup
from agent_worker.config.resolve import without_secrets
from agent_worker.domain.number import NumberConfig
from agent_worker.store.columns import wire_time

NEVER = "9999-12-31T23:59:59.999999Z"
"""When a number of one's own is charged for next: the client needs a time."""

ConfiguredIn = Literal["file", "agent", "database"]


class SetupStatus(CamelShape):
    """Whether the number can be called and can call; `issues` are sentences with remedies."""

    status: Literal["ready", "action_required", "suspended"]
    inbound_ready: bool
    outbound_ready: bool
    agent_ready: bool
    forwarding_required: bool
    forwarding_sip_uri: str | None
    sip_connection_ready: bool
    issues: list[str]


class PhoneNumberRow(CamelShape):
    """One number. What only a hosted platform has (purchases, charges, SMS) is null, false or never."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "pn_5c1de0f04a3f4a1f9e2bb0f4f5ad2d60",
                    "organizationId": "org_local",
                    "e164": "+12015550123",
                    "source": "sip_trunk",
                    "providerResourceId": None,
                    "telnyxPhoneNumberId": None,
                    "sipTrunkId": None,
                    "sipConnectionInstallationId": "carrier",
                    "sipProviderName": "Carrier",
                    "direction": "both",
                    "dispatchMetadataTemplate": None,
                    "label": "Main line",
                    "sms10dlcProfileId": None,
                    "smsCampaignId": None,
                    "smsAssignmentStatus": None,
                    "smsAssignmentUpdatedAt": None,
                    "telnyxMessagingProfileId": None,
                    "smsMessagingProfileStatus": "pending",
                    "smsMessagingProfileUpdatedAt": None,
                    "smsMessagingProfileError": None,
                    "smsAutomationEnabled": False,
                    "agentId": "agent_2f9c1f0e6f1d4b3e9f1b7a3f0c8d5e21",
                    "setupStatus": {
                        "status": "ready",
                        "inboundReady": True,
                        "outboundReady": True,
                        "agentReady": True,
                        "forwardingRequired": False,
                        "forwardingSipUri": None,
                        "sipConnectionReady": True,
                        "issues": [],
                    },
                    "nextChargeAt": NEVER,
                    "lastChargedAt": None,
                    "suspendedAt": None,
                    "billingSuspendedAt": None,
                    "complianceSuspendedAt": None,
                    "suspensionReason": None,
                    "createdAt": "2026-03-02T09:30:00.000000Z",
                    "updatedAt": "2026-03-02T09:30:00.000000Z",
                    "configuredIn": "database",
                }
            ]
        }
    )

    id: str
    organization_id: str
    e164: str = Field(alias="e164")
    source: Literal["managed", "sip_trunk"] = "sip_trunk"
    provider_resource_id: str | None = None
    telnyx_phone_number_id: str | None = None
    sip_trunk_id: str | None
    sip_connection_installation_id: str | None
    sip_provider_name: str | None
    direction: Literal["inbound", "outbound", "both"]
    dispatch_metadata_template: dict[str, Any] | None
    label: str | None
    sms10dlc_profile_id: str | None = Field(None, alias="sms10dlcProfileId")
    sms_campaign_id: str | None = None
    sms_assignment_status: str | None = None
    sms_assignment_updated_at: Moment | None = None
    telnyx_messaging_profile_id: str | None = None
    sms_messaging_profile_status: Literal["pending", "ready", "failed"] = "pending"
    sms_messaging_profile_updated_at: Moment | None = None
    sms_messaging_profile_error: str | None = None
    sms_automation_enabled: bool = False
    agent_id: str | None
    setup_status: SetupStatus
    next_charge_at: Moment = NEVER
    last_charged_at: Moment | None = None
    suspended_at: Moment | None = None
    billing_suspended_at: Moment | None = None
    compliance_suspended_at: Moment | None = None
    suspension_reason: Literal["billing", "compliance"] | None = None
    created_at: Moment
    updated_at: Moment
    configured_in: ConfiguredIn


def number_row(
    number_id: str,
    number: NumberConfig,
    setup: NumberSetup,
    *,
    organization_id: str,
    configured_in: ConfiguredIn,
    created_at: datetime,
    updated_at: datetime,
    sip_trunk_id: str | None = None,
    sip_provider_name: str | None = None,
) -> PhoneNumberRow:
    """Return a number as the API shows it; what its template calls a secret is masked."""
    template = number.dispatch_metadata_template
    return PhoneNumberRow(
        id=number_id,
        organization_id=organization_id,
        e164=number.e164,
        sip_trunk_id=sip_trunk_id,
        sip_connection_installation_id=number.sip_connection,
        sip_provider_name=sip_provider_name,
        direction=number.direction,
        dispatch_metadata_template=None if template is None else without_secrets(template),
        label=number.label,
        agent_id=number.agent_id,
        setup_status=SetupStatus(
            status="ready" if setup.is_ready else "action_required",
            inbound_ready=setup.inbound_ready,
            outbound_ready=setup.outbound_ready,
            agent_ready=setup.agent_ready,
            forwarding_required=False,
            forwarding_sip_uri=None,
            sip_connection_ready=setup.connection_ready,
            issues=list(setup.issues),
        ),
        created_at=wire_time(created_at) or "",
        updated_at=wire_time(updated_at) or "",
        configured_in=configured_in,
    )
