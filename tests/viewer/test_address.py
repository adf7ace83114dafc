"""Addresses, who may name this server, and tokens."""

import errno
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_grounding.viewer.address import (
    DEFAULT_PORT,
    Address,
    check_token,
    listen,
    may_be_named,
    may_connect,
    page_urls,
    parse_address,
    parse_name,
    parse_place,
)


@pytest.mark.parametrize(
    ("text", "host", "port", "is_loopback"),
    [
        ("", "127.0.0.1", DEFAULT_PORT, True),
        ("9000", "127.0.0.1", 9000, True),
        (":9000", "127.0.0.1", 9000, True),
        ("0", "127.0.0.1", 0, True),
        ("localhost:80", "localhost", 80, True),
        ("127.8.0.1", "127.8.0.1", DEFAULT_PORT, True),
        ("[::1]:81", "::1", 81, True),
        ("::1", "::1", DEFAULT_PORT, True),
        ("0.0.0.0", "0.0.0.0", DEFAULT_PORT, False),
        ("192.0.2.7:82", "192.0.2.7", 82, False),
        ("[::]:83", "::", 83, False),
        ("robot.local:84", "robot.local", 84, False),
    ],
)
def test_addresses(text, host, port, is_loopback):
    address = parse_address(text)
    assert (address.host, address.port, address.is_loopback) == (host, port, is_loopback)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["host:port", "a:70000", "a:-1", "[::1", "[no]:1", "a b:1", "1:2:3", "http://a:1/", "é"],
)
def test_what_is_no_address_is_said_in_one_line(text):
    with pytest.raises(ValueError, match="expected") as caught:
        parse_address(text)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=40))
def test_no_text_crashes_the_parsers(text):
    parse_place(text)
    may_be_named(Address("0.0.0.0"), text)
    may_connect(text, text)
    may_connect(f"http://{text}", text)
    try:
        address = parse_address(text)
    except ValueError:
        return
    assert 0 <= address.port <= 65535
    assert address.host


@pytest.mark.parametrize(
    ("header", "on_loopback", "on_all"),
    [
        ("localhost:8642", True, True),
        ("127.0.0.1", True, True),
        ("[::1]:1", True, True),
        ("LOCALHOST:9", True, True),
        ("192.0.2.7:8642", False, True),
        (f"{socket.gethostname()}:8642", False, True),
        ("evil.example", False, False),
        ("evil.example:8642", False, False),
        ("localhost.evil.example", False, False),
        ("127.0.0.1.evil.example", False, False),
        ("localhost:8642;script-src *", False, False),
        ("localhost\r\nX: y", False, False),
        ("", False, False),
    ],
)
def test_only_own_names_and_literals_may_be_named(header, on_loopback, on_all):
    assert may_be_named(Address("127.0.0.1"), header) is on_loopback
    assert may_be_named(Address("0.0.0.0"), header) is on_all


def test_the_name_it_was_given_may_be_named():
    assert may_be_named(Address("robot.lan"), "Robot.lan:8642")
    assert may_be_named(Address("Robot.lan."), "robot.lan")
    assert not may_be_named(Address("robot.lan"), "other.lan:8642")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Robot.Example.org", "robot.example.org"),
        ("robot.example.org.:8443", "robot.example.org:8443"),
        ("192.168.1.7:80", "192.168.1.7:80"),
        ("2001:DB8:0::7", "[2001:db8::7]"),
        ("[2001:db8::7]:8443", "[2001:db8::7]:8443"),
    ],
)
def test_names_are_kept_as_they_are_compared(text, shown):
    name = parse_name(text)
    assert str(name) == shown
    assert parse_name(shown) == name


@pytest.mark.parametrize(
    "text", ["", "https://robot.lan", "robot.lan/x", "*.lan", "a b", "robot:70000", "[robot]:1"]
)
def test_what_is_no_name_is_said_with_an_example(text):
    with pytest.raises(ValueError, match=r"robot\.example\.org") as caught:
        parse_name(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("robot.example.org", True),
        ("ROBOT.example.org.:443", True),
        ("[2001:db8:0::7]", True),
        ("localhost:8642", True),
        ("example.org", False),
        ("x.robot.example.org", False),
        ("robot.example.org.evil", False),
        ("robot.example.org@evil", False),
        ("robot.example.org:x", False),
        ("192.168.1.7", False),
    ],
)
def test_allowed_names_are_exact_and_their_port_is_free(header, expected):
    names = [parse_name(text) for text in ("robot.example.org:8443", "2001:db8::7")]
    assert may_be_named(Address("127.0.0.1"), header, names) is expected


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        # As the page was asked for.
        ("http://localhost:9000", "localhost:9000", True),
        ("http://192.168.1.7", "192.168.1.7", True),
        ("https://robot.lan", "robot.lan:443", True),
        ("http://robot.lan", "Robot.lan.:80", True),
        ("http://[::1]:81", "[0:0::1]:81", True),
        ("http://localhost:1", "localhost:9000", False),
        ("http://robot.lan:8080", "robot.lan", False),
        ("https://robot.lan", "robot.lan:80", False),
        # Behind a proxy that says its own Host: exactly the names that are allowed.
        ("https://robot.example.org", "127.0.0.1:8642", True),
        ("http://robot.example.org:80", "127.0.0.1:8642", True),
        ("https://Robot.example.org.", "127.0.0.1:8642", True),
        ("http://192.168.1.7:8080", "192.168.1.7", True),
        ("https://robot.example.org:8443", "127.0.0.1:8642", False),
        ("http://192.168.1.7", "127.0.0.1:8642", False),
        ("https://evil.example", "127.0.0.1:8642", False),
        ("https://robot.example.org.evil.example", "127.0.0.1:8642", False),
        ("https://robot.example.org@evil.example", "127.0.0.1:8642", False),
        ("https://robot.example.org/", "127.0.0.1:8642", False),
        ("ftp://robot.example.org", "127.0.0.1:8642", False),
        ("robot.example.org", "127.0.0.1:8642", False),
        ("null", "127.0.0.1:8642", False),
        ("", "", False),
    ],
)
def test_a_page_connects_where_it_is_from_or_from_an_allowed_name(origin, host, expected):
    names = [parse_name(text) for text in ("robot.example.org", "192.168.1.7:8080")]
    assert may_connect(origin, host, names) is expected


def test_a_port_in_use_is_one_line_with_another_one():
    with listen(Address(port=0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match=f":{port + 1}") as caught:
            listen(Address(port=port))
    assert caught.value.errno == errno.EADDRINUSE
    assert "\n" not in str(caught.value)


def test_an_address_that_is_not_here_is_said_with_a_remedy():
    with pytest.raises(OSError, match=r"0\.0\.0\.0"):
        listen(Address("192.0.2.1", 0))
    with pytest.raises(ValueError, match="does not resolve"):
        listen(Address("no-such-host.invalid", 0))


def test_urls_carry_the_token_in_the_fragment_only():
    (page,) = page_urls(Address("127.0.0.1", 81), None)
    assert page == "http://127.0.0.1:81/"
    pages = page_urls(Address("0.0.0.0", 81), "t" * 20)
    assert pages[-1] == f"http://127.0.0.1:81/#{'t' * 20}"
    assert all("0.0.0.0" not in page for page in pages)
    assert page_urls(Address("::1", 81), None) == ["http://[::1]:81/"]
    names = [parse_name("robot.lan"), parse_name("robot.lan:8443")]
    assert page_urls(Address("127.0.0.1", 81), "t" * 20, names)[1:] == [
        f"https://robot.lan/#{'t' * 20}",
        f"https://robot.lan:8443/#{'t' * 20}",
    ]
    assert page_urls(Address("0.0.0.0", 81), None, names)[-2:] == [
        "http://robot.lan:81/",
        "http://robot.lan:8443/",
    ]


@pytest.mark.parametrize("token", ["short", "", "with space 1234567890", "é" * 20, "a/b" * 10])
def test_weak_tokens_are_refused(token):
    with pytest.raises(ValueError, match="expected at least 16"):
        check_token(token)


def test_good_tokens_pass():
    check_token(None)
    check_token("Abc-_0123456789xyz")
