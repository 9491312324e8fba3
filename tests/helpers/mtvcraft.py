"""MTV's public network by its names and shapes, small random weights of it, and its arithmetic written out.

The arithmetic is plain torch on the tensors by their public names, from the stated formulas; nothing of the project.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from shared.utils.rng import generator

PREFIX = "model.diffusion_model."
FULL = {
    "width": 3072, "head": 64, "blocks": 42, "channels": 32, "out": 16, "time": 512, "text_dim": 4096, "text": 226,
    "grid": (13, 30, 45), "features": 5 * 12 * 768, "hidden": 512, "dim": 768, "tokens": 32, "dual": 4,
}  # fmt: skip
SMALL = {
    "width": 32, "head": 16, "blocks": 2, "channels": 8, "out": 4, "time": 12, "text_dim": 12, "text": 8,
    "grid": (13, 2, 2), "features": 3 * 2 * 4, "hidden": 10, "dim": 32, "tokens": 3, "dual": 2,
}  # fmt: skip


def public_shapes(
    speakers: int, *, width: int, head: int, blocks: int, channels: int, out: int, time: int, text_dim: int, text: int,
    grid: tuple[int, int, int], features: int, hidden: int, dim: int, tokens: int, dual: int,
) -> dict[str, tuple[int, ...]]:  # fmt: skip
    """Every tensor of the public file, written out from its description."""
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, rows: int, columns: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (rows, columns), (rows,)

    def norm(name: str, size: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (size,)

    linear("time_embed.0", time, width)
    linear("time_embed.2", time, time)
    shapes["mixins.pos_embed.pos_embedding"] = (1, text + math.prod(grid), width)
    shapes["mixins.pos_embed.freqs_sin"] = shapes["mixins.pos_embed.freqs_cos"] = (math.prod(grid), head)
    shapes["mixins.patch_embed.proj.weight"], shapes["mixins.patch_embed.proj.bias"] = (width, channels, 2, 2), (width,)
    linear("mixins.patch_embed.text_proj", width, text_dim)
    norm("mixins.final_layer.norm_final", width)
    linear("mixins.final_layer.linear", 4 * out, width)
    linear("mixins.final_layer.adaLN_modulation.1", 2 * width, time)
    norm("transformer.final_layernorm", width)
    for track in ("", "_effect", "_music"):
        name = f"transformer.audio_proj{track}"
        linear(f"{name}.proj1", hidden, features)
        linear(f"{name}.proj2", hidden, hidden)
        linear(f"{name}.proj3", tokens * dim, hidden)
        norm(f"{name}.norm", dim)
        shapes[f"{name}.conv1.weight"], shapes[f"{name}.conv1.bias"] = (tokens * dim, tokens * dim, 2), (tokens * dim,)
    for n in range(dual):
        name = f"transformer.audio_combine.dual_blocks.{n}"
        for layer in ("vocal_layernorm", "accm_layernorm", "post_attention_layernorm"):
            norm(f"{name}.{layer}", dim)
        linear(f"{name}.adaLN_modulations.1", 12 * dim, time)
        linear(f"{name}.attention.query_key_value", 3 * dim, dim)
        linear(f"{name}.attention.dense", dim, dim)
        linear(f"{name}.mlp.dense_h_to_4h", 4 * dim, dim)
        linear(f"{name}.mlp.dense_4h_to_h", dim, 4 * dim)
    for n in range(blocks):
        linear(f"mixins.adaln_layer.adaLN_modulations.{n}.1", 12 * width, time)
        norm(f"mixins.adaln_layer.query_layernorm_list.{n}", head)
        norm(f"mixins.adaln_layer.key_layernorm_list.{n}", head)
        name = f"transformer.layers.{n}"
        norm(f"{name}.input_layernorm", width)
        norm(f"{name}.post_attention_layernorm", width)
        linear(f"{name}.attention.query_key_value", 3 * width, width)
        linear(f"{name}.attention.dense", width, width)
        linear(f"{name}.mlp.dense_h_to_4h", 4 * width, width)
        linear(f"{name}.mlp.dense_4h_to_h", width, 4 * width)
        for reader in ("", *["_second"] * (speakers - 1), "_effect"):
            norm(f"{name}.audio_input_layernorm{reader}", width)
            linear(f"{name}.audio_attn{reader}.query", width, width)
            linear(f"{name}.audio_attn{reader}.key_value", 2 * width, dim)
            linear(f"{name}.audio_attn{reader}.dense", width, width)
        linear(f"{name}.audio_music_adaLn", 2 * width, dim)
    if speakers == 2:
        shapes["transformer.audio_vocal_embedding"] = shapes["transformer.audio_vocal_embedding_1"] = (dim,)
    return {PREFIX + name: shape for name, shape in shapes.items()}


def small_public(speakers: int = 1, **changes: int) -> dict[str, Tensor]:
    """Random weights of a small one; norms are near one, all else is of a size that keeps the states near one."""
    weights = {}
    for name, shape in public_shapes(speakers, **(SMALL | changes)).items():
        drawn = torch.randn(shape, generator=generator(0, "mtvcraft", name))
        if "norm" in name and name.endswith("weight"):
            weights[name] = 1 + 0.3 * drawn
        else:
            weights[name] = drawn / (math.prod(shape[1:]) ** 0.5 if len(shape) > 1 and "pos" not in name else 3)
    return weights


class Reference:
    """The public network, one sample at a time: `predict` is v of latents [F, C, h, w]."""

    def __init__(self, weights: dict[str, Tensor], speakers: int) -> None:
        self.weights, self.speakers = weights, speakers

    def get(self, name: str) -> Tensor:
        return self.weights[PREFIX + name]

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.get(f"{name}.weight").T + self.get(f"{name}.bias")

    def norm(self, x: Tensor, name: str, eps: float) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
        return scaled * self.get(f"{name}.weight") + self.get(f"{name}.bias")

    def time(self, timestep: float) -> Tensor:
        """cos, then sin of t · 10000^(−i / half); linear, SiLU, linear."""
        half = SMALL["width"] // 2
        angle = timestep * torch.exp(-math.log(10000) * torch.arange(half) / half)
        x = self.linear(torch.cat([angle.cos(), angle.sin()]), "time_embed.0")
        return self.linear(x * torch.sigmoid(x), "time_embed.2")

    def tokens(self, features: Tensor, track: str) -> Tensor:
        """[T, values] -> [F, n, d]: ReLU twice, the same convolution twice, which frame 0 passes by, LayerNorm."""
        name = f"transformer.audio_proj{track}"
        x = self.linear(features, f"{name}.proj1").clamp(min=0)
        x = self.linear(self.linear(x, f"{name}.proj2").clamp(min=0), f"{name}.proj3")
        weight, bias = self.get(f"{name}.conv1.weight"), self.get(f"{name}.conv1.bias")
        for _ in range(2):
            pairs = [weight[..., 0] @ x[i] + weight[..., 1] @ x[i + 1] + bias for i in range(1, len(x), 2)]
            x = torch.stack([x[0], *pairs])
        return self.norm(x.unflatten(-1, (SMALL["tokens"], -1)), f"{name}.norm", 1e-5)

    def attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """[N, h, d], [M, h, d] -> [N, h·d]."""
        logits = torch.einsum("nhd,mhd->hnm", q, k) / q.shape[-1] ** 0.5
        return torch.einsum("hnm,mhd->nhd", logits.softmax(-1), v).flatten(1)

    def interval(self, tracks: list[Tensor], time: Tensor) -> list[Tensor]:
        """Interaction blocks on one interval's tokens [n, d] of each speaker and of the effects."""
        for n in range(SMALL["dual"]):
            name = f"transformer.audio_combine.dual_blocks.{n}"
            change = self.linear(time * torch.sigmoid(time), f"{name}.adaLN_modulations.1").chunk(12)
            changes = [change[:6]] * self.speakers + [change[6:]]
            norms = ["vocal_layernorm"] * self.speakers + ["accm_layernorm"]
            normed = [
                self.norm(x, f"{name}.{norm}", 1e-5) * (1 + c[1]) + c[0]
                for x, c, norm in zip(tracks, changes, norms, strict=True)
            ]
            q, k, v = self.linear(torch.cat(normed), f"{name}.attention.query_key_value").chunk(3, dim=-1)
            q, k, v = (part.unflatten(-1, (-1, 16)) for part in (q, k, v))
            out = self.linear(self.attention(q, k, v), f"{name}.attention.dense").chunk(len(tracks))
            tracks = [x + c[2] * new for x, c, new in zip(tracks, changes, out, strict=True)]
            normed = [
                self.norm(x, f"{name}.post_attention_layernorm", 1e-5) * (1 + c[4]) + c[3]
                for x, c in zip(tracks, changes, strict=True)
            ]
            inner = F.gelu(self.linear(torch.cat(normed), f"{name}.mlp.dense_h_to_4h"), approximate="tanh")
            out = self.linear(inner, f"{name}.mlp.dense_4h_to_h").chunk(len(tracks))
            tracks = [x + c[5] * new for x, c, new in zip(tracks, changes, out, strict=True)]
        return tracks

    def turned(self, x: Tensor, frames: range) -> Tensor:
        """Rotation of [F·S, h, d] in pairs (0, 1), (2, 3) ...: d/4 values by time, 3d/8 by height, 3d/8 by width."""
        _, height, width = SMALL["grid"]
        head, angles = SMALL["head"], []
        for f in frames:
            for i in range(height):
                for j in range(width):
                    parts = []
                    for place, size in ((f, head // 4), (i, 3 * head // 8), (j, 3 * head // 8)):
                        parts.append(place / 10000 ** (torch.arange(0, size, 2) / size))
                    angles.append(torch.cat(parts))
        angle = torch.stack(angles)[:, None]
        even, odd = x[..., 0::2], x[..., 1::2]
        out = torch.stack([even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos()], dim=-1)
        return out.flatten(-2)

    def predict(
        self, latents: Tensor, timestep: int, clean: Tensor, text: Tensor, speech: list[Tensor], effects: Tensor,
        music: Tensor,
    ) -> Tensor:  # fmt: skip
        """v [F, C, h, w] of latents at `timestep`, `clean` [F] ones at 0; features [T, values] of each track."""
        count, space, heads = len(latents), SMALL["grid"][1] * SMALL["grid"][2], SMALL["width"] // SMALL["head"]
        time, zero = self.time(timestep), self.time(0)
        both = torch.cat([latents, torch.zeros_like(latents)], dim=1)
        weight, bias = self.get("mixins.patch_embed.proj.weight"), self.get("mixins.patch_embed.proj.bias")
        video = F.conv2d(both, weight, bias, stride=2).flatten(2).transpose(1, 2).flatten(0, 1)
        words = self.linear(text, "mixins.patch_embed.text_proj")
        positions = self.get("mixins.pos_embed.pos_embedding")[0]
        words, video = words + positions[: len(text)], video + positions[len(text) : len(text) + count * space]
        tokens = [self.tokens(one, "") for one in speech]
        if self.speakers == 2:
            for k, vector in enumerate(("audio_vocal_embedding", "audio_vocal_embedding_1")):
                tokens[k] = tokens[k] + self.get(f"transformer.{vector}")
        tokens.append(self.tokens(effects, "_effect"))
        sources = [self.interval([one[i] for one in tokens], time) for i in range(count)]
        style = self.tokens(music, "_music").flatten(0, 1).mean(0)
        at_zero = clean.repeat_interleave(space)[:, None]
        for n in range(SMALL["blocks"]):
            name, adaln = f"transformer.layers.{n}", f"mixins.adaln_layer.adaLN_modulations.{n}.1"
            usual, still = (self.linear(t * torch.sigmoid(t), adaln).chunk(12) for t in (time, zero))
            own = [torch.where(at_zero, s, u) for u, s in zip(usual[:6], still[:6], strict=True)]
            x = torch.cat([
                self.norm(words, f"{name}.input_layernorm", 1e-5) * (1 + usual[7]) + usual[6],
                self.norm(video, f"{name}.input_layernorm", 1e-5) * (1 + own[1]) + own[0],
            ])  # fmt: skip
            q, k, v = self.linear(x, f"{name}.attention.query_key_value").unflatten(-1, (3, heads, -1)).unbind(-3)
            q = self.norm(q, f"mixins.adaln_layer.query_layernorm_list.{n}", 1e-6)
            k = self.norm(k, f"mixins.adaln_layer.key_layernorm_list.{n}", 1e-6)
            q, k = (torch.cat([p[: len(text)], self.turned(p[len(text) :], range(count))]) for p in (q, k))
            out = self.linear(self.attention(q, k, v), f"{name}.attention.dense")
            words, video = words + usual[8] * out[: len(text)], video + own[2] * out[len(text) :]
            video = self.injected(video, n, sources, style, count)
            x = torch.cat([
                self.norm(words, f"{name}.post_attention_layernorm", 1e-5) * (1 + usual[10]) + usual[9],
                self.norm(video, f"{name}.post_attention_layernorm", 1e-5) * (1 + own[4]) + own[3],
            ])  # fmt: skip
            out = self.linear(
                F.gelu(self.linear(x, f"{name}.mlp.dense_h_to_4h"), approximate="tanh"), f"{name}.mlp.dense_4h_to_h"
            )
            words, video = words + usual[11] * out[: len(text)], video + own[5] * out[len(text) :]
        shift, scale = self.linear(time * torch.sigmoid(time), "mixins.final_layer.adaLN_modulation.1").chunk(2)
        x = self.norm(video, "transformer.final_layernorm", 1e-5)
        x = self.linear(
            self.norm(x, "mixins.final_layer.norm_final", 1e-5) * (1 + scale) + shift, "mixins.final_layer.linear"
        )
        x = x.unflatten(-1, (SMALL["out"], 2, 2)).unflatten(0, SMALL["grid"] if count == 13 else (count, 2, 2))
        return x.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)

    def injected(self, video: Tensor, n: int, sources: list[list[Tensor]], style: Tensor, count: int) -> Tensor:
        """h + Σ CA(norm(h), tokens), all from the same h; then h (1 + scale) + shift by the music."""
        name, heads = f"transformer.layers.{n}", SMALL["width"] // SMALL["head"]
        frames = video.unflatten(0, (count, -1))
        added = torch.zeros_like(frames)
        for index, reader in enumerate(("", *["_second"] * (self.speakers - 1), "_effect")):
            for i in range(count):
                normed = self.norm(frames[i], f"{name}.audio_input_layernorm{reader}", 1e-5)
                q = self.linear(normed, f"{name}.audio_attn{reader}.query").unflatten(-1, (heads, -1))
                k, v = self.linear(sources[i][index], f"{name}.audio_attn{reader}.key_value").chunk(2, dim=-1)
                k, v = k.unflatten(-1, (heads, -1)), v.unflatten(-1, (heads, -1))
                q = self.turned(self.norm(q, f"mixins.adaln_layer.query_layernorm_list.{n}", 1e-6), range(1))
                k = self.norm(k, f"mixins.adaln_layer.key_layernorm_list.{n}", 1e-6)
                added[i] = added[i] + self.linear(self.attention(q, k, v), f"{name}.audio_attn{reader}.dense")
        scale, shift = self.linear(style, f"{name}.audio_music_adaLn").chunk(2)
        return (frames + added).flatten(0, 1) * (1 + scale) + shift
