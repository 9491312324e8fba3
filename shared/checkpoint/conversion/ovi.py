"""Ovi's fused checkpoint: towers into our streams, fusion into the `full` baseline or into CCA of full width."""

import re
from collections.abc import Mapping

from shared.checkpoint.conversion.safetensors_reader import SourceWeights, named
from shared.checkpoint.conversion.wan import NEW_PARTS, to_diffusers
from shared.checkpoint.conversion.weight_map import WeightMap
from shared.nn.parameter_names import joint_name
from shared.utils.errors import UserError

#: Ovi's names within a block's cross_attn -> those of our fusion, whatever it is.
FUSION = {"k_fusion": "to_k", "v_fusion": "to_v", "pre_attn_norm_fusion": "norm_y", "norm_k_fusion": "norm_k"}
#: What CCA takes besides, of the tower's own text attention: theirs within a block -> ours within CCA.
SHARED = {
    "cross_attn.q.weight": "to_q.weight", "cross_attn.q.bias": "to_q.bias", "norm3.weight": "norm_x.weight",
    "cross_attn.norm_q.weight": "norm_q.weight", "cross_attn.o.weight": "to_out.weight", "norm3.bias": "norm_x.bias",
}  # fmt: skip
_NAME = re.compile(r"(video|audio)_model\.(?:blocks\.(\d+)\.)?(.+)")
_AUDIO_IN = re.compile(r"audio_model\.patch_embedding\.(0\.(weight|bias)|2\.w[123]\.weight)")
AUDIO_OUT = ("audio_model.head.head.weight", "audio_model.head.head.bias")

OWN_INPUT = "Ovi's convolutions before its first block; our audio stream has one matrix per token"
OWN_CODEC = "for the 20 values of Ovi's audio codec (MMAudio, 16 kHz), which is not ours"
NEW_INPUT = "Ovi's input layers do not fit, and are for another audio codec"
NEW_OUTPUT = "Ovi's output layer is for another audio codec; it starts at zero"
NEW_BIAS = "zero: Ovi adds the text attention's output bias once, and our text attention has it"
NEW_TOKENS = "Ovi has no context tokens"


def weight_map(shapes: Mapping[str, tuple[int, ...]], weights: SourceWeights, fusion: str) -> WeightMap:
    """Where each tensor comes from. `fusion`: full, or cca as wide as the towers. UserError: no Ovi that fits."""
    if not any(name.startswith("audio_model.") and ".k_fusion." in name for name in weights.shapes):
        what = f"{named(sorted(weights.shapes))}, and no audio_model.blocks.N.cross_attn.k_fusion"
        raise UserError(f"{weights.label}: {what}; a fused checkpoint of Ovi is needed")
    mapping = WeightMap(shapes)
    ours = {name: our_name for name in weights.shapes if (our_name := _ours(name))}
    foreign = [name for name in AUDIO_OUT if name in ours and shapes.get(ours[name]) != weights.shapes[name]]
    mapping.take(weights, {our_name: name for name, our_name in ours.items() if name not in foreign})
    mapping.leave(weights, foreign, OWN_CODEC)
    mapping.leave(weights, [name for name in weights.shapes if _AUDIO_IN.fullmatch(name)], OWN_INPUT)
    if fusion == "cca":
        for match in filter(None, map(_NAME.fullmatch, weights.shapes)):
            if match[2] and match[3] in SHARED:
                mapping.take(weights, {f"blocks.{match[2]}.fusion.{match[1]}.{SHARED[match[3]]}": match[0]})
        mapping.new([name for name in shapes if re.search(r"\.fusion\.\w+\.to_out\.bias", name)], NEW_BIAS)
        mapping.new([name for name in shapes if re.search(r"\.fusion\.\w+\.context_tokens", name)], NEW_TOKENS)
    mapping.new([name for name in shapes if name.startswith("audio_stream.patch_embedding.")], NEW_INPUT)
    mapping.new([n for n in shapes if n.startswith("audio_stream.proj_out.") and n not in mapping.origins], NEW_OUTPUT)
    for part, why in NEW_PARTS.items():
        mapping.new([name for name in shapes if part in name], why)
    mapping.check()
    return mapping


def _ours(name: str) -> str | None:
    """Our name of a tensor of the towers, or of the fusion's keys and values; None for others."""
    if (match := _NAME.fullmatch(name)) is None:
        return None
    tower, block, rest = match.groups()
    fusion = re.fullmatch(r"cross_attn\.(\w+)\.(weight|bias)", rest)
    if block and fusion and fusion[1] in FUSION:
        return f"blocks.{block}.fusion.{tower}.{FUSION[fusion[1]]}.{fusion[2]}"
    public = to_diffusers(f"blocks.{block}.{rest.replace('modulation.modulation', 'modulation')}" if block else rest)
    return public and joint_name(tower, public)
