"""Messages from clients: what is not one is refused with a reason; packets survive the way."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from av_grounding.viewer.messages import pack, parse_client_message, plain, unpack


def test_messages_that_are_right():
    hello = parse_client_message('{"type":"hello","protocol":1,"token":"abc"}')
    assert (hello.type, hello.protocol, hello.token) == ("hello", 1, "abc")
    assert parse_client_message('{"type":"hello","protocol":7}').protocol == 7
    listen = parse_client_message('{"type":"listen","x":0,"y":0.5}')
    assert (listen.x, listen.y) == (0, 0.5)
    for kind in ("ack", "pause", "resume", "listen", "mute"):
        assert parse_client_message(json.dumps({"type": kind})).type == kind


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 500, "not JSON"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ("{}", "type is not one of"),
        ('{"type":1}', "type is not one of"),
        ('{"type":["ack"]}', "type is not one of"),
        ('{"type":"reboot"}', "type is not one of"),
        ('{"type":"ack","seq":1}', "unknown field"),
        ('{"type":"pause","type2":1}', "unknown field"),
        ('{"type":"hello"}', "lacks the protocol"),
        ('{"type":"hello","protocol":true}', "not int"),
        ('{"type":"hello","protocol":1.0}', "not int"),
        ('{"type":"hello","protocol":NaN}', "not int"),
        ('{"type":"hello","protocol":1,"token":5}', "not str"),
        ('{"type":"hello","protocol":1,"token":"' + "a" * 300 + '"}', "too long"),
        ('{"type":"listen","x":0.1}', "expected both or none"),
        ('{"type":"listen","x":true,"y":0.1}', "x of listen is not float"),
        ('{"type":"listen","x":0.2,"y":1.0}', "off the picture"),
        ('{"type":"listen","x":NaN,"y":0.1}', "off the picture"),
        ('{"type":"listen","x":-0.1,"y":0.1}', "off the picture"),
        (" " * 600, "over 512 bytes"),
        ("\ud800" * 300, "over 512 bytes"),
    ],
)
def test_what_is_no_message_is_refused_with_a_reason(text, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        parse_client_message(text)
    assert len(str(caught.value).encode()) <= 123  # what a close frame holds


@given(
    st.one_of(
        st.text(max_size=600),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner),
            max_leaves=8,
        ).map(json.dumps),
        st.dictionaries(
            st.sampled_from(["type", "protocol", "token", "x"]),
            st.sampled_from(["hello", "ack", 1, True, None, "\ud800", {}, 1e400]),
        ).map(json.dumps),
    )
)
def test_whatever_comes_is_a_message_or_a_value_error(text):
    try:
        message = parse_client_message(text)
    except ValueError:
        return
    assert message.type in ("hello", "ack", "pause", "resume", "listen", "mute")
    assert type(message.protocol) is int
    assert type(message.token) is str


def test_packets_survive_the_way():
    header = {"n": [1, 2.5, None], "ü": "é"}
    packet = pack(header, [b"abc", b"", b"\x00d"])
    assert unpack(packet) == (header, b"abc\x00d")
    with pytest.raises(ValueError, match="JSON compliant"):
        pack({"bad": math.nan})


def test_plain_leaves_nothing_that_json_lacks():
    value = {
        1: np.float32(0.5),
        "nan": math.inf,
        "array": np.arange(3),
        "nested": ({"x": np.bool_(True)}, np.nan),
        "other": OSError("x"),
    }
    assert plain(value) == {
        "1": 0.5,
        "nan": None,
        "array": [0, 1, 2],
        "nested": [{"x": True}, None],
        "other": "x",
    }
