"""Who may look at the page, and what others get: tokens, headers, hosts, bad clients."""

import re
from pathlib import Path

import aiohttp
import pytest

from av_grounding.viewer import server
from av_grounding.viewer.address import parse_name
from av_grounding.viewer.messages import PROTOCOL
from tests.helpers.live_client import PATIENT_S, answer, connect, open_viewer, run, until, url

TOKEN = "a-token-of-some-length"
FILES = sorted(path.name for path in (Path(server.__file__).parent / "page").iterdir())
PATHS = ("/", *(f"/{name}" for name in FILES if name != "index.html"))


def test_beyond_loopback_a_token_is_demanded():
    viewer = open_viewer("0.0.0.0:0")
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
        other = open_viewer("0.0.0.0:0")
        other.close()
        assert other.token != viewer.token
    finally:
        viewer.close()


def test_a_token_may_be_chosen_and_counts_on_loopback_too():
    viewer = open_viewer(token=TOKEN)

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


def test_the_page_can_ask_why_it_was_refused(viewer):
    async def look():
        async with aiohttp.ClientSession() as session:
            for origin, status in (("https://robot.example.org", 403), (url(viewer)[:-1], 204)):
                headers = {"Origin": origin}
                async with session.post(url(viewer, "/a/live"), headers=headers) as reply:
                    assert reply.status == status
                    assert ("--view-host robot.example.org " in await reply.text()) == (
                        status == 403
                    )

    run(look())


async def page_and_socket(viewer, headers):
    """Status of the page and of its socket (101: open) for these headers, and what was said."""
    async with aiohttp.ClientSession() as session:
        asked = {name: value for name, value in headers.items() if name != "Origin"}
        async with session.get(url(viewer), headers=asked) as reply:
            page, said = reply.status, await reply.text() if reply.status != 200 else ""
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        async with session.get(url(viewer, "/live"), headers=headers | upgrade) as reply:
            if reply.status != 101:
                said = await reply.text()
            return page, reply.status, said


PROXIED = [
    # What is asked for, and from where: nginx as it is and with $host, Caddy, names of routers,
    # containers and Tailscale.
    ("127.0.0.1:8642", "https://robot.example.org", "robot.example.org"),
    ("robot.example.org", "https://robot.example.org", "robot.example.org"),
    ("robot.example.org:443", "https://robot.example.org", "robot.example.org"),
    ("Robot.Example.Org.", "https://robot.example.org", "robot.example.org"),
    ("127.0.0.1", "https://robot.example.org:8443", "robot.example.org:8443"),
    ("192.168.1.7", "http://192.168.1.7:8080", "192.168.1.7:8080"),
    ("robot.fritz.box:8642", "http://robot.fritz.box:8642", "robot.fritz.box"),
    ("robot.tail1234.ts.net", "https://robot.tail1234.ts.net", "robot.tail1234.ts.net"),
    ("[2001:db8::7]:8642", "http://[2001:db8::7]:8642", "2001:db8::7"),
]


@pytest.mark.parametrize(("host", "origin", "name"), PROXIED)
def test_a_proxy_is_let_in_by_its_exact_name(host, origin, name, caplog):
    headers = {"Host": host, "Origin": origin}

    def ask(hosts):
        viewer = open_viewer(hosts=hosts)
        try:
            return run(page_and_socket(viewer, headers))
        finally:
            viewer.close()

    assert ask(["other.example", name])[:2] == (200, 101)
    # Answer and log name what helps; where a proxy loses the port from Host, in two steps.
    told = []
    while (result := ask(told))[:2] != (200, 101):
        page, live, said = result
        assert (page, live) in [(421, 421), (200, 403)]
        assert said.count("\n") == 1
        assert said.strip() in [record.getMessage() for record in caplog.records]
        told += re.findall(r"--view-host (\S+) ", said)
        assert len(told) <= 2
    assert told[-1] == str(parse_name(name))


@pytest.mark.parametrize(
    ("headers", "statuses"),
    [
        ({"Host": "evil.example", "Origin": "http://evil.example"}, (421, 421)),
        ({"Host": "127.0.0.1", "Origin": "https://evil.example"}, (200, 403)),
        ({"Host": "robot.example.org", "Origin": "http://robot.example.org:3000"}, (200, 403)),
        ({"Host": "x.robot.example.org", "Origin": "https://x.robot.example.org"}, (421, 421)),
        ({"Host": "192.168.1.7", "Origin": "https://robot.example.org"}, (421, 421)),
    ],
)
def test_forwarding_headers_open_no_door(headers, statuses):
    viewer = open_viewer(hosts=["robot.example.org"])
    told = {
        "X-Forwarded-Host": "robot.example.org",
        "X-Forwarded-Proto": "https",
        "Forwarded": "host=robot.example.org;proto=https",
    }
    try:
        assert run(page_and_socket(viewer, headers))[:2] == statuses
        assert run(page_and_socket(viewer, headers | told))[:2] == statuses
    finally:
        viewer.close()


def test_a_page_with_another_name_demands_a_token_on_loopback_too():
    viewer = open_viewer(hosts=["robot.example.org"])
    try:
        assert len(viewer.token) >= 16
        assert viewer.urls == [
            f"http://127.0.0.1:{viewer.address.port}/#{viewer.token}",
            f"https://robot.example.org/#{viewer.token}",
        ]
    finally:
        viewer.close()
    with pytest.raises(ValueError, match="expected a host as the browser shows it"):
        open_viewer(hosts=["https://robot.example.org"])


def test_refusals_fill_no_log(viewer, caplog):
    async def look():
        async with aiohttp.ClientSession() as session:
            for number in range(50):
                async with session.get(url(viewer), headers={"Host": f"h{number}.example"}):
                    pass

    run(look())
    assert 0 < len(caplog.records) <= 8


@pytest.mark.parametrize("path", ["/grounding/", "/a/b%20c/"])
def test_it_works_below_any_path(viewer, path):
    async def look():
        async with aiohttp.ClientSession() as session:
            for name in FILES:
                name = "" if name == "index.html" else name
                async with (
                    session.get(url(viewer, path + name)) as below,
                    session.get(url(viewer, f"/{name}")) as top,
                ):
                    assert await below.read() == await top.read()
            async with session.get(url(viewer, path.rstrip("/"))) as reply:
                assert reply.status == 404
                assert "ends with a slash" in await reply.text()
            live = url(viewer, f"{path}live", "ws")
            async with session.ws_connect(live, max_msg_size=0) as socket:
                await socket.send_json({"type": "hello", "protocol": PROTOCOL})
                assert (await socket.receive()).type is aiohttp.WSMsgType.BINARY

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
