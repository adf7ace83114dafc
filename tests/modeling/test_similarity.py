import pytest
import torch

from av_grounding.modeling import similarity as sim


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(3)
    audio = torch.randn(2, 2, 5, 7, generator=generator)
    image = torch.randn(2, 2, 5, 3, 4, generator=generator)
    return audio, image


def test_volume_is_the_inner_product_of_every_token_with_every_cell(pair):
    audio, image = pair
    volume = sim.similarity_volume(audio, image)
    assert volume.shape == (2, 2, 7, 3, 4)
    expected = sum(audio[1, 0, c, 6] * image[1, 0, c, 2, 3] for c in range(5))
    torch.testing.assert_close(volume[1, 0, 6, 2, 3], expected)


def test_aggregations_on_a_volume_small_enough_to_count_by_hand():
    volume = torch.tensor([[[[[1.0, 4.0]], [[3.0, -2.0]]], [[[2.0, 0.0]], [[-1.0, 5.0]]]]])
    assert volume.shape == (1, 2, 2, 1, 2)
    assert sim.max_over_heads(volume).flatten().tolist() == [2.0, 4.0, 3.0, 5.0]
    assert sim.select_head(volume, 1).flatten().tolist() == [2.0, 0.0, -1.0, 5.0]
    # (max over space) 4 and 3, mean over time 3.5; head-max: 4 and 5.
    assert sim.score(sim.select_head(volume, 0)).item() == 3.5
    assert sim.score(sim.max_over_heads(volume)).item() == 4.5
    masked = sim.score(sim.select_head(volume, 0), torch.tensor([[True, False]]))
    assert masked.item() == 4.0


def test_heatmap_of_the_pooled_vector_is_the_time_mean_of_the_volume(pair):
    audio, image = pair
    weight = torch.rand(2, 7, generator=torch.Generator().manual_seed(4))
    for token_weight in (None, weight):
        pooled = sim.pool_audio(audio, token_weight)
        from_pooled = sim.ground(image, pooled[:, :, None])[:, :, 0]
        from_volume = sim.heatmap(sim.similarity_volume(audio, image), token_weight)
        torch.testing.assert_close(from_pooled, from_volume, rtol=1e-5, atol=1e-5)


def test_weights_select_tokens(pair):
    audio, _ = pair
    weight = torch.zeros(2, 7)
    weight[:, 2] = 0.3
    torch.testing.assert_close(sim.pool_audio(audio, weight), audio[..., 2])
