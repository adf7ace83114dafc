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
    page_urls,
    parse_address,
    split_host,
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
    split_host(text)
    may_be_named(Address("0.0.0.0"), text)
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
    assert not may_be_named(Address("robot.lan"), "other.lan:8642")


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


@pytest.mark.parametrize("token", ["short", "", "with space 1234567890", "é" * 20, "a/b" * 10])
def test_weak_tokens_are_refused(token):
    with pytest.raises(ValueError, match="expected at least 16"):
        check_token(token)


def test_good_tokens_pass():
    check_token(None)
    check_token("Abc-_0123456789xyz")
