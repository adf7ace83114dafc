"""Both papers' recipes: gradients, batches, warm-up, aggregations, the names of heads."""

import math
from dataclasses import replace

import pytest
import torch

from av_grounding.modeling.dual_encoder import DualEncoder, ModelConfig
from av_grounding.training.data.quad_mixup import own_cells, quad_mixup
from av_grounding.training.fitting.head_names import name_heads
from av_grounding.training.losses import all_pairs, objectives
from av_grounding.training.losses.aggregation import ClsToken, GlobalPooling, SimPool
from av_grounding.training.recipes.contrast import negatives
from av_grounding.training.recipes.denseav import DenseavConfig, HeadMaxContrast
from av_grounding.training.recipes.lora import add_lora, merged
from av_grounding.training.recipes.sss import MixAndSeparate, SssConfig
from av_grounding.training.runs import make_recipe

SMALL = ModelConfig(
    image_options={"dim": 16}, audio_options={"dim": 16, "num_mels": 32}, head_dim=8
)
PAPER = ModelConfig(
    image_backbone="dino",
    image_options={"dim": 16, "depth": 2, "num_attention_heads": 2, "image_px": 32},
    audio_backbone="hubert",
    audio_options={
        "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 32, "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
    },
    audio_aligner="strided",
    audio_aligner_options={"num_attention_heads": 2},
    head_dim=8,
    unit_length=False,
    evidence=False,
    train_pool=2,
)  # fmt: skip
B, SAMPLES = 4, 20_480


def shared_batch(num=B):
    """As the synthetic world gives it: one image for a sound and a speech."""
    names = ("sound", "speech", "mixture")
    return {
        "pixels": torch.randint(256, (num, 3, 32, 32), dtype=torch.uint8),
        **{name: 0.1 * torch.randn(num, SAMPLES) for name in names},
        **{f"{name}_silent": torch.rand(num, 16).round() for name in names[:2]},
    }


def separate_batch(num=B):
    """As real data gives it."""
    batch = shared_batch(num)
    pixels = batch.pop("pixels")
    return batch | {
        "sound_pixels": pixels,
        "speech_pixels": pixels.flip(0).clone(),
        "sound_foreign": torch.rand(num, 16),
        "speech_foreign": torch.rand(num, 16),
    }


def pair_batch(num=B):
    batch = shared_batch(num)
    masks = {"silent": batch["sound_silent"], "foreign": torch.rand(num, 16)}
    return {"pixels": batch["pixels"], "audio": batch["sound"], **masks}


def paper_model():
    model = add_lora(DualEncoder(PAPER), rank=8, alpha=32, dropout=0.1)
    model.audio_backbone.hubert.masked_spec_embed.requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # begins at zero, where lora_A has no gradient yet
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def missed(recipe, batch):
    """Trained parameters without a gradient."""
    torch.stack(list(recipe(batch, step=0).values())).sum().backward()
    return {
        name
        for name, parameter in recipe.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
    }


EXTRAS = {"weight_silence": 0.01, "audible_mean": True, "quad_mixup": 0.9}
CASES = [
    ("sss", SssConfig(), PAPER, separate_batch),
    ("sss shared", SssConfig.synthetic(cell_block=(2, 2)), SMALL, shared_batch),
    ("denseav", DenseavConfig(), PAPER, pair_batch),
    ("denseav extras", DenseavConfig(**EXTRAS), PAPER, lambda: pair_batch(8)),
    ("denseav shared", DenseavConfig.synthetic(cell_block=(2, 2)), SMALL, shared_batch),
    ("denseav mixed", DenseavConfig.synthetic(clips="mixed"), SMALL, shared_batch),
    ("average", DenseavConfig.synthetic(aggregation="average"), SMALL, shared_batch),
    ("cls", DenseavConfig.synthetic(aggregation="cls"), SMALL, shared_batch),
    ("simpool", DenseavConfig.synthetic(aggregation="simpool"), SMALL, shared_batch),
    ("sss simpool", SssConfig.synthetic(aggregation="simpool"), SMALL, shared_batch),
]


@pytest.mark.parametrize(
    ("config", "model", "make_batch"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_every_trained_parameter_gets_a_gradient(config, model, make_batch):
    model = paper_model() if model is PAPER else DualEncoder(model)
    recipe = make_recipe(model, config).train()
    assert missed(recipe, make_batch()) == set()


def test_papers_values_are_the_defaults():
    for config in (SssConfig(), DenseavConfig()):
        assert config.weight_head_overlap == 0.05
        weights = ("splice", "calibration", "non_negative", "total_variation")
        assert [getattr(config, f"weight_{w}") for w in weights] == [0.01, 0.1, 0.01, 0.01]
        assert config.num_non_negative == 250
        assert config.aggregation == "max"
        assert config.sharpness(0) == config.sharpness(10**6) == math.inf
        assert config.evidence_floor is None
        assert config.weight_silence == config.quad_mixup == 0.0
        assert not config.audible_mean
    assert SssConfig().weight_correspondence == SssConfig().weight_disentanglement == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aggregation": "mean"}, "aggregation is 'mean'; expected one of max, average"),
        ({"score_precision": "fp64"}, "score_precision is 'fp64'"),
        ({"sharpness_start": 0.0}, "sharpness is not above 0"),
        ({"sharpness_end": 4.0}, "sharpness goes from inf to 4.0"),
        ({"clips": "dirty"}, "clips is 'dirty'; expected one of clean, mixed"),
    ],
)
def test_settings_that_mean_nothing_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DenseavConfig(**changes)


def test_denseav_loss_is_infonce_on_the_papers_score():
    """001 eq. 2, 3 and 5 by hand, on a batch of pairs."""
    recipe = HeadMaxContrast(DualEncoder(SMALL), DenseavConfig()).eval()
    torch.nn.init.constant_(recipe.log_gamma, 1.3)
    batch = pair_batch()
    with torch.no_grad():
        terms = recipe(batch, step=0)
        image = recipe.model.encode_image(batch["pixels"].float() / 255.0).flatten(3)
        audio = recipe.model.encode_audio(batch["audio"])
        volume = torch.einsum("ikct,jkcn->ijktn", audio, image)
        scores = math.exp(1.3) * volume.amax(dim=(2, 4)).mean(dim=-1)
        rows = scores.log_softmax(dim=1).diagonal()
        columns = scores.log_softmax(dim=0).diagonal()
        own = torch.stack([volume[i, i] for i in range(B)])
    expected = -(rows.sum() + columns.sum()) / (2 * B)
    torch.testing.assert_close(terms["contrast"], expected)
    overlap = 0.05 * (own[:, 0] * own[:, 1]).abs().mean()
    torch.testing.assert_close(terms["head_overlap"], overlap)


def test_shared_images_are_never_a_negative_of_their_other_clip():
    """2b pairs over b images equal 2b pairs with the images twice and those pairs masked."""
    recipe = HeadMaxContrast(DualEncoder(SMALL), DenseavConfig()).eval()
    batch = shared_batch()
    with torch.no_grad():
        found = recipe(batch, step=0)["contrast"]
        image = recipe.encode_cells(batch["pixels"])
        audio = recipe.model.encode_audio(torch.cat([batch["sound"], batch["speech"]]))
        scores = recipe.score_any_head(audio, torch.cat([image, image]), 0)
        valid = ~torch.eye(B, dtype=torch.bool).repeat(2, 2)
        expected = objectives.info_nce(scores, valid)
    torch.testing.assert_close(found, expected)
    assert found != objectives.info_nce(scores)


def test_mixtures_hold_sound_i_and_the_next_speech():
    recipe = HeadMaxContrast(DualEncoder(SMALL), DenseavConfig(clips="mixed")).eval()
    batch = shared_batch()
    batch["sound_negative"] = torch.tensor(
        [[1, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]
    )
    batch["sound_negative"] = batch["sound_negative"].bool() & ~torch.eye(B, dtype=torch.bool)
    batch["speech_negative"] = ~torch.eye(B, dtype=torch.bool)
    waveforms, valid, _ = recipe.pairs_of_mixture_batch(batch)
    assert torch.equal(waveforms[:B], batch["mixture"])
    assert torch.equal(waveforms[B + 1], batch["mixture"][0])
    # Mixture 0 holds sound 0, which image 1 shows as well, and speech 1, which image 1 names.
    assert valid[0].tolist() == [False, False, True, True] * 2
    assert torch.equal(valid[B + 1], valid[0])


def test_sss_on_separate_images_is_equations_7_and_9():
    config = SssConfig(weight_head_overlap=0.0, weight_splice=0.0, weight_total_variation=0.0)
    recipe = MixAndSeparate(DualEncoder(SMALL), config).eval()
    batch = separate_batch()
    with torch.no_grad():
        terms = recipe(batch, step=0)
        images = {k: recipe.encode_cells(batch[f"{k}_pixels"]) for k in ("sound", "speech")}
        audio = {k: recipe.model.encode_audio(batch[k]) for k in ("sound", "speech", "mixture")}

        def any_head(kind):
            return objectives.head_max_peaks(audio[kind], images[kind], math.inf).mean(-1)

        def own_head(kind, head):
            peaks = objectives.pair_peaks(audio["mixture"], images[kind], math.inf)
            return peaks[head].mean(-1)

        cor = objectives.correspondence(any_head("sound"), any_head("speech"))
        dis = objectives.disentanglement(own_head("sound", 0), own_head("speech", 1))
    torch.testing.assert_close(terms["correspondence_sound"] + terms["correspondence_speech"], cor)
    torch.testing.assert_close(
        terms["disentanglement_sound"] + terms["disentanglement_speech"], dis
    )


def test_an_objective_of_weight_zero_is_left_out():
    model = DualEncoder(SMALL)
    batch = shared_batch()
    for left_out in ("correspondence", "disentanglement"):
        config = SssConfig.synthetic(**{f"weight_{left_out}": 0.0})
        terms = MixAndSeparate(model, config)(batch, step=0)
        assert [name for name in terms if name.startswith(left_out)] == []
        assert len(terms) == 7


def test_warm_up_trains_aligners_and_temperature_by_correspondence_alone():
    recipe = make_recipe(paper_model(), SssConfig())
    warm = recipe.warm_up().train()
    trained = {name for name, p in warm.named_parameters() if p.requires_grad}
    assert {name.split(".")[1] for name in trained if "." in name} == {
        *("image_aligner", "audio_aligner")
    }
    assert "log_gamma" in trained
    assert not warm.model.audio_backbone.training
    assert warm.model.audio_aligner.training
    assert missed(warm, separate_batch()) == set()
    assert not any(name.startswith("disentangle") for name in warm(separate_batch(), step=0))
    # The recipe itself is as it was, and takes over what the warm-up learnt.
    assert all(p.grad is None for p in recipe.parameters())
    assert any(p.requires_grad for p in recipe.model.image_backbone.parameters())
    with torch.no_grad():
        warm.model.image_aligner.project.weight.add_(1.0)
    recipe.load_state_dict(warm.state_dict())
    assert torch.equal(
        recipe.model.image_aligner.project.weight, warm.model.image_aligner.project.weight
    )


def test_warm_up_without_correspondence_learns_by_the_other_objective():
    config = SssConfig.synthetic(weight_correspondence=0.0)
    warm = MixAndSeparate(DualEncoder(SMALL), config).warm_up()
    assert any(name.startswith("disentangle") for name in warm(shared_batch(), step=0))
    assert warm.config.sharpness(config.sharpness_steps) == config.sharpness_start


def test_lora_trains_little_and_merges_into_a_plain_model():
    model = paper_model().eval()
    trained = {n for n, p in model.image_backbone.named_parameters() if p.requires_grad}
    assert trained == {n for n, _ in model.image_backbone.named_parameters() if ".lora_" in n}
    assert len(trained) == 4
    pixels = torch.rand(2, 3, 32, 32)
    plain = merged(model)
    fresh = DualEncoder(PAPER)
    assert plain.state_dict().keys() == fresh.state_dict().keys()
    with torch.no_grad():
        torch.testing.assert_close(
            plain.encode_image(pixels), model.encode_image(pixels), atol=1e-5, rtol=1e-5
        )
    unchanged = model.image_backbone.blocks[0].attn.qkv.base_layer.weight
    assert not torch.equal(plain.image_backbone.blocks[0].attn.qkv.weight, unchanged)
    with pytest.raises(ValueError, match="image backbone 'conv' has no layer 'qkv'"):
        add_lora(DualEncoder(SMALL), 8, 32, 0.1)


def test_negatives_from_classes_equal_the_mask():
    present = torch.tensor([[1, 1, 0], [0, 1, 1], [1, 0, 1]], dtype=torch.bool)
    classes = torch.tensor([0, 2, 2])
    found = negatives({"sound_class": classes, "present": present}, "sound")
    assert found.tolist() == [[False, True, False], [True, False, False], [True, False, False]]
    assert negatives({}, "sound") is None
    mask = torch.ones(3, 3, dtype=torch.bool)
    assert negatives({"sound_negative": mask}, "sound") is mask


def test_quad_mixup_puts_four_images_in_one_and_says_which():
    values = torch.arange(5.0)[:, None, None, None].expand(5, 3, 8, 12)
    mixed, own, shows = quad_mixup(values.contiguous(), share=1.0)
    for i in range(5):
        quarters = mixed[i, 0, 2::4, 3::6]
        assert set(quarters.flatten().tolist()) == set(shows[i].nonzero().flatten().tolist())
        assert len(set(quarters.flatten().tolist())) == 4
        assert torch.equal(own[i], (quarters == i).float())
    untouched, own, shows = quad_mixup(values.contiguous(), share=0.0)
    assert torch.equal(untouched, values)
    assert own.all()
    assert torch.equal(shows, torch.eye(5, dtype=torch.bool))
    grid = own_cells(torch.tensor([[[1.0, 0.0], [0.0, 0.0]]]), 4, 6)
    assert grid[0].tolist() == [[1, 1, 1, 0, 0, 0]] * 2 + [[0] * 6] * 2
    with pytest.raises(ValueError, match="images of 7x8 pixels"):
        quad_mixup(torch.zeros(4, 3, 7, 8), 1.0)


def test_simpool_attends_and_cls_reads_all_tokens():
    torch.manual_seed(0)
    tokens = torch.randn(2, 2, 8, 10)
    for pooling in (SimPool(2, 8), ClsToken(2, 8)):
        pooled = pooling(tokens)
        assert pooled.shape == (2, 2, 8)
        changed = tokens.clone()
        changed[0, 0, 0, 7] += 3.0
        assert not torch.allclose(pooling(changed)[0], pooled[0])
        # The order of the tokens means nothing.
        torch.testing.assert_close(pooling(tokens.flip(3)), pooled)
    # Uniform attention and gamma 1 leave the mean of the normalised tokens, shifted.
    pooling = SimPool(2, 8, gamma=1.0)
    torch.nn.init.zeros_(pooling.query.weight)
    rows = pooling.norm(tokens.flatten(1, 2).mT)
    expected = rows.mean(1) - rows.amin() + 1e-6
    torch.testing.assert_close(pooling(tokens).flatten(1), expected)
    audio, image = GlobalPooling("average", 2, 8, unit_length=True)(tokens, tokens + 1)
    torch.testing.assert_close(audio.norm(dim=2), torch.ones(2, 2))
    assert not torch.equal(audio, image)


@pytest.mark.parametrize("is_swapped", [False, True])
def test_heads_are_named_by_what_they_answer(is_swapped):
    model = DualEncoder(SMALL).eval()

    def encode(waveform):
        """Tokens along one head for loud clips, along the other for quiet ones."""
        kind = (waveform.abs().mean(dim=1) < 0.5).long()
        head = 1 - kind if is_swapped else kind
        tokens = 0.01 * torch.ones(len(waveform), 2, 8, 4)
        tokens[torch.arange(len(head)), head] = 1.0
        return tokens

    model.encode_audio = encode
    model.encode_image = lambda pixels: torch.rand(len(pixels), 2, 8, 3, 3) + 1.0
    pixels = torch.zeros(6, 3, 32, 32, dtype=torch.uint8)
    responses = name_heads(
        model,
        [("sound", pixels, torch.ones(6, 64)), ("speech", pixels, 0.1 * torch.ones(6, 64))],
    )
    assert model.heads == (("speech", "sound") if is_swapped else ("sound", "speech"))
    assert model.config.heads == model.heads
    assert responses.shape == (2, 2)


def test_the_recipe_scores_without_the_volume(monkeypatch):
    """Both recipes go through the blocks: with those gone, they cannot score."""

    def refuse(*_, **__):
        raise RuntimeError("all pairs at once")

    monkeypatch.setattr(all_pairs._AllPairs, "apply", refuse)
    for config in (SssConfig.synthetic(), DenseavConfig.synthetic()):
        recipe = make_recipe(DualEncoder(SMALL), replace(config, cell_block=(1, 1)))
        with pytest.raises(RuntimeError, match="all pairs at once"):
            recipe(shared_batch(), step=0)
