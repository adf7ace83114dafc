"""The corpus of spoken nouns: in rounds, resumable, with the noun's span."""

import numpy as np
import pytest

from av_grounding.everyday import corpus, voices

NOUNS = ("dog", "guinea pig")
pytestmark = pytest.mark.skipif(
    voices.ENGINES["espeak"].missing(), reason=voices.ENGINES["espeak"].remedy
)


def test_a_build_goes_on_where_it_stopped_and_says_the_same_again(tmp_path):
    rounds = corpus.plan(["espeak"])[:2]
    first, second = corpus.build(tmp_path, NOUNS, rounds)
    before = first.stat().st_mtime_ns
    samples = corpus.load(second).samples
    second.unlink()
    assert list(corpus.build(tmp_path, NOUNS, rounds)) == [first, second]
    assert first.stat().st_mtime_ns == before
    np.testing.assert_array_equal(corpus.load(second).samples, samples)


def test_spans_lie_within_their_utterance(tmp_path):
    (path,) = corpus.build(tmp_path, NOUNS, corpus.plan(["espeak"])[:1])
    shard = corpus.load(path)
    assert shard.vocabulary == NOUNS
    assert shard.bounds[-1] == len(shard.samples)
    lengths = np.diff(shard.bounds)
    assert (shard.spans[:, 0] >= 0).all()
    assert (shard.spans[:, 0] < shard.spans[:, 1]).all()
    assert (shard.spans[:, 1] <= lengths + 1).all()


def test_another_vocabulary_is_said_anew(tmp_path):
    rounds = corpus.plan(["espeak"])[:1]
    list(corpus.build(tmp_path, NOUNS, rounds))
    (path,) = corpus.build(tmp_path, ("cat",), rounds)
    assert corpus.load(path).vocabulary == ("cat",)


def test_a_damaged_shard_is_named(tmp_path):
    path = tmp_path / "espeak_all_00.npz"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no shard of spoken nouns"):
        corpus.load(path)


def test_validation_voices_say_nothing_of_the_corpus():
    assert corpus.VALIDATION_VOICES
    assert set(voices.list_voices("espeak")) >= corpus.VALIDATION_VOICES
