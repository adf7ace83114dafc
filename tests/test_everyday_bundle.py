"""The default bundle on photographs, on scenes that chose nothing."""

from pathlib import Path

import numpy as np
import pytest

from av_grounding import Grounder
from av_grounding.backends.caching import CachingBackend
from av_grounding.config import default_bundle, read_vocabulary
from av_grounding.evaluation.metrics.pointing import gated_share, peak_hit
from av_grounding.everyday.packages import FOLDERS
from av_grounding.everyday.parts import PACKAGES
from av_grounding.everyday.samples import EverydaySamples
from av_grounding.everyday.spoken import VOICES, speak
from av_grounding.image import resize_heatmap

BUNDLE = Path(default_bundle())
NUM_SCENES = 8
RATE_HZ = 16_000
needs_everyday = pytest.mark.skipif(
    not all(FOLDERS[name].is_dir() for name in PACKAGES), reason=f"needs {', '.join(PACKAGES)}"
)


@pytest.fixture(scope="module")
def answers():
    """(sample, the answers to its sound, to its speech and to a name of what is not there)."""
    try:
        speak("dog", VOICES[0])
    except FileNotFoundError as error:
        pytest.skip(str(error))
    grounder = Grounder.load(BUNDLE, backend="torch", device="cpu")
    grounder = Grounder(CachingBackend(grounder.backend), grounder.config)
    world = EverydaySamples("validation", 77)
    found = []
    for index in range(NUM_SCENES):
        sample = world[index]
        heard = {
            "sound": sample.sound,
            "speech": sample.speech,
            "absent": world.absent(index)["speech"],
        }
        answers = {
            name: grounder.ground(sample.image, one_window(audio), RATE_HZ)
            for name, audio in heard.items()
        }
        found.append((sample, answers))
    return found


def one_window(audio):
    """Where the clip is loudest: more of it says no more, and costs a window each."""
    size = 43_008
    loudness = np.concatenate([[0.0], np.cumsum(audio.astype(float) ** 2)])
    start = int(np.argmax(loudness[size:] - loudness[:-size]))
    return audio[start : start + size]


def hits(rows, head, heard):
    """The share of the head's largest values that lie on what is heard."""
    found = []
    for sample, answers in rows:
        mask = getattr(sample, f"mask_{heard}")
        found.append(peak_hit(resize_heatmap(answers[heard].heatmap(head), *mask.shape), mask))
    return np.mean(found)


def test_it_is_small_and_says_what_it_knows():
    assert sum(path.stat().st_size for path in BUNDLE.iterdir()) <= 30 * 2**20
    vocabulary = read_vocabulary(BUNDLE)
    assert len(vocabulary["speech"]) >= 150
    assert len(vocabulary["sound"]) >= 30


@needs_everyday
def test_each_head_finds_its_own_thing(answers):
    known = read_vocabulary(BUNDLE)["sound"]
    heard = [row for row in answers if row[0].sound_class in known]
    # Half of each, where chance finds one in twenty: most of what is missed is too small.
    assert hits(answers, "speech", "speech") >= 0.375
    assert hits(heard, "sound", "sound") >= 0.3
    assert hits(answers, "speech", "sound") <= 0.25
    assert hits(answers, "sound", "speech") <= 0.25


@needs_everyday
def test_what_is_not_there_stays_dark(answers):
    assert gated_share([found["absent"].speech for _, found in answers]) >= 0.85
