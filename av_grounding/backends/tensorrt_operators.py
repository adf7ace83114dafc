"""Which operators torch-tensorrt converts, so that a graph that would split is found without it.

Where torch-tensorrt is installed, its own dry run decides (see `tensorrt`). This list lets a
machine without a GPU keep the encoders convertible.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch.export import ExportedProgram

_CONVERTED = """
_adaptive_avg_pool2d.default _adaptive_avg_pool3d.default _cdist_forward.default
_embedding_bag.default _native_batch_norm_legit_no_training.default _pad_circular.default
_pdist_forward.default _prelu_kernel.default _softmax.default _to_copy.default abs.default
acos.default acosh.default adaptive_avg_pool1d.default adaptive_avg_pool2d.default
adaptive_avg_pool3d.default add.Scalar add.Tensor addmm.default amax.default amin.default
any.default any.dim any.dims arange.start_step argmax.default argmin.default as_strided.default
asin.default asinh.default atan.default atan2.default atan2.out atanh.default
avg_pool1d.default avg_pool2d.default avg_pool3d.default batch_norm.default bitwise_and.Scalar
bitwise_and.Scalar_Tensor bitwise_and.Tensor bitwise_not.default bitwise_or.Scalar
bitwise_or.Scalar_Tensor bitwise_or.Tensor bitwise_xor.Scalar bitwise_xor.Scalar_Tensor
bitwise_xor.Tensor bmm.default cat.default ceil.default clamp.Tensor clamp.default clip.Tensor
clip.default clone.default constant_pad_nd.default convolution.default copy.default cos.default
cosh.default cumsum.default detach.default diagonal.default div.Scalar div.Scalar_mode
div.Tensor div.Tensor_mode dot.default elu.default embedding.default embedding_bag.default
empty.memory_format eq.Scalar eq.Tensor erf.default exp.default expand.default expm1.default
flip.default floor.default floor_divide.Scalar floor_divide.default fmod.Scalar fmod.Tensor
full.default gather.default ge.Scalar ge.Tensor gelu.default grid_sampler.default
grid_sampler_2d.default gt.Scalar gt.Tensor hardsigmoid.default index.Tensor index_put.default
index_select.default isinf.default isnan.default le.Scalar le.Tensor leaky_relu.default
log.default log10.default log1p.default log2.default logical_and.default logical_not.default
logical_or.default logical_xor.default lt.Scalar lt.Tensor max.default max.dim
max_pool1d.default max_pool2d.default max_pool3d.default maximum.default mean.default mean.dim
min.default min.dim minimum.default mm.default mul.Scalar mul.Tensor mv.default
native_batch_norm.default native_dropout.default native_group_norm.default
native_layer_norm.default ne.Scalar ne.Tensor neg.default pad.default permute.default
pixel_shuffle.default pixel_unshuffle.default pow.Scalar pow.Tensor_Scalar pow.Tensor_Tensor
prod.default prod.dim_int rand.default randn.default randperm.default reciprocal.default
reflection_pad1d.default reflection_pad2d.default reflection_pad3d.default relu.default
remainder.Scalar remainder.Tensor replication_pad1d.default replication_pad2d.default
replication_pad3d.default reshape.default resize_.default roll.default round.default
rsqrt.default scalar_tensor.default scatter.src scatter.value select.int sigmoid.default
sign.default sin.default sinh.default slice.Tensor softplus.default sort.default split.Tensor
split.sizes split_with_sizes.default sqrt.default squeeze.dim squeeze.dims sub.Scalar
sub.Tensor sum.default sum.dim_IntList sym_size.int tan.default tanh.default tile.default
topk.default trunc.default unsqueeze.default where.self
"""
CONVERTED = frozenset(_CONVERTED.split())
"""Core operators with a converter in every release from torch-tensorrt 2.5 (TensorRT 10.3, as on
JetPack 6.2) to 2.14 (TensorRT 11), read from the converter registries of its sources."""

LOWERED = {
    "_assert_tensor_metadata.default",
    "scaled_dot_product_attention.default",
    "upsample_bilinear2d.vec",
    "view.default",
}
"""Operators that each release turns into ones it converts, or drops, or converts under another
name, before it looks for converters."""

KEPT_WHOLE = ("scaled_dot_product_attention", "upsample_bilinear2d")
"""Which torch-tensorrt keeps whole where PyTorch would take them apart: taken apart, attention
has an operator (full_like) without a converter."""
TAKEN_APART = ("linalg_vector_norm",)
"""Which torch-tensorrt takes apart where PyTorch keeps them whole."""


def operators(program: ExportedProgram) -> Counter[str]:
    """Names of the ATen operators that torch-tensorrt looks for converters of, and their counts.

    An operator from elsewhere goes by its full name, such as `prims.sum.default`.
    """
    table = torch.export.default_decompositions()
    for operator in list(table):
        if getattr(operator, "_opname", "") in KEPT_WHOLE:
            del table[operator]
    aten = torch.ops.aten
    table.update(torch._decomp.get_decompositions([getattr(aten, name) for name in TAKEN_APART]))
    nodes = program.run_decompositions(table).graph.nodes
    targets = [node.target for node in nodes if node.op == "call_function"]
    # `getitem` and arithmetic on sizes are Python's own, and converted everywhere.
    names = [str(target) for target in targets if isinstance(target, torch._ops.OpOverload)]
    return Counter(name.removeprefix("aten.") for name in names)


def unconvertible(program: ExportedProgram) -> Counter[str]:
    """The operators without a converter, and their counts; none where the graph converts whole."""
    found = operators(program)
    return Counter({name: found[name] for name in found if name not in CONVERTED | LOWERED})
