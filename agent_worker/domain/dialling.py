"""Whom we dial at all: numbers and SIP addresses are checked before anything rings, whoever asked for them.

Emergency and premium-rate numbers are never dialled, nor what is no telephone number. Satellite telephones and numbers
that belong to no country are dialled where an operator lists them one by one. Beyond that an operator can limit calls
to countries, to numbers and to SIP hosts; a SIP address is dialled only where its host is allowed by name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import phonenumbers
from phonenumbers import PhoneNumber, PhoneNumberType, shortnumberinfo

from agent_worker.errors import SettingsError

_SIP = re.compile(
    r"sips?:(?:(?P<user>[A-Za-z0-9._~+*!-]{1,128})@)?(?P<host>[A-Za-z0-9.-]{1,253})(?::(?P<port>[0-9]{1,5}))?"
    r"(?:;transport=(?P<transport>udp|tcp|tls))?"
)
_HOST = re.compile(r"(?=[^:]*[.])[A-Za-z0-9.-]{3,253}(?::[0-9]{1,5})?")
_NUMBER = re.compile(r"\+[1-9][0-9]{1,14}")
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")

_DEFAULT_PORTS = frozenset({"", "5060", "5061"})
"""Ports of a SIP address whose host is allowed without one."""

_NEVER = frozenset(
    {PhoneNumberType.PREMIUM_RATE, PhoneNumberType.SHARED_COST, PhoneNumberType.UAN, PhoneNumberType.PERSONAL_NUMBER}
)
"""Kinds of number that cost whoever dials them more than a call."""

_NO_COUNTRY = "001"
"""Region of +800, +808, +870, +878, +881, +882, +883, +888 and +979: satellites, networks and services of the world."""

_EMERGENCY_USERS = frozenset({"112", "911", "999"})
"""Users of a SIP address that a telephone system takes for an emergency, wherever it stands."""


DIAL_POLICY = "dial_policy"
"""Key of the policy in a validation's context: whoever checks a configuration hands over the one that is in force."""


class NotDialled(Exception):
    """A destination that is not dialled; the text says why, without the destination."""


@dataclass(frozen=True)
class SipAddress:
    """A `sip:` or `sips:` URI in its parts; `user`, `port` and `transport` may be ""."""

    user: str
    host: str
    port: str
    transport: str


def sip_address(to: str) -> SipAddress | None:
    """Return the parts of a SIP address, None where it is none."""
    found = _SIP.fullmatch(to)
    if found is None:
        return None
    transport = found["transport"] or ("tls" if to.startswith("sips:") else "")
    return SipAddress(found["user"] or "", found["host"].lower(), found["port"] or "", transport)


def check_form(to: str) -> None:
    """Check that a destination is written as one, whether it may be dialled or not.

    Raises:
        NotDialled: it is malformed.
    """
    number = to.removeprefix("tel:")
    if _NUMBER.fullmatch(number) or _SIP.fullmatch(to):
        return
    if number != to and ";" in number:
        raise NotDialled("A tel: address has no parameters here: write the number alone, in E.164.")
    raise NotDialled("A destination is an E.164 number such as +12015550123, or a SIP address.")


@dataclass(frozen=True)
class DialPolicy:
    """What may be dialled.

    Attributes:
        countries: ISO codes.
        numbers: E.164 numbers; those of `countries` are dialled besides, where both are empty all are. Emergency and
            premium ones never are.
        sip_hosts: hosts of SIP addresses, lower case, each alone or with its port: `pbx.example.com:5080`.
    """

    countries: frozenset[str] = frozenset()
    numbers: frozenset[str] = field(default_factory=frozenset)
    sip_hosts: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def of(cls, written: str) -> DialPolicy:
        """Return the policy of a list with commas: `US, GB, +12015550123, pbx.example.com, pbx.example.com:5080`.

        Raises:
            SettingsError: an entry is none of these; the sentence names it.
        """
        countries, numbers, hosts = set(), set(), set()
        for entry in filter(None, (part.strip() for part in written.split(","))):
            if entry in phonenumbers.SUPPORTED_REGIONS:
                countries.add(entry)
            elif _E164.fullmatch(entry):
                numbers.add(entry)
            elif _HOST.fullmatch(entry):
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

        What is returned has no control character, space, quote, `<`, `>`, `?`, and at most one `@`.

        Raises:
            NotDialled: it is malformed, or this policy does not allow it.
        """
        check_form(to)
        if address := sip_address(to):
            self._check_address(address.user, address.host, address.port)
            return to
        number = to.removeprefix("tel:")
        self._check_number(number)
        return number

    def _check_address(self, user: str, host: str, port: str) -> None:
        if f"{host}:{port}" not in self.sip_hosts and (host not in self.sip_hosts or port not in _DEFAULT_PORTS):
            raise NotDialled("SIP addresses are dialled only at hosts and ports that AGENT_WORKER_DIAL_ALLOW names.")
        if user in _EMERGENCY_USERS:
            raise NotDialled("Emergency numbers are not dialled.")
        # whoever stands behind the host would dial it for us
        if _NUMBER.fullmatch(user):
            self._check_number(user)

    def _check_number(self, e164: str) -> None:
        try:
            number = phonenumbers.parse(e164)
        except phonenumbers.NumberParseException:
            raise NotDialled("There is no such telephone number.") from None
        if _is_emergency(number):
            raise NotDialled("Emergency numbers are not dialled.")
        region = phonenumbers.region_code_for_number(number)
        without_country = phonenumbers.region_code_for_country_code(number.country_code or 0) == _NO_COUNTRY
        if phonenumbers.number_type(number) in _NEVER and not without_country:
            raise NotDialled("Premium-rate numbers are not dialled.")
        if e164 in self.numbers:
            return
        if without_country:
            raise NotDialled(
                "Satellite telephones and international services are dialled only where AGENT_WORKER_DIAL_ALLOW lists "
                "the very number."
            )
        if not phonenumbers.is_valid_number(number):
            raise NotDialled("There is no such telephone number.")
        if (self.countries or self.numbers) and region not in self.countries:
            raise NotDialled("AGENT_WORKER_DIAL_ALLOW names neither this number nor its country.")


def _is_emergency(number: PhoneNumber) -> bool:
    """Return whether it is an emergency number behind a country code: +1911, +44999."""
    national = phonenumbers.national_significant_number(number)
    regions = phonenumbers.region_codes_for_country_code(number.country_code or 0)
    return any(shortnumberinfo.is_emergency_number(national, region) for region in regions)
