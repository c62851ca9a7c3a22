"""Whom we dial at all: numbers and SIP addresses are checked before anything rings, whoever asked for them.

Emergency and premium-rate numbers are never dialled. Beyond that an operator can limit calls to countries, to numbers
and to SIP hosts; a SIP address is dialled only where its host is allowed by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import phonenumbers
from phonenumbers import PhoneNumberType, shortnumberinfo

from agent_worker.errors import SettingsError

_SIP = re.compile(
    r"^sips?:(?:[A-Za-z0-9._~+*#%!$&'()=-]{1,128}@)?(?P<host>[A-Za-z0-9.-]{1,253})(?::\d{1,5})?(;transport=(udp|tcp|tls))?$"
)
_HOST = re.compile(r"^(?=.*[.])[A-Za-z0-9.-]{3,253}$")
_NUMBER = re.compile(r"^(?:tel:)?(\+[1-9]\d{6,14})$")

_NEVER = frozenset(
    {PhoneNumberType.PREMIUM_RATE, PhoneNumberType.SHARED_COST, PhoneNumberType.UAN, PhoneNumberType.PERSONAL_NUMBER}
)
"""Kinds of number that cost whoever dials them more than a call."""


class NotDialled(Exception):
    """A destination that is not dialled; the text says why, without the destination."""


@dataclass(frozen=True)
class DialPolicy:
    """What may be dialled.

    Attributes:
        countries: ISO codes.
        numbers: E.164 numbers; those of `countries` are dialled besides, where both are empty all are. Emergency and
            premium ones never are.
        sip_hosts: hosts of SIP addresses, lower case.
    """

    countries: frozenset[str] = frozenset()
    numbers: frozenset[str] = field(default_factory=frozenset)
    sip_hosts: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, written: str) -> DialPolicy:
        """Return the policy of a list with commas: `US, GB, +12015550123, pbx.example.com`.

        Raises:
            SettingsError: an entry is none of these; the sentence names it.
        """
        countries, numbers, hosts = set(), set(), set()
        for entry in filter(None, (part.strip() for part in written.split(","))):
            if entry in phonenumbers.SUPPORTED_REGIONS:
                countries.add(entry)
            elif _NUMBER.match(entry):
                numbers.add(entry)
            elif _HOST.match(entry):
                hosts.add(entry.lower())
            else:
                raise SettingsError(
                    "dial_allow_invalid",
                    f"AGENT_WORKER_DIAL_ALLOW: {entry!r} is no country, number or host.",
                    remedy="Write ISO countries, E.164 numbers and SIP hosts: US, +442071838750, pbx.example.com.",
                )
        return cls(frozenset(countries), frozenset(numbers), frozenset(hosts))

    def check(self, to: str) -> str:
        """Return the destination as it is dialled: an E.164 number or a SIP URI.

        Raises:
            NotDialled: it is malformed, or this policy does not allow it.
        """
        if number := _NUMBER.match(to):
            self._check_number(number[1])
            return number[1]
        if address := _SIP.match(to):
            if address["host"].lower() not in self.sip_hosts:
                raise NotDialled("SIP addresses are dialled only at hosts that AGENT_WORKER_DIAL_ALLOW names.")
            return to
        raise NotDialled("A destination is an E.164 number such as +12015550123, or a SIP address.")

    def _check_number(self, e164: str) -> None:
        try:
            number = phonenumbers.parse(e164)
        except phonenumbers.NumberParseException:
            raise NotDialled("This is no telephone number.") from None
        region = phonenumbers.region_code_for_number(number) or ""
        national = phonenumbers.national_significant_number(number)
        if phonenumbers.number_type(number) in _NEVER:
            raise NotDialled("Premium-rate numbers are not dialled.")
        if region and shortnumberinfo.is_emergency_number(national, region):
            raise NotDialled("Emergency numbers are not dialled.")
        if (self.countries or self.numbers) and e164 not in self.numbers and region not in self.countries:
            raise NotDialled("AGENT_WORKER_DIAL_ALLOW names neither this number nor its country.")
