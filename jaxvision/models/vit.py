"""Vision transformers: A. Dosovitskiy et al., An Image Is Worth 16x16 Words, ICLR 2021.

DeiT without its distillation token (H. Touvron et al., Training Data-Efficient Image Transformers, ICML 2021) is the
same network, trained differently: only on ImageNet, with strong augmentation, and with drop_path=0.1 in place of
dropout=0.1. All kernels are initialized as in DeiT (its section 6): a head of zeros, as in ViT, would pass no gradient
to the other layers.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.interfaces import Model
from jaxvision.models import register
from jaxvision.models.layers import Conv, Dense, drop_path, require_probability
from jaxvision.models.linen import from_linen, tap, tap_attention


def _numbered(name: str):
    return lambda match: f"{name}{int(match[1]) - 1}/"


TIMM = (
    (r"^block(\d+)/", _numbered("blocks/")),
    (r"^stem_conv/", "patch_embed/proj/"),
    (r"^class_token$", "cls_token"),
    (r"^position_embedding$", "pos_embed"),
    (r"/qkv/", "/attn/qkv/"),
    (r"/projection/", "/attn/proj/"),
    (r"/dense(\d)/", r"/mlp/fc\1/"),
)
TORCHVISION = (
    (r"^norm/", "encoder/ln/"),
    (r"^block(\d+)/", _numbered("encoder/layers/encoder_layer_")),
    (r"^stem_conv/", "conv_proj/"),
    (r"^position_embedding$", "encoder/pos_embedding"),
    (r"/norm(\d)/", r"/ln_\1/"),
    (r"/qkv/kernel$", "/self_attention/in_proj_weight"),
    (r"/qkv/bias$", "/self_attention/in_proj_bias"),
    (r"/projection/", "/self_attention/out_proj/"),
    (r"/dense1/", "/mlp/0/"),
    (r"/dense2/", "/mlp/3/"),
    (r"^head/", "heads/head/"),
)
TORCHVISION_0_12 = ((r"/dense(\d)/", r"/mlp/linear_\1/"), *TORCHVISION)  # names in its files, which predate its module
NAMES = {"torchvision": TORCHVISION, "torchvision 0.12": TORCHVISION_0_12, "timm": TIMM}

small_normal = nn.initializers.truncated_normal(0.02)
NormalDense = partial(Dense, kernel_init=small_normal)
LayerNorm = partial(nn.LayerNorm, epsilon=1e-6, use_fast_variance=False)


def attention(qkv: jax.Array, num_heads: int) -> tuple[jax.Array, jax.Array]:
    """Compute self-attention of queries, keys and values [B, N, 3 D]: outputs [B, N, D], weights [B, heads, N, N].

    The weights are a softmax over the last axis, computed in at least float32. (jax.nn.dot_product_attention rounds to
    float32 in double precision too.)
    """
    batch, length, width = qkv.shape
    q, k, v = jnp.moveaxis(qkv.reshape(batch, length, 3, num_heads, -1), 2, 0)
    wide = jnp.promote_types(qkv.dtype, jnp.float32)
    scores = jnp.einsum("bnhd,bmhd->bhnm", q, k, preferred_element_type=wide) * q.shape[-1] ** -0.5
    shares = jax.nn.softmax(scores).astype(v.dtype)
    return jnp.einsum("bhnm,bmhd->bnhd", shares, v).reshape(batch, length, width // 3), shares


class Block(nn.Module):
    """A pre-norm transformer block (equations 2 and 3)."""

    num_heads: int
    dropout: float
    drop_path: float

    @nn.compact
    def __call__(self, x, train: bool):
        width, dropout = x.shape[-1], partial(nn.Dropout, self.dropout, deterministic=not train)
        y, shares = attention(NormalDense(3 * width, name="qkv")(LayerNorm(name="norm1")(x)), self.num_heads)
        tap_attention(self, shares)
        y = dropout()(NormalDense(width, name="projection")(y))
        x = x + drop_path(y, self.drop_path, train=train)
        y = nn.gelu(NormalDense(4 * width, name="dense1")(LayerNorm(name="norm2")(x)), approximate=False)
        y = dropout()(NormalDense(width, name="dense2")(dropout()(y)))
        return x + drop_path(y, self.drop_path, train=train)


class VisionTransformer(nn.Module):
    output_size: int
    patch_size: int
    width: int
    depth: int
    num_heads: int
    dropout: float
    drop_path: float

    @nn.compact
    def __call__(self, x, *, train: bool):
        _require_whole_patches(x.shape[1:3], self.patch_size)
        size = (self.patch_size, self.patch_size)
        x = tap(self, "stem", Conv(self.width, size, size, padding="VALID", name="stem_conv")(x))
        rows, x = x.shape[1], x.reshape(len(x), -1, self.width)
        class_token = self.param("class_token", small_normal, (1, 1, self.width), jnp.float32)
        x = jnp.concatenate([jnp.broadcast_to(class_token, (len(x), 1, self.width)), x], axis=1)
        x = x + self.param("position_embedding", small_normal, (1, *x.shape[1:]), jnp.float32)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        for index, rate in enumerate(np.linspace(0, self.drop_path, self.depth).tolist(), 1):
            x = Block(self.num_heads, self.dropout, rate, name=f"block{index}")(x, train)
            x = _tap_patches(self, f"block{index}", x, rows)
        pooled = tap(self, "pooled", LayerNorm(name="norm")(x[:, 0]))
        return NormalDense(self.output_size, name="head")(pooled)


def _tap_patches(module: nn.Module, name: str, tokens: jax.Array, rows: int) -> jax.Array:
    """Tap all tokens except the class token as a map [B, h, w, C]."""
    batch, length, width = tokens.shape
    patches = tap(module, name, tokens[:, 1:].reshape(batch, rows, -1, width))
    return jnp.concatenate([tokens[:, :1], patches.reshape(batch, length - 1, width)], axis=1)


def _require_whole_patches(size: tuple[int, int], patch_size: int) -> None:
    """Raise ValueError if an image cannot be divided into patches."""
    if any(length % patch_size for length in size):
        below = [max(length // patch_size, 1) * patch_size for length in size]
        above = [-(-length // patch_size) * patch_size for length in size]
        nearest = " or ".join(dict.fromkeys(f"{height}x{width}" for height, width in (below, above)))
        raise ValueError(
            f"images of {size[0]}x{size[1]} pixels cannot be divided into patches of {patch_size}x{patch_size}; "
            f"expected multiples of {patch_size}: resize them to {nearest} (image_size=…)"
        )


SHAPES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}
VIT = "ViT", "table 1; trained with dropout=0.1"
STEINER = "ViT", "A. Steiner et al., How to Train Your ViT?, TMLR 2022; dropout=0.1 and drop_path=0.1, or neither"
DEIT = "DeiT", "H. Touvron et al., table 1; trained with drop_path=0.1"


def _register(name: str, tag: str, num_parameters: int, paper: tuple[str, str], **metadata: str) -> None:
    """Register a variant by timm's name for it, such as vit_base_patch16, and the tag of timm's weights."""
    _, shape, patch = name.split("_")
    (width, depth, num_heads), patch_size = SHAPES[shape], int(patch.removeprefix("patch"))

    @register(
        name,
        num_parameters=num_parameters,
        input_size=(224, 224, 3),
        names=NAMES,
        weights=f"timm/{name}_224.{tag}",
        pooling="token",
        **metadata,
    )
    def factory(*, output_size: int, dropout: float = 0.0, drop_path: float = 0.0) -> Model:
        require_probability(dropout=dropout, drop_path=drop_path)
        module = VisionTransformer(output_size, patch_size, width, depth, num_heads, dropout, drop_path)
        return from_linen(module, head="head", blocks=(Block,))

    sizes = f"{depth} blocks of width {width}, {num_heads} heads, {patch_size}x{patch_size} patches"
    factory.__doc__ = f"Build {paper[0]}-{shape.title()}: {sizes}.\n\n({paper[1]}.)"
    factory.__name__ = factory.__qualname__ = name


_register("vit_tiny_patch16", "augreg_in21k_ft_in1k", 5_717_416, STEINER)
_register("vit_small_patch16", "augreg_in21k_ft_in1k", 22_050_664, STEINER)
_register("vit_small_patch32", "augreg_in21k_ft_in1k", 22_878_952, STEINER)
_register("vit_base_patch16", "augreg2_in21k_ft_in1k", 86_567_656, VIT, torchvision="vit_b_16")
_register("vit_base_patch32", "augreg_in21k_ft_in1k", 88_224_232, VIT, torchvision="vit_b_32")
_register("vit_large_patch16", "augreg_in21k_ft_in1k", 304_326_632, VIT, torchvision="vit_l_16")
_register("vit_large_patch32", "orig_in21k", 306_535_400, VIT, torchvision="vit_l_32")
_register("deit_tiny_patch16", "fb_in1k", 5_717_416, DEIT)
_register("deit_small_patch16", "fb_in1k", 22_050_664, DEIT)
_register("deit_base_patch16", "fb_in1k", 86_567_656, DEIT)
