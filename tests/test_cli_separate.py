"""`separate` and `run --separate` as scripts see them: files, sums, mistakes."""

import json

import numpy as np
import pytest
from scipy.io import wavfile

from av_grounding import cli
from av_grounding.audio import NS_PER_S
from av_grounding.cli.run_separate import Separation, can_separate
from av_grounding.cli.separate import write_sound
from av_grounding.config.streaming import StreamingConfig
from av_grounding.drawing.png import write_png
from av_grounding.grounder import Grounder
from av_grounding.sources.media_file import MediaFile
from av_grounding.sources.still import read_image
from av_grounding.streaming.pipeline import GroundingStream
from av_grounding.streaming.tapping import TappedStream
from tests.helpers.make_media import write_clip, write_wav
from tests.helpers.masking_backend import IMAGE, RATE_HZ, MaskingBackend, noise
from tests.helpers.small_bundle import save_small_bundle
from tests.helpers.small_separator import save_small_separator

SIZE = (60, 80)
EAGER = ("--set", "backend=torch", "--quiet")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return save_small_separator(tmp_path_factory.mktemp("separator") / "bundle")


@pytest.fixture
def here(capsys, bundle):
    def run(*args, model=bundle):
        code = cli.main([str(arg) for arg in (*args, "--model", model, *EAGER)])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def pair(tmp_path):
    """A picture, a stereo clip of 44.1 kHz, and what of the clip is separated, in mono."""
    rng = np.random.default_rng(0)
    write_png(tmp_path / "image.png", rng.integers(256, size=(*SIZE, 3), dtype=np.uint8))
    samples = np.rint(3000 * rng.standard_normal((44_100, 2))).astype(np.int16)
    write_wav(tmp_path / "clip.wav", samples, 44_100)
    return tmp_path / "image.png", tmp_path / "clip.wav", samples.mean(axis=1) / 32768.0


@pytest.mark.parametrize(
    "place", [("--point", "20,30"), ("--box", "10,10,40,50"), ("--mask",), ("--peak",), ()]
)
def test_what_is_separated_and_the_rest_are_the_clip(here, pair, tmp_path, place):
    image, clip, mono = pair
    if place == ("--mask",):
        marked = np.zeros((*SIZE, 3), np.uint8)
        marked[10:30, 20:40] = 255
        write_png(tmp_path / "marked.png", marked)
        place = ("--mask", tmp_path / "marked.png")
    out = tmp_path / "out"
    code, _, errors = here("separate", image, clip, *place, "--out", out)
    assert code == 0, errors
    rates, parts = zip(
        *(wavfile.read(out / f"{n}.wav") for n in ("separated", "residual")), strict=True
    )
    assert set(rates) == {44_100}
    np.testing.assert_allclose(parts[0] + parts[1], mono, atol=1e-4)
    assert 0.0 < np.abs(parts[0]).mean() < np.abs(mono).mean()
    for name in ("mask", "overlay"):
        assert read_image(out / f"{name}.png").shape == (*SIZE, 3)
    report = json.loads((out / "report.json").read_text())
    assert report["place"] == (place[0].strip("-") if place else "peak")
    if report["place"] == "point":
        assert report["at_px"] == [20, 30]
        assert read_image(out / "mask.png")[30, 20, 0] == 255
    if report["place"] == "mask":
        assert read_image(out / "mask.png")[20, 30, 0] == 255
        assert read_image(out / "mask.png")[50, 70, 0] == 0


def test_a_video_brings_its_own_sound(here, tmp_path):
    video = write_clip(tmp_path / "clip.mp4")
    code, _, errors = here("separate", video, "--point", "100,60", "--out", tmp_path / "out")
    assert code == 0, errors
    rate_hz, separated = wavfile.read(tmp_path / "out" / "separated.wav")
    assert rate_hz == 48_000
    assert separated.size / rate_hz == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (("--point", "80,3"), "point 80,3 lies off the picture of 80x60 pixels"),
        (("--box", "9,9,9,20"), "expected left < right"),
        (("--mask", "small.png"), "mask of 8x8 pixels on a picture of 80x60"),
    ],
)
def test_places_that_are_none_are_one_line(here, pair, tmp_path, place, words):
    write_png(tmp_path / "small.png", np.full((8, 8, 3), 255, np.uint8))
    place = [tmp_path / one if one.endswith("png") else one for one in place]
    code, output, errors = here("separate", *pair[:2], *place, "--out", tmp_path / "out")
    assert (code, output) == (2, "")
    assert words in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_silence_has_no_peak(here, pair, tmp_path):
    silence = write_wav(tmp_path / "silence.wav", np.zeros(16_000), 16_000)
    code, _, errors = here("separate", pair[0], silence, "--out", tmp_path / "out")
    assert code == 2
    assert "nothing is heard in the clip, so the heatmap has no peak" in errors


def test_a_picture_needs_a_sound_and_a_model_a_separator(here, pair, tmp_path):
    code, _, errors = here("separate", pair[0], "--out", tmp_path / "out")
    assert code == 2
    assert "name a sound file behind it" in errors
    plain = save_small_bundle(tmp_path / "plain")
    code, _, errors = here("separate", *pair[:2], "--out", tmp_path / "out", model=plain)
    assert code == 2
    assert "does not separate sounds: expected a bundle with a separator" in errors


@pytest.mark.parametrize("pace", [("--as-fast-as-possible",), ()])
def test_a_run_keeps_the_sound_of_a_place_up_to_the_end(here, tmp_path, pace):
    video = write_clip(tmp_path / "clip.mp4", duration_s=3.0)
    out = tmp_path / "out"
    code, _, errors = here("run", video, *pace, "--separate", "100,60", "--out", out)
    assert code == 0, errors
    rate_hz, separated = wavfile.read(out / "separated.wav")
    told = json.loads((out / "report.json").read_text())["separated"]
    assert rate_hz == 16_000
    assert told["place"] == [100.0, 60.0]
    assert told["latency_s"] == pytest.approx(0.32 + 0.022 + 0.16, abs=1e-3)
    assert told["duration_s"] == pytest.approx(separated.size / rate_hz, abs=1e-3)
    sound, sound_rate_hz = MediaFile(video).read_audio()
    assert told["duration_s"] == pytest.approx(len(sound) / sound_rate_hz, abs=2e-3)
    assert np.abs(separated[-rate_hz // 4 :]).max() > 0


def test_the_file_of_a_run_begins_with_the_run(tmp_path):
    """The sound of a recording may begin after its frames: zeros until then."""
    backend, waveform = MaskingBackend(1.0), noise(2.0)
    stream = TappedStream(GroundingStream(backend, StreamingConfig(silence_s=0.5)))
    separation = Separation(tmp_path, (20.0, 10.0), RATE_HZ, 0.5)
    separation.connect(stream, None)
    start_ns = 5 * NS_PER_S
    stream.push_frame(IMAGE, start_ns)
    stream.push_audio(waveform, start_ns + NS_PER_S // 20, RATE_HZ)
    for number in range(1, 21):
        stream.push_frame(IMAGE, start_ns + number * NS_PER_S // 10)
    stream.end_sound()
    separation.close()
    rate_hz, separated = wavfile.read(tmp_path / "separated.wav")
    told = separation.describe()["separated"]
    assert (told["start_stamp_ns"], told["silence_filled_in_s"]) == (start_ns, 0.05)
    lead = rate_hz // 20
    assert separated.size == lead + waveform.size
    assert not separated[:lead].any()
    np.testing.assert_allclose(separated[lead:] / 32767.0, waveform, atol=2e-5)


def test_a_run_that_cannot_separate_is_one_line(here, tmp_path):
    video = write_clip(tmp_path / "clip.mp4")
    code, _, errors = here("run", video, "--separate", "peak")
    assert code == 2
    assert "got --separate without --out DIR" in errors
    plain = save_small_bundle(tmp_path / "plain")
    code, _, errors = here(
        "run", video, "--as-fast-as-possible", "--separate", "peak", "--out", tmp_path / "out",
        model=plain,
    )  # fmt: skip
    assert code == 2
    assert "does not separate sounds" in errors
    assert not list(tmp_path.glob("out/*separated*"))


def test_others_may_ask_where_a_stream_can_separate(bundle, tmp_path, caplog):
    loaded = Grounder.load(bundle, backend="torch")
    assert can_separate(loaded)
    strange = Grounder(loaded.backend, StreamingConfig(hop_s=0.0505))
    assert not can_separate(strange)
    assert "expected multiples of the 320" in caplog.text
    caplog.clear()
    assert not can_separate(Grounder.load(save_small_bundle(tmp_path / "plain"), backend="torch"))
    assert caplog.text == ""


def test_sounds_above_full_scale_are_written_whole(tmp_path):
    samples = np.array([1.5, -2.0, 0.25], np.float32)
    write_sound(tmp_path / "loud.wav", samples, 44_100)
    rate_hz, written = wavfile.read(tmp_path / "loud.wav")
    assert rate_hz == 44_100
    np.testing.assert_array_equal(written, samples)
