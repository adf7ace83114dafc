"""What measures and what may choose share nothing; what is named is there."""

import hashlib

import pytest

from av_grounding.everyday import packages
from av_grounding.everyday.media import decode_sound
from av_grounding.everyday.nouns import NOUNS
from av_grounding.everyday.packages import FOLDERS
from av_grounding.everyday.parts import PACKAGES, TEST, VALIDATION, part
from av_grounding.everyday.places import num_places, place
from av_grounding.everyday.things import cut_out, recording, spoken_name

HAS_PACKAGES = all(FOLDERS[name].is_dir() for name in PACKAGES)
needs_packages = pytest.mark.skipif(not HAS_PACKAGES, reason=f"needs {', '.join(PACKAGES)}")
STAMPS = FOLDERS["tuxpaint-stamps-default"]


def addresses(*tables):
    return [one for table in tables for of in table.values() for one in of]


def test_only_the_test_has_what_measures():
    test = addresses(TEST.pictures, TEST.recordings, TEST.spoken)
    validation = addresses(VALIDATION.pictures, VALIDATION.recordings, VALIDATION.spoken)
    assert all(one.startswith("animals/") for one in test)
    assert not any(one.startswith("animals/") for one in validation)


def test_all_nouns_are_in_the_vocabulary_and_heard_ones_are_seen():
    for one in (TEST, VALIDATION):
        assert {*one.pictures, *one.recordings, *one.spoken} <= NOUNS.keys()
        assert {*one.recordings, *one.spoken} - one.pictures.keys() == set()
    assert len(TEST.sounding) >= 30
    assert len(TEST.named) >= 30
    with pytest.raises(ValueError, match="got part 'train', expected one of validation, test"):
        part("train")


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch, tmp_path):
    monkeypatch.setitem(packages.FOLDERS, "gcompris-qt-data", tmp_path / "nowhere")
    line = "apt-get install -y --no-install-recommends gcompris-qt-data$"
    with pytest.raises(FileNotFoundError, match=f"^gcompris-qt-data is not installed: .*{line}"):
        packages.require(("gcompris-qt-data",))


@pytest.mark.slow
@needs_packages
def test_a_recording_belongs_to_one_kind_alone():
    of_sound = {}
    for file in sorted((STAMPS / "animals").rglob("*.ogg")):
        if "_desc" not in file.name:
            sound = _sound_of(file)
            of_sound.setdefault(sound, set()).add(file)
    shared = {file for files in of_sound.values() if len(files) > 1 for file in files}
    heard = {STAMPS / f"{one}.ogg" for one in addresses(TEST.recordings)}
    assert {"badger.ogg", "beaver.ogg"} <= {file.name for file in shared}
    assert heard & shared == set()


def _sound_of(file):
    """What tells a recording from others, however it was wrapped."""
    try:
        return hashlib.sha256(decode_sound(file.read_bytes(), file.name).tobytes()).digest()
    except ValueError:
        return file.name  # silent


@needs_packages
def test_parts_share_no_place():
    first, second = (place(one, 0, 480, 640) for one in ("validation", "test"))
    assert first.shape == second.shape == (480, 640, 3)
    assert (first != second).any()
    assert num_places("validation") + num_places("test") > 30


@pytest.mark.slow
@needs_packages
@pytest.mark.parametrize("of", [TEST, VALIDATION], ids=lambda one: one.name)
def test_every_address_leads_to_something(of):
    for one in addresses(of.pictures):
        picture = cut_out(one)
        share = (picture[..., 3] > 127).mean()
        assert 0.05 < share <= 1.0, one
        assert min(picture.shape[:2]) >= 10
    for one in addresses(of.recordings):
        assert len(recording(one)) > 0.1 * 16_000, one
    for one in addresses(of.spoken):
        assert 0.2 < len(spoken_name(one)) / 16_000 < 2.0, one


@needs_packages
def test_silence_is_no_recording():
    data = (STAMPS / "animals/mammals/giraffe.ogg").read_bytes()
    with pytest.raises(ValueError, match=r"giraffe: is silent"):
        decode_sound(data, "giraffe")
    with pytest.raises(ValueError, match="no sound can be read"):
        decode_sound(b"no sound at all", "nothing")
