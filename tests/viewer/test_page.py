"""The page in a headless Chromium: colours on objects, plots, reconnection, and no stranger."""

import asyncio
import itertools
import json
import threading
import time

import cv2
import numpy as np
import pytest

from av_grounding.synthetic.sounds import SAMPLE_RATE_HZ
from av_grounding.types import Frame, Grounding
from tests.helpers.answers import answer as head_answer
from tests.helpers.chromium import find_chromium, open_page
from tests.helpers.live_client import marks, open_viewer

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        find_chromium() is None, reason="Chromium is not installed: apt-get install chromium"
    ),
]
MOMENT_S = 12.4
"""The phone rings, and a voice has just asked where the dog is."""
HEARD_S = 3.2
STATE = "document.getElementById('state').dataset.state"
NOTICE = "document.getElementById('notice').textContent"
SCORE = "document.getElementById('score-sound').textContent"
TOKEN = "a-token-of-some-length"
# Of the 60 and more that a head's own object takes on: calibrated answers are not 0 elsewhere.
FAINT = 15


class Show:
    """Answers the same frame ten times a second, on the clock of the wall, until it is closed."""

    def __init__(self, image, heatmaps):
        self.image, self.grounding = image, heatmaps
        self._stopped = threading.Event()
        self.is_halted = False
        self.viewer = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def open(self, port=0, **arguments):
        self.viewer = open_viewer(str(port), clock_ns=time.time_ns, **arguments)
        return f"http://127.0.0.1:{self.viewer.address.port}/"

    def shut(self):
        viewer, self.viewer = self.viewer, None
        if viewer is not None:
            viewer.close()

    def _run(self):
        for number in itertools.count():
            if self._stopped.wait(0.1):
                return
            viewer = self.viewer
            if viewer is None or self.is_halted:
                continue
            now_ns = time.time_ns()
            viewer.write(Frame(self.image, now_ns), self.grounding)
            if number % 2 == 0:
                level = -20.0 - number % 20
                told = marks(0.0, [level] * 10, [True] * 10)
                object.__setattr__(told, "stamp_ns", now_ns - 200_000_000)
                viewer.write_voice(told)

    def close(self):
        self._stopped.set()
        self._thread.join()
        self.shut()


@pytest.fixture(scope="module")
def demo():
    """The demo scene at one moment: (scene, heatmaps) of the shipped bundle."""
    from av_grounding.config import drawn_world_bundle
    from av_grounding.grounder import Grounder
    from av_grounding.synthetic.demo_scene import DemoScene

    scene = DemoScene()
    stop = round(MOMENT_S * SAMPLE_RATE_HZ)
    start = stop - round(HEARD_S * SAMPLE_RATE_HZ)
    stream = Grounder.load(drawn_world_bundle()).stream()
    stream.push_audio(scene.waveform[start:stop], 0, SAMPLE_RATE_HZ)
    drawn = scene.frame(MOMENT_S)
    return scene, drawn, stream.push_frame(drawn.image, round(1e9 * HEARD_S))


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def page(loop, tmp_path_factory):
    opening = open_page(tmp_path_factory.mktemp("chromium"))
    page = loop.run_until_complete(opening.__aenter__())
    loop.run_until_complete(page.resize(1280, 900))
    loop.run_until_complete(page.prefer("dark"))
    yield page
    loop.run_until_complete(opening.__aexit__(None, None, None))


@pytest.fixture
def show(demo):
    show = Show(demo[1].image, demo[2])
    yield show
    show.close()


async def stage(page):
    """What the stage shows, at the frame's own size."""
    x, y, w, h = await page.run(
        "(() => { const b = document.getElementById('stage').getBoundingClientRect();"
        "return [b.x, b.y, b.width, b.height]; })()"
    )
    picture = await page.screenshot()
    scale = min(w / 640, h / 480)
    left, top = x + (w - 640 * scale) / 2, y + (h - 480 * scale) / 2
    box = picture[round(top) : round(top + 480 * scale), round(left) : round(left + 640 * scale)]
    return cv2.resize(box, (640, 480), interpolation=cv2.INTER_AREA).astype(int)


async def click(page, selector):
    await page.run(f"document.querySelector({selector!r}).click()")
    await asyncio.sleep(0.5)


def warmth(picture, mask):
    """How much redder than blue the masked pixels are, on average."""
    return float((picture[mask][:, 0] - picture[mask][:, 2]).mean())


def masks(demo):
    """Class name -> where the object is seen, without its rim."""
    scene, drawn, _ = demo
    found = {}
    for name, mask in zip(scene.class_names, drawn.masks, strict=True):
        kernel = np.ones((5, 5), np.uint8)
        found[name] = cv2.erode(np.asarray(mask).astype(np.uint8), kernel).astype(bool)
    return found


def test_each_head_colours_its_own_object(page, loop, show, demo, tmp_path):
    async def look():
        await page.open(show.open(facts={"source": "demo"}))
        await page.until(f"{STATE} === 'live'")
        await page.run("document.fonts.ready.then(() => true)")
        pictures = {}
        for view in ("camera", "both", "sound", "speech"):
            await click(page, f"[data-view={view}]")
            pictures[view] = await stage(page)
        text = await page.run("document.getElementById('verdict-sound').textContent")
        assert text == "Source located"
        await page.run(
            "(() => { const s = document.getElementById('opacity-speech'); s.value = 0;"
            "s.dispatchEvent(new Event('input')); })()"
        )
        await asyncio.sleep(0.5)
        pictures["without speech"] = await stage(page)
        await page.run(
            "(() => { const s = document.getElementById('opacity-speech'); s.value = 60;"
            "s.dispatchEvent(new Event('input')); })()"
        )
        return pictures

    pictures = loop.run_until_complete(look())
    where = masks(demo)
    assert demo[0].sounding(MOMENT_S) == "phone"
    camera = pictures["camera"]
    assert np.abs(camera - demo[1].image.astype(int)).mean() < 12
    for view, is_sound, is_speech in (
        ("both", True, True),
        ("sound", True, False),
        ("speech", False, True),
    ):
        change = {n: warmth(pictures[view], m) - warmth(camera, m) for n, m in where.items()}
        assert (change["phone"] > 40) is is_sound, (view, change)
        assert (change["dog"] < -40) is is_speech, (view, change)
        assert abs(change["clock"]) < FAINT, (view, change)
        assert abs(change["guitar"]) < FAINT, (view, change)
    same = {n: warmth(pictures["without speech"], m) - warmth(camera, m) for n, m in where.items()}
    assert abs(same["dog"]) < 8


def test_shapes_tell_the_heads_apart_without_colour(page, loop, show, demo):
    """The sound's outline goes round without a break; the speech's is dashed."""

    async def look():
        await page.open(show.open())
        await page.until(f"{STATE} === 'live'")
        # Almost no fill, so that the outline stands alone.
        for head in ("sound", "speech"):
            await page.run(
                f"(() => {{ const s = document.getElementById('opacity-{head}'); s.value = 1;"
                "s.dispatchEvent(new Event('input')); })()"
            )
        pictures = {}
        for head in ("sound", "speech"):
            await click(page, f"[data-view={head}]")
            pictures[head] = await stage(page)
        return pictures

    pictures = loop.run_until_complete(look())
    num_pieces = {}
    for head, name in (("sound", "phone"), ("speech", "dog")):
        near = cv2.dilate(masks(demo)[name].astype(np.uint8), np.ones((41, 41), np.uint8))
        red_over_blue = pictures[head][..., 0] - pictures[head][..., 2]
        is_line = red_over_blue > 90 if head == "sound" else red_over_blue < -60
        is_line &= near.astype(bool)
        _, _, facts, _ = cv2.connectedComponentsWithStats(is_line.astype(np.uint8), connectivity=8)
        num_pieces[head] = int((facts[1:, cv2.CC_STAT_AREA] >= 6).sum())
    assert num_pieces["sound"] <= 6, num_pieces
    assert num_pieces["speech"] >= 12, num_pieces


def test_plots_move_and_pausing_stops_them(page, loop, show):
    drawn = "document.getElementById('timeline').toDataURL()"
    # Only the plot, without the axis labels: how many pixels have the colour of sound scores.
    amber = (
        "(() => { const c = document.getElementById('timeline'); const d = c.getContext('2d')"
        ".getImageData(90, 0, c.width - 150, c.height).data; let n = 0;"
        "for (let i = 0; i < d.length; i += 4) n += d[i] > 220 && d[i + 1] > 140 && d[i + 2] < 90;"
        "return n; })()"
    )

    async def look():
        await page.open(show.open())
        await page.until(f"{STATE} === 'live'")
        first = await page.run(amber)
        one = await page.run(drawn)
        await page.until(f"{amber} > {first} + 10")
        assert await page.run(drawn) != one
        await click(page, "#pause")
        await page.until(f"{STATE} === 'paused'")
        one = await page.run(drawn)
        await asyncio.sleep(1.0)
        assert await page.run(drawn) == one
        await click(page, "#pause")
        await page.until(f"{STATE} === 'live'")
        await page.until(f"{drawn} !== {one!r}")

    loop.run_until_complete(look())


def test_old_heatmaps_are_not_shown_as_new(page, loop, show, demo):
    async def look():
        await page.open(show.open())
        await page.until(f"{STATE} === 'live'")
        await click(page, "[data-view=both]")
        before = await stage(page)
        show.is_halted = True
        await page.until(f"{STATE} === 'stale'")
        await asyncio.sleep(0.6)
        after = await stage(page)
        assert "No new frame" in await page.run(NOTICE)
        assert await page.run(SCORE) == "–"
        await page.until("document.getElementById('latency').textContent === '–'")
        await page.until("document.getElementById('voice').textContent === 'no sound arrives'")
        # To pause makes them no newer.
        await click(page, "#pause")
        assert "after the last answer" in await page.run(NOTICE)
        assert await page.run(SCORE) == "–"
        await click(page, "#pause")
        counts = itertools.count()
        show.viewer.stats = lambda: {"num_frames_too_old": next(counts)}
        await page.until(f"{NOTICE}.includes('frames are dropped')")
        show.is_halted = False
        await page.until(f"{STATE} === 'live'")
        await page.until(f"{SCORE} !== '–'")
        return before, after

    before, after = loop.run_until_complete(look())
    where = masks(demo)["phone"]
    assert warmth(before, where) > 60
    assert warmth(after, where) < 15


def test_it_reconnects_when_the_program_is_back(page, loop, show):
    async def look():
        await page.open(address := show.open())
        await page.until(f"{STATE} === 'live'")
        show.shut()
        await page.until(f"{STATE} === 'lost'")
        assert "ended" in await page.run("document.getElementById('notice').textContent")
        show.open(address.rstrip("/").rpartition(":")[2])
        await page.until(f"{STATE} === 'live'")

    loop.run_until_complete(look())


def test_a_token_is_asked_for_and_taken_from_the_address(page, loop, show):
    async def look():
        address = show.open(token=TOKEN)
        await page.run("sessionStorage.clear()")
        await page.open(address)
        await page.until("!document.getElementById('token-form').hidden")
        assert await page.run(STATE) == "token"
        await page.run(
            f"document.getElementById('token').value = {TOKEN!r};"
            "document.getElementById('token-form').requestSubmit()"
        )
        await page.until(f"{STATE} === 'live'")
        assert await page.run("document.getElementById('token-form').hidden")
        await page.run("sessionStorage.clear()")
        await page.open("about:blank#")
        await page.call("Page.navigate", url=f"{address}#{TOKEN}")
        await page.until(f"document.getElementById('state') && {STATE} === 'live'")
        sent = [p["request"] for m, p in page.events if m == "Network.requestWillBeSent"]
        assert not any(TOKEN in request["url"] for request in sent)

    loop.run_until_complete(look())


def test_a_snapshot_is_a_picture_with_its_scores(page, loop, show, demo, tmp_path):
    async def look():
        await page.open(show.open())
        await page.until(f"{STATE} === 'live'")
        await click(page, "[data-view=both]")
        await page.call(
            "Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path)
        )
        await click(page, "#snapshot")
        for _ in range(300):
            if saved := list(tmp_path.glob("av_grounding-*.png")):
                break
            await asyncio.sleep(0.1)
        return saved

    (saved,) = loop.run_until_complete(look())
    picture = cv2.imread(str(saved))[..., ::-1].astype(int)
    assert picture.shape[1] == 640
    assert 500 < picture.shape[0] < 520
    camera = demo[1].image.astype(int)
    change = {n: warmth(picture[:480], m) - warmth(camera, m) for n, m in masks(demo).items()}
    assert change["phone"] > 40
    assert change["dog"] < -40
    assert max(abs(change["clock"]), abs(change["guitar"])) < FAINT
    assert picture[485:].max() > 200  # words on the dark foot


SIZES = [(360, 740), (390, 844), (844, 390), (1024, 700)]


def test_every_size_fits_its_width_and_shows_the_picture_first(page, loop, show):
    async def look():
        await page.open(show.open())
        await page.until(f"{STATE} === 'live'")
        for width, height in SIZES:
            await page.resize(width, height, scale=2, is_phone=width < 900)
            await asyncio.sleep(0.3)
            assert await page.run("document.documentElement.scrollWidth") <= width
            top, tall = await page.run(
                "(() => { const b = document.getElementById('stage').getBoundingClientRect();"
                "return [b.top, b.height]; })()"
            )
            assert top < 130
            assert tall > 150
            outside = await page.run(
                "[...document.querySelectorAll('button, input')].filter((e) =>"
                " !e.closest('[hidden]') && e.getBoundingClientRect().right > innerWidth).length"
            )
            assert outside == 0
        await page.resize(1280, 900)

    loop.run_until_complete(look())


def test_dark_and_light_follow_the_system_until_one_is_chosen(page, loop, show):
    back = "getComputedStyle(document.body).backgroundColor"

    async def look():
        await page.open(show.open())
        await page.run("localStorage.clear()")
        await page.until(f"{STATE} === 'live'")
        dark = await page.run(back)
        await page.prefer("light")
        light = await page.run(back)
        assert dark != light
        await click(page, "#theme")
        assert await page.run(back) == dark
        await page.open(show_url)
        await page.until(f"{STATE} === 'live'")
        assert await page.run(back) == dark
        await page.run("localStorage.clear()")
        await page.prefer("dark")

    show_url = None

    async def first():
        nonlocal show_url
        show_url = show.open()
        show.open = lambda: show_url
        await look()

    loop.run_until_complete(first())


def blob(row, column, value, size=4):
    heatmap = np.full((12, 16), 0.02, np.float32)
    heatmap[row : row + size, column : column + size] = value
    return heatmap


OTHER_MODELS = {
    "one head": {"sound": head_answer(blob(2, 2, 0.9))},
    "three heads": {
        "sound": head_answer(blob(2, 2, 0.9)),
        "speech": head_answer(blob(2, 10, 0.8)),
        "background_music": head_answer(blob(7, 6, 0.85)),
    },
    # Two that lie side by side, one that claims nothing.
    "labels": {
        "sound": head_answer(
            *(blob(4, 3, 0.9), blob(4, 7, 0.7), blob(8, 12, 0.3)),
            labels=("dog <b>1</b>", "cat", "clock"),
        ),
    },
}


@pytest.mark.parametrize("model", OTHER_MODELS)
def test_it_shows_the_heads_that_the_model_has(page, loop, show, model):
    heads = OTHER_MODELS[model]
    show.grounding = Grounding(heads, 0, "camera", (480, 640))
    told = "[...document.querySelectorAll({})].map((e) => e.textContent.trim())"
    titles = [head.capitalize().replace("_", " ") for head in heads]

    async def look():
        await page.open(show.open(thresholds=dict.fromkeys(heads, 0.5)))
        await page.until(f"{STATE} === 'live'")
        await click(page, "[data-view=both]")
        both = "Both" if len(heads) == 2 else "All"
        assert await page.run(told.format("'.segments button'")) == [both, *titles, "Camera"]
        assert await page.run(told.format("'.head h2'")) == titles
        assert await page.run(told.format("'.slider span'")) == [f"{t} opacity" for t in titles]
        inks = await page.run(
            "[...document.querySelectorAll('.head')].map((e) =>"
            " getComputedStyle(e).borderTopColor)"
        )
        assert len(set(inks)) == len(heads)
        # Each map that claims something has its outline, however close the next one lies.
        # They are made when a picture is drawn, a moment after it came.
        claims = [
            [head, [int(of_map.max() > 0.5) for of_map in answer.heatmaps]]
            for head, answer in heads.items()
        ]
        await page.until(
            "import('/state.js').then(({ live }) => JSON.stringify(Object.entries("
            "live.picture.heads).map(([name, { maps }]) =>"
            f" [name, maps.map((m) => (m.lines ?? []).length)])) === {json.dumps(claims)!r}"
            ".replaceAll(' ', ''))"
        )
        return await stage(page)

    picture = loop.run_until_complete(look())
    scores = {head: answer.score for head, answer in heads.items()}
    assert all(score > 0.5 for score in scores.values())
    camera = show.image.astype(int)
    if model == "three heads":
        # Amber, blue and green, each where its own map is high.
        places = {"sound": (3.5, 3.5), "speech": (3.5, 11.5), "background_music": (8.5, 7.5)}
        for channel, (head, (row, column)) in zip((0, 2, 1), places.items(), strict=True):
            y, x = round(row * 40), round(column * 40)
            change = (picture - camera)[y - 25 : y - 15, x - 5 : x + 5].mean(axis=(0, 1))
            assert change.argmax() == channel, (head, change)


def test_a_name_that_is_allowed_works_below_a_path(loop, show, tmp_path):
    async def look():
        rules = "--host-resolver-rules=MAP robot.example 127.0.0.1"
        async with open_page(tmp_path, rules) as page:
            port = show.open(token=TOKEN).rstrip("/").rpartition(":")[2]
            await page.open(f"http://robot.example:{port}/")
            told = await page.run("document.body.textContent")
            assert "--view-host robot.example " in told
            show.shut()
            port = show.open(token=TOKEN, hosts=["robot.example"]).rstrip("/").rpartition(":")[2]
            await page.open(f"http://robot.example:{port}/grounding/#{TOKEN}")
            await page.until(f"{STATE} === 'live'")
            assert [u for u in page.urls() if "/live" in u] == [
                f"ws://robot.example:{port}/grounding/live"
            ]

    loop.run_until_complete(look())


def test_no_request_left_the_machine_and_nothing_went_wrong(page, loop, show):
    """After all of the above, and with a script that tries."""

    async def look():
        await page.open(show.open())
        await page.until(f"{STATE} === 'live'")
        asked = [url for url in page.urls() if url != "about:blank#"]
        assert len(asked) > 20
        assert [
            u for u in asked if not u.startswith(("http://127.0.0.1:", "ws://127.0.0.1:"))
        ] == []
        errors = [e for e in page.complaints() if "ERR_CONNECTION_REFUSED" not in e]
        assert errors == []
        blocked = await page.run(
            "new Promise((resolve) => {"
            "document.addEventListener('securitypolicyviolation', (e) => resolve(e.blockedURI));"
            "fetch('http://192.0.2.1/').catch(() => {}); })"
        )
        assert blocked.startswith("http://192.0.2.1")
        ran = await page.run(
            "new Promise((resolve) => {"
            "document.addEventListener('securitypolicyviolation',"
            " (e) => resolve(e.effectiveDirective));"
            "const s = document.createElement('script');"
            "try { s.textContent = 'window.hacked = 1'; document.head.append(s); }"
            "catch (error) { resolve(error.name); } })"
        )
        assert ran
        assert await page.run("window.hacked === undefined")

    loop.run_until_complete(look())
