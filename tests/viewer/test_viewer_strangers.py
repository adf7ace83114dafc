"""Who may look at the page, and what others get: tokens, headers, hosts, bad clients."""

import re
from pathlib import Path

import aiohttp
import pytest

from av_grounding.viewer import server
from av_grounding.viewer.messages import PROTOCOL
from av_grounding.viewer.viewer import Viewer
from tests.helpers.live_client import PATIENT_S, answer, connect, run, until, url

TOKEN = "a-token-of-some-length"
FILES = sorted(path.name for path in (Path(server.__file__).parent / "page").iterdir())
PATHS = ("/", *(f"/{name}" for name in FILES if name != "index.html"))


def test_beyond_loopback_a_token_is_demanded():
    viewer = Viewer("0.0.0.0:0")
    assert len(viewer.token) >= 16
    assert all(page.endswith(f"#{viewer.token}") for page in viewer.urls)
    viewer.write(*answer(0))

    async def refused(token):
        async with connect(viewer, token=token) as client:
            message = await client.socket.receive(PATIENT_S)
            assert message.type is aiohttp.WSMsgType.CLOSE  # and nothing was told before
            assert client.socket.close_code == server.WRONG_TOKEN
            assert "token" in message.extra

    async def look():
        for token in (
            "wrong",
            viewer.token[:-1],
            viewer.token + "x",
            viewer.token.swapcase(),
            "é",
        ):
            await refused(token)
        async with connect(viewer, greets=False) as client:
            await client.socket.send_json({"type": "hello", "protocol": PROTOCOL})
            assert (await client.end())[0] == server.WRONG_TOKEN
        async with connect(viewer, token=viewer.token) as client:
            assert (await client.frame())[0]["frame"]["number"] == 1

    try:
        run(look())
        other = Viewer("0.0.0.0:0")
        other.close()
        assert other.token != viewer.token
    finally:
        viewer.close()


def test_a_token_may_be_chosen_and_counts_on_loopback_too():
    viewer = Viewer("0", token=TOKEN)

    async def look():
        async with connect(viewer, token="other") as client:
            assert (await client.end())[0] == server.WRONG_TOKEN
        async with connect(viewer, token=TOKEN) as client:
            assert client.hello["protocol"] == PROTOCOL

    try:
        run(look())
    finally:
        viewer.close()


def test_every_answer_carries_the_policy(viewer):
    async def look():
        async with aiohttp.ClientSession() as session:
            for path, status in [
                *((path, 200) for path in PATHS),
                ("/../secret", 404),
                ("/x", 404),
            ]:
                async with session.get(url(viewer, path)) as reply:
                    assert reply.status == status
                    check(reply.headers)
            async with session.get(url(viewer), headers={"Host": "evil.example"}) as reply:
                assert reply.status == 421
                check(reply.headers)
            async with session.post(url(viewer)) as reply:
                assert reply.status == 405
                check(reply.headers)

    def check(headers):
        policy = dict(
            part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; ")
        )
        assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        for word in ("unsafe", "*", "http:", "https:", "data:", "evil"):
            assert word not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Server"] == "av_grounding"

    run(look())


def test_the_page_is_whole_and_asks_nobody_else(viewer):
    async def look():
        async with aiohttp.ClientSession() as session:
            pages = {}
            for path in PATHS:
                async with session.get(url(viewer, path)) as reply:
                    pages[path] = await reply.text()
                    assert len(pages[path]) > 200
        return pages

    pages = run(look())
    html = pages["/"]
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", html)
    scripts = [text for path, text in pages.items() if path.endswith(".js")]
    linked = re.findall(r'(?:src|href)="([^"]+)"', html)
    imported = re.findall(r'^import .* from "\./([^"]+)";$', "\n".join(scripts), re.MULTILINE)
    assert {f"/{name}" for name in (*linked, *imported)} == set(PATHS[1:])
    names = ("http://www.w3.org/2000/svg",)
    for text in pages.values():
        found = re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"')]*", re.sub(r"^\s*//.*", "", text))
        assert [name for name in found if name not in names] == []
    assert "@import" not in pages["/style.css"]
    assert "url(" not in pages["/style.css"]
    for evil in ("innerHTML", "eval(", "document.write"):
        assert not any(evil in text for text in scripts)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:80", "Origin": "http://evil.example:80"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
    ],
)
def test_pages_from_elsewhere_cannot_connect(viewer, headers, status):
    async def look():
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with connect(viewer, headers=headers):
                pass
        assert caught.value.status == status
        own = {"Origin": f"http://127.0.0.1:{viewer.address.port}"}
        async with connect(viewer, headers=own) as client:
            assert client.hello

    run(look())


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("nonsense", "not JSON"),
        ("[" * 400, "not JSON"),
        ('{"type":"ack","x":1}', "unknown field"),
        ('{"type":"hello","protocol":1}', "twice"),
        ('{"type":"reboot"}', "not one of"),
        (b"\x00\x01", "expected text"),
    ],
)
def test_a_client_that_talks_nonsense_is_closed_with_a_reason_and_harms_nobody(
    viewer, sent, reason
):
    async def look():
        async with connect(viewer) as good, connect(viewer) as bad:
            send = bad.socket.send_bytes if isinstance(sent, bytes) else bad.socket.send_str
            await send(sent)
            code, said = await bad.end()
            assert code == aiohttp.WSCloseCode.POLICY_VIOLATION
            assert reason in said
            viewer.write(*answer(0))
            assert (await good.frame())[0]["frame"]["number"] == 1
            await until(lambda: viewer.num_clients == 1)

    run(look())


def test_messages_that_are_too_long_or_too_many_end_the_connection(viewer):
    async def look():
        async with connect(viewer) as client:
            await client.socket.send_str('{"type":"' + "a" * 5000 + '"}')
            assert (await client.end())[0] == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        async with connect(viewer) as client:
            for _ in range(10):
                await client.ack()
            assert "ack without a packet" in (await client.end())[1]
        async with connect(viewer) as client:
            for _ in range(2000):
                await client.socket.send_json({"type": "resume"})
            code, said = await client.end()
            assert (code, "a second" in said) == (aiohttp.WSCloseCode.POLICY_VIOLATION, True)

    run(look())


def test_who_does_not_greet_is_not_kept(viewer, monkeypatch):
    monkeypatch.setattr(server, "HELLO_WITHIN_S", 0.2)

    async def look():
        for first in (None, '{"type":"ack"}', "x", b"x"):
            async with connect(viewer, greets=False) as client:
                if isinstance(first, str):
                    await client.socket.send_str(first)
                elif first is not None:
                    await client.socket.send_bytes(first)
                assert (await client.end())[0] == aiohttp.WSCloseCode.POLICY_VIOLATION
        async with connect(viewer, greets=False) as client:
            await client.socket.send_json({"type": "hello", "protocol": PROTOCOL + 1})
            assert (await client.end())[0] == server.WRONG_PROTOCOL

    run(look())


def test_one_client_too_many_is_told_so(viewer, monkeypatch):
    monkeypatch.setattr(server, "MAX_CLIENTS", 2)

    async def look():
        async with connect(viewer), connect(viewer), connect(viewer, greets=False) as third:
            code, said = await third.end()
            assert code == aiohttp.WSCloseCode.TRY_AGAIN_LATER
            assert "2 clients" in said

    run(look())
