"""What a bundle knows, from its config.json alone."""

import json

import pytest

from av_grounding import cli
from av_grounding.config import nearest, read_vocabulary

WORDS = {"sound": ["dog", "violin"], "speech": ["dog", "teapot", "fire engine"]}


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"vocabulary": WORDS}))
    return tmp_path


def test_the_vocabulary_is_read_without_the_model(bundle):
    assert read_vocabulary(bundle) == {head: tuple(words) for head, words in WORDS.items()}
    (bundle / "config.json").write_text("{}")
    assert read_vocabulary(bundle) == {}


@pytest.mark.parametrize(
    "text", ['{"vocabulary": ["dog"]}', '{"vocabulary": {"sound": [1]}}', "[]"]
)
def test_a_vocabulary_that_is_none_is_refused(bundle, text):
    (bundle / "config.json").write_text(text)
    with pytest.raises(ValueError, match="expected a list of nouns for each head"):
        read_vocabulary(bundle)


def test_nearest_words():
    assert nearest(" Violn ", ("violin", "teapot")) == ["violin"]
    assert nearest("xyz", ("violin", "teapot")) == []


def test_the_command_lists_all_and_looks_one_up(bundle, capsys):
    model = ["--model", str(bundle)]
    assert cli.main(["vocabulary", "--json", *model]) == 0
    assert json.loads(capsys.readouterr().out) == WORDS
    assert cli.main(["vocabulary", "Fire  Engine", *model]) == 0
    assert capsys.readouterr().out == "fire engine: known to speech\n"
    assert cli.main(["vocabulary", "teapots", *model]) == 1
    assert capsys.readouterr().out == "teapots: in no head's vocabulary; nearest: teapot\n"
    (bundle / "config.json").write_text("{}")
    assert cli.main(["vocabulary", *model]) == 2
    assert "does not say what it knows" in capsys.readouterr().err
