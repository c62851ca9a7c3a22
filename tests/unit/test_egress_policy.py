"""Which URLs and addresses an agent's configuration may reach, and every disguise of those it may not."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_worker.egress.addresses import read_address, special_kind
from agent_worker.egress.destination import Destination, read_url
from agent_worker.egress.policy import AddressPolicy
from agent_worker.errors import EgressError, SettingsError

STRICT = AddressPolicy.of("")

GOOD_URLS = [
    ("https://hooks.example.com/agent", ("https", "hooks.example.com", 443, "/agent")),
    ("https://hooks.example.com", ("https", "hooks.example.com", 443, "/")),
    ("https://hooks.example.com?a=b", ("https", "hooks.example.com", 443, "/?a=b")),
    ("HTTPS://HOOKS.Example.COM/Agent", ("https", "hooks.example.com", 443, "/Agent")),
    ("https://hooks.example.com./x", ("https", "hooks.example.com", 443, "/x")),
    ("https://hooks.example.com:8443/x?y=1&z=%20", ("https", "hooks.example.com", 8443, "/x?y=1&z=%20")),
    ("https://bücher.example/x", ("https", "xn--bcher-kva.example", 443, "/x")),
    ("https://xn--bcher-kva.example/", ("https", "xn--bcher-kva.example", 443, "/")),
    ("https://hooks.example.com/a@b:c/../d", ("https", "hooks.example.com", 443, "/a@b:c/../d")),
    ("https://hooks.example.com/straße", ("https", "hooks.example.com", 443, "/stra%C3%9Fe")),
    ("https://my_host.example.com/", ("https", "my_host.example.com", 443, "/")),
    ("https://1.1.1.1/", ("https", "1.1.1.1", 443, "/")),
    ("https://[2606:4700:4700::1111]:8443/x", ("https", "2606:4700:4700::1111", 8443, "/x")),
    ("https://[2606:4700:4700:0:0:0:0:1111]/", ("https", "2606:4700:4700::1111", 443, "/")),
    ("https://[64:ff9b::8.8.8.8]/", ("https", "64:ff9b::808:808", 443, "/")),
    ("https://127.0.0.1.example.com/", ("https", "127.0.0.1.example.com", 443, "/")),
    ("https://localhost.example.com/", ("https", "localhost.example.com", 443, "/")),
    ("https://example.com/?next=http://169.254.169.254/", ("https", "example.com", 443, "/?next=http://169.254.169.254/")),
]  # fmt: skip

MALFORMED_URLS = [
    "", " ", "example.com", "//example.com/", "https:/example.com", "https:///path", "https://", "https://?x",
    "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "unix:///run/x.sock", "javascript:alert(1)",
    "https://example.com:0/", "https://example.com:65536/", "https://example.com:/", "https://example.com:8o/",
    "https://example.com:99999999/", "https://example.com:٤٤٣/", "https://example.com:443:443/",
    "https://user@example.com/", "https://user:pass@example.com/", "https://@example.com/",
    "https://example.com@127.0.0.1/", "https://example.com%40127.0.0.1/", "https://example.com#@127.0.0.1/",
    "https://example.com/#x", "https://example.com\\@127.0.0.1/", "https://example.com/\\x", "https:\\\\127.0.0.1/",
    "https://exa mple.com/", "https://example.com/a b", "https://example.com/\r\nHost: x", "https://exam\tple.com/",
    "\nhttps://example.com/", "https://example.com/\x00", "https://example.com/\x7f", "https://example.com/\u2028",
    "https://127.0.0.1%00.example.com/", "https://%31%32%37.0.0.1/", "https://127%2e0%2e0%2e1/", "https://a..b.example/",
    "https://.example.com/", "https://example.com../", "https://-a.example/", "https://a-.example/", "https://ex*mple.com/",
    "https://example.com,evil.example/", "https://example.com;evil.example/", "https://[fe80::1%25eth0]/",
    "https://[::1", "https://::1/", "https://[127.0.0.1]/", "https://[::1]x/", "https://[v1.x]/", "https://1.2.3.4.5/",
    "https://256.1.1.1/", "https://1.2.3.256/", "https://0x100000000/", "https://4294967296/", "https://08.1.1.1/",
    "https://1.1.1.1a.2/", "https://1..1/", f"https://{'a' * 64}.example/", f"https://{'a.' * 127}example/",
    f"https://example.com/{'x' * 2048}", "https://x\u200by.example/", "https://example.com/\ud800",
]  # fmt: skip

INNER_URLS = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1", "0X7F.0.0.1", "0177.0.0.1", "017700000001",
    "127.0.0.1.", "127.000.000.001", "0", "0.0.0.0", "0x", "10.0.0.5", "10.1", "012.0.0.1", "172.16.0.1", "172.31.255.254",
    "192.168.1.1", "192.168.257", "100.64.0.1", "100.127.255.254", "169.254.169.254", "0xa9fea9fe", "2852039166",
    "0251.0376.0251.0376", "169.254.43518", "169.254.1.1", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192",
    "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.1",
    "255.255.255.255", "[::]", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::FFFF:10.0.0.1]",
    "[::127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::a00:5]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2002:808:808::1]",
    "[2001:0:4136:e378:8000:63bf:3fff:fdd2]", "[fe80::1]", "[fc00::1]", "[fd12:3456::1]", "[fd00:ec2::254]", "[fd20:ce::254]",
    "[fec0::1]", "[ff02::1]", "[100::1]", "[2001:db8::1]", "[3fff::1]", "[5f00::1]", "１２７.0.0.1", "127。0。0。1",
    "localhost", "LOCALHOST", "localhost.", "api.localhost", "printer.local", "db.internal", "metadata.google.internal",
    "metadata", "kubernetes", "x.home.arpa", "nas.lan", "crm.corp", "svc.cluster.local",
]  # fmt: skip


def code_of(url: str, policy: AddressPolicy = STRICT) -> str:
    try:
        policy.check_url(url)
    except EgressError as error:
        assert error.remedy
        return error.code
    return ""


@pytest.mark.parametrize(("url", "read"), GOOD_URLS)
def test_a_public_url_is_read_in_one_way(url: str, read: tuple[str, str, int, str]) -> None:
    """Host, port and target are what every client would make of it."""
    there = STRICT.check_url(url)

    assert (there.scheme, there.host, there.port, there.target) == read


@pytest.mark.parametrize("url", MALFORMED_URLS)
def test_a_url_that_can_be_read_in_two_ways_is_refused(url: str) -> None:
    """Credentials, escapes, backslashes, odd ports and odd hosts are no URL of a webhook."""
    assert code_of(url) == "egress_url_invalid"


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize("host", INNER_URLS)
def test_an_inner_host_is_refused_in_every_spelling(scheme: str, host: str) -> None:
    """Private, local and metadata addresses are refused without asking DNS, over https as well."""
    code = code_of(f"{scheme}://{host}/latest/meta-data")

    assert code == "egress_address_refused" or (code == "egress_url_invalid" and not host.isascii())


def test_plain_http_is_refused_for_a_public_host() -> None:
    """What a webhook says and is told crosses the internet encrypted only."""
    assert code_of("http://hooks.example.com/") == "egress_scheme"
    assert code_of("http://1.1.1.1/") == "egress_scheme"


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.5", "::1", "fe80::1%2", "::ffff:192.168.0.1", "64:ff9b::a9fe:a9fe", "169.254.169.254", "x", ""],
)  # fmt: skip
def test_what_a_name_resolves_to_is_checked(address: str) -> None:
    """A public name with an inner address is refused, and the sentence names neither path nor address."""
    there = STRICT.check_url("https://hooks.example.com/secret-path?token=abc")

    with pytest.raises(EgressError) as caught:
        STRICT.check_address(there, address)

    assert caught.value.code == "egress_address_refused"
    assert "hooks.example.com" in str(caught.value)
    assert not [word for word in ("secret-path", "abc") if word in str(caught.value) + repr(there)]


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_a_public_address_passes(address: str) -> None:
    """So does a public IPv4 address behind the translation prefix of an IPv6-only network."""
    STRICT.check_address(STRICT.check_url("https://hooks.example.com/"), address)


@pytest.mark.parametrize(
    ("allow", "url", "code"),
    [
        ("crm.corp", "http://crm.corp/x", ""),
        ("crm.corp", "http://CRM.corp.:8080/x", ""),
        ("crm.corp", "http://other.corp/x", "egress_address_refused"),
        ("crm.corp", "http://crm.corp.evil.example/x", "egress_scheme"),
        ("crm.corp:8080", "http://crm.corp:8080/", ""),
        ("crm.corp:8080", "http://crm.corp/", "egress_address_refused"),
        ("*.corp.example", "http://a.corp.example/", ""),
        ("*.corp.example", "http://a.b.corp.example/", ""),
        ("*.corp.example", "http://corp.example/", "egress_scheme"),
        ("*.corp.example", "http://evilcorp.example/", "egress_scheme"),
        ("*.corp.example:81", "http://a.corp.example:82/", "egress_scheme"),
        ("localhost", "http://localhost:3000/", ""),
        ("localhost", "http://127.0.0.1:3000/", "egress_address_refused"),
        ("127.0.0.1", "http://127.0.0.1:3000/", ""),
        ("127.0.0.1", "http://127.1:3000/", ""),
        ("127.0.0.1", "http://[::ffff:127.0.0.1]:3000/", ""),
        ("127.0.0.1", "http://127.0.0.2/", "egress_address_refused"),
        ("127.0.0.1:3000", "http://127.0.0.1:3001/", "egress_address_refused"),
        ("10.0.0.0/8", "http://10.9.8.7/", ""),
        ("10.0.0.0/8:8080", "http://10.9.8.7:8080/", ""),
        ("10.0.0.0/8:8080", "http://10.9.8.7/", "egress_address_refused"),
        ("10.0.0.0/8", "http://11.0.0.1/", "egress_scheme"),
        ("10.0.0.0/8", "https://169.254.169.254/", "egress_address_refused"),
        ("fd00::/8", "http://[fd12::1]/", ""),
        ("[fd12::1]:8080", "http://[fd12::1]:8080/", ""),
        ("[fd12::1]:8080", "http://[fd12::1]/", "egress_address_refused"),
        ("::1", "http://[::1]:1/", ""),
        (" crm.corp , ,10.0.0.0/8,", "https://crm.corp/", ""),
        ("bücher.example", "http://xn--bcher-kva.example/", ""),
        ("crm.corp", "http://user@crm.corp/", "egress_url_invalid"),
        ("169.254.169.254", "http://169.254.169.254/", ""),
    ],
)
def test_what_an_operator_allows_may_be_reached(allow: str, url: str, code: str) -> None:
    """Names, everything below a name, addresses and networks, each on any port or on one."""
    assert code_of(url, AddressPolicy.of(allow)) == code


@pytest.mark.parametrize(
    "entry",
    [
        "http://crm.corp", "crm.corp/path", "10.0.0.5/8", "10.0.0.0/33", "*", "*.", "a.*.corp", "crm corp", "127.1",
        "crm.corp:0", "crm.corp:65536", "crm.corp:http", "user@crm.corp", "[::1", "::ffff:10.0.0.0/104", "256.1.1.1", "a..b",
    ],
)  # fmt: skip
def test_a_wrong_entry_of_the_allow_list_is_named(entry: str) -> None:
    """The operator reads which entry it is, and where they wrote it."""
    with pytest.raises(SettingsError) as caught:
        AddressPolicy.of(f"good.example,{entry}")

    assert caught.value.code == "egress_allow_invalid"
    assert "AGENT_WORKER_EGRESS_ALLOW" in str(caught.value) and repr(entry) in str(caught.value)
    assert "good.example" not in str(caught.value)


def refused(policy: AddressPolicy, url: str, address: str) -> str:
    there = policy.check_url(url)
    try:
        policy.check_address(there, address)
    except EgressError as error:
        return error.code
    return ""


def test_a_network_allows_what_resolves_into_it_whatever_its_name() -> None:
    """With a network of one's own, plain http and local names are decided by their addresses."""
    policy = AddressPolicy.of("10.0.0.0/8")

    assert refused(policy, "http://crm.corp:8080/", "10.1.2.3") == ""
    assert refused(policy, "http://crm:8080/", "10.1.2.3") == ""
    assert refused(policy, "http://localhost/", "127.0.0.1") == "egress_address_refused"
    assert refused(policy, "https://crm.corp/", "1.1.1.1") == "egress_address_refused"
    assert refused(policy, "http://hooks.example.com/", "1.1.1.1") == "egress_scheme"
    assert refused(policy, "https://hooks.example.com/", "1.1.1.1") == ""


def test_everything_below_a_domain_does_not_mean_the_machines_credentials() -> None:
    """A metadata address is reached only by a name or a network that says so itself."""
    assert refused(AddressPolicy.of("*.internal"), "http://db.internal/", "10.0.0.1") == ""
    assert (
        refused(AddressPolicy.of("*.internal"), "http://metadata.google.internal/", "169.254.169.254")
        == "egress_address_refused"
    )
    exact = AddressPolicy.of("metadata.google.internal")
    assert refused(exact, "http://metadata.google.internal/", "169.254.169.254") == ""


@given(st.ip_addresses())
def test_what_python_calls_special_is_never_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Our table refuses at least what the standard library does."""
    special = address.is_private or address.is_loopback or address.is_link_local or address.is_multicast
    if special or address.is_unspecified or address.is_reserved:
        assert special_kind(address) is not None


@given(st.ip_addresses(v=4), st.sampled_from(["{}", "0x{:x}", "0{:o}"]))
def test_an_address_is_known_in_any_spelling(address: ipaddress.IPv4Address, spelling: str) -> None:
    """One number in decimal, hex or octal is the address it stands for."""
    written = spelling.format(int(address))

    assert read_address(written) == address


@given(st.text(max_size=80) | st.from_regex(r"https?://[^/]{0,40}(/.*)?", fullmatch=True))
def test_any_text_is_a_destination_or_an_error_of_ours(text: str) -> None:
    """Whatever an agent's file holds, nothing else is raised, and what is read is read the same again."""
    try:
        there = read_url(text)
    except EgressError as error:
        assert error.code == "egress_url_invalid"
        return
    assert read_url(f"{there.scheme}://{there.host_header}{there.target}") == there


def test_the_host_header_says_what_the_url_says() -> None:
    """Default ports are left out, IPv6 addresses are in brackets."""
    assert Destination("https", "a.example", 443).host_header == "a.example"
    assert Destination("http", "a.example", 443).host_header == "a.example:443"
    assert Destination("https", "2606:4700::1", 8443).host_header == "[2606:4700::1]:8443"
