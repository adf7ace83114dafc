"""Checkpoints in the layout of DenseAV's release, every tensor random, at any size."""

import math
from dataclasses import dataclass

import torch

from av_grounding.modeling.denseav import denseav_config


@dataclass(frozen=True)
class Geometry:
    """The sizes that the names and shapes of a checkpoint depend on; the released ones."""

    image_dim: int = 384
    image_depth: int = 12
    image_attention_heads: int = 6
    image_px: int = 224
    audio_dim: int = 1024
    audio_depth: int = 24
    audio_attention_heads: int = 16
    audio_hidden: int = 4096
    conv_dim: int = 512
    position_kernel: int = 128
    position_groups: int = 16
    code_dim: int = 384

    def config(self, heads=("sound", "speech"), **changes):
        return denseav_config(
            heads,
            head_dim=self.code_dim // len(heads),
            image_options={
                "dim": self.image_dim,
                "depth": self.image_depth,
                "num_attention_heads": self.image_attention_heads,
                "image_px": self.image_px,
                "eps": 1e-4,
            },
            audio_options={
                "hidden_size": self.audio_dim,
                "num_hidden_layers": self.audio_depth,
                "num_attention_heads": self.audio_attention_heads,
                "intermediate_size": self.audio_hidden,
                "conv_dim": (self.conv_dim,) * 7,
                "num_conv_pos_embeddings": self.position_kernel,
                "num_conv_pos_embedding_groups": self.position_groups,
                "layer_norm_eps": 1e-4,
            },
            **changes,
        )


TINY = Geometry(
    image_dim=48, image_depth=2, image_attention_heads=3, image_px=64, audio_dim=32,
    audio_depth=2, audio_attention_heads=2, audio_hidden=64, conv_dim=16, position_kernel=16,
    position_groups=4, code_dim=24,
)  # fmt: skip

KERNELS = (10, 3, 3, 3, 3, 2, 2)
LORA_RANK = 8


def official_state(geometry=TINY, seed=0, layout="peft_old", weight_norm="new"):
    """A state_dict; `layout` peft_old, peft_new or no_lora, `weight_norm` new or old."""
    generator = torch.Generator().manual_seed(seed)
    prefix = "image_model.model." if layout == "no_lora" else "image_model.base_model.model.model."
    state = {}

    def random(name, *shape, mean=0.0, std=None):
        # Matrices keep the size of what they are applied to; norms and biases vary a little.
        fan_in = math.prod(shape[1:]) if len(shape) > 1 else 100
        std = std or 1.0 / math.sqrt(fan_in)
        state[name] = mean + std * torch.randn(shape, generator=generator)

    def linear(name, dim_out, dim_in, *kernel):
        random(f"{name}.weight", dim_out, dim_in, *kernel)
        random(f"{name}.bias", dim_out)

    def norm(name, dim):
        random(f"{name}.weight", dim, mean=1.0)
        random(f"{name}.bias", dim)

    def block(name, dim, base=""):
        norm(f"{name}.norm1", dim)
        linear(f"{name}.attn.qkv{base}", 3 * dim, dim)
        linear(f"{name}.attn.proj", dim, dim)
        norm(f"{name}.norm2", dim)
        linear(f"{name}.mlp.fc1", 4 * dim, dim)
        linear(f"{name}.mlp.fc2", dim, 4 * dim)

    dim, audio, code = geometry.image_dim, geometry.audio_dim, geometry.code_dim
    random("audio_cls", audio, std=1.0)
    random(f"{prefix}cls_token", 1, 1, dim, std=1.0)
    random(f"{prefix}pos_embed", 1, 1 + (geometry.image_px // 8) ** 2, dim, std=0.5)
    linear(f"{prefix}patch_embed.proj", dim, 3, 8, 8)
    for i in range(geometry.image_depth):
        qkv = f"{prefix}blocks.{i}.attn.qkv"
        block(f"{prefix}blocks.{i}", dim, ".base_layer" if layout == "peft_new" else "")
        if layout != "no_lora":
            random(f"{qkv}.lora_A.default.weight", LORA_RANK, dim)
            random(f"{qkv}.lora_B.default.weight", 3 * dim, LORA_RANK, std=0.02)
    norm(f"{prefix}norm", dim)

    hubert = "audio_model.model."
    random(f"{hubert}masked_spec_embed", audio)
    for i, kernel in enumerate(KERNELS):
        layer = f"{hubert}feature_extractor.conv_layers.{i}"
        linear(f"{layer}.conv", geometry.conv_dim, geometry.conv_dim if i else 1, kernel)
        norm(f"{layer}.layer_norm", geometry.conv_dim)
    norm(f"{hubert}feature_projection.layer_norm", geometry.conv_dim)
    linear(f"{hubert}feature_projection.projection", audio, geometry.conv_dim)
    position = f"{hubert}encoder.pos_conv_embed.conv"
    random(f"{position}.bias", audio)
    kernel = geometry.position_kernel
    names = ("weight_g", "weight_v")
    if weight_norm == "new":
        names = ("parametrizations.weight.original0", "parametrizations.weight.original1")
    random(f"{position}.{names[0]}", 1, 1, kernel, mean=1.0, std=0.1)
    random(f"{position}.{names[1]}", audio, audio // geometry.position_groups, kernel)
    norm(f"{hubert}encoder.layer_norm", audio)
    for i in range(geometry.audio_depth):
        layer = f"{hubert}encoder.layers.{i}"
        for part in ("q", "k", "v", "out"):
            linear(f"{layer}.attention.{part}_proj", audio, audio)
        norm(f"{layer}.layer_norm", audio)
        linear(f"{layer}.feed_forward.intermediate_dense", geometry.audio_hidden, audio)
        linear(f"{layer}.feed_forward.output_dense", audio, geometry.audio_hidden)
        norm(f"{layer}.final_layer_norm", audio)

    norm("audio_aligner.mod_list.1.norm", audio)
    linear("audio_aligner.mod_list.2.layer", code, audio, 1, 3)
    linear("audio_aligner.mod_list.2.cls_layer", code, audio)
    linear("audio_aligner.mod_list.3.layer", code, code, 1, 3)
    block("audio_aligner.mod_list.4.block", code)
    norm("image_aligner.norm.norm", dim)
    linear("image_aligner.layer", code, dim, 1, 1)
    linear("image_aligner.cls_layer", code, dim)
    random("sim_cal.w", 1, std=0.3)
    return state


def write_lightning(path, state, num_heads=2, **extra):
    """A checkpoint file as Lightning 1.9 writes it, with an optimiser's state."""
    tensor = next(iter(state.values()))
    torch.save(
        {
            "epoch": 3, "global_step": 800_000, "pytorch-lightning_version": "1.9.4",
            "state_dict": state, "loops": {"fit_loop": {"state_dict": {}}},
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
            "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros_like(tensor)}}}],
            "lr_schedulers": [{"last_epoch": 7, "_last_lr": [5e-5]}], "hparams_name": "kwargs",
            "hyper_parameters": {"sim_agg_heads": num_heads, "lr": 5e-5, "lr_schedule": None},
            **extra,
        },
        path,
    )  # fmt: skip
    return path
