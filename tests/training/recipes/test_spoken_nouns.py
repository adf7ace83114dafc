"""The speech trunk's recipe: it learns, its terms reach every weight, and its file is checked."""

import pytest
import torch

from av_grounding.training.recipes.spoken_nouns import SpeechTrunk, SpokenNouns
from av_grounding.training.speech import load_trunk, save_trunk


def batch(num=6, num_tokens=8):
    """Nouns that are tones of different pitch in the second half of a clip of noise."""
    generator = torch.Generator().manual_seed(0)
    waveform = 0.1 * torch.randn(num, 1536 * num_tokens, generator=generator)
    noun = torch.arange(num) % 3
    noun[-1] = -1
    half = 1536 * num_tokens // 2
    hz = torch.tensor([300.0, 900.0, 2700.0])
    time = torch.arange(half) / 16_000
    inside = torch.zeros(num, num_tokens, dtype=torch.bool)
    for row, number in enumerate(noun.tolist()):
        if number >= 0:
            waveform[row, half:] += torch.sin(2 * torch.pi * hz[number] * time)
            inside[row, num_tokens // 2 :] = True
    return {"waveform": waveform, "noun": noun, "inside": inside, "near": inside.clone()}


def test_it_learns_which_noun_is_said_when_and_every_weight_takes_part():
    torch.manual_seed(0)
    recipe, data = SpokenNouns(SpeechTrunk(3)), batch()
    optimizer = torch.optim.Adam(recipe.parameters(), 3e-3)
    losses = []
    for step in range(40):
        loss = torch.stack(list(recipe(data, step).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            assert all(p.grad is not None and p.grad.any() for p in recipe.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]
    tokens = recipe.model.eval()(data["waveform"])
    said = data["noun"] >= 0
    assert (tokens.sum(-1).argmax(1)[said] == data["noun"][said]).all()


def test_tokens_do_not_depend_on_the_gain():
    trunk = SpeechTrunk(3).eval()
    waveform = batch()["waveform"]
    torch.testing.assert_close(trunk(waveform), trunk(0.1 * waveform), atol=1e-3, rtol=1e-2)


def test_a_trunk_comes_back_from_its_file_with_its_nouns(tmp_path):
    trunk, path = SpeechTrunk(2).eval(), tmp_path / "trunk.safetensors"
    save_trunk(trunk, ("cat", "dog"), path)
    again, nouns = load_trunk(path)
    assert nouns == ("cat", "dog")
    waveform = batch()["waveform"]
    torch.testing.assert_close(again(waveform), trunk(waveform))


def test_a_file_that_is_no_trunk_is_named(tmp_path):
    path = tmp_path / "trunk.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no speech trunk"):
        load_trunk(path)
