"""Wan's names of the original layout <-> diffusers', which are those of our streams; without torch."""

import re
from itertools import product

#: Original -> diffusers, outside the blocks. A name that ends in "." stands for its weight and bias.
TOP = {
    **{
        f"{kind}_embedding.{place}.": f"condition_embedder.{kind}_embedder.linear_{number}."
        for kind, (place, number) in product(("text", "time"), ((0, 1), (2, 2)))
    },
    "patch_embedding.": "patch_embedding.", "time_projection.1.": "condition_embedder.time_proj.",
    "head.head.": "proj_out.", "head.modulation": "scale_shift_table",
}  # fmt: skip
#: Original -> diffusers, within a block. Original `norm3` is diffusers' `norm2`: the others have no weights.
BLOCK = {
    **{
        f"{attention}.{part}.": f"{theirs}.{name}."
        for attention, theirs in (("self_attn", "attn1"), ("cross_attn", "attn2"))
        for part, name in (
            ("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("o", "to_out.0"), ("norm_q", "norm_q"), ("norm_k", "norm_k"),
        )
    },
    "norm3.": "norm2.", "ffn.0.": "ffn.net.0.proj.", "ffn.2.": "ffn.net.2.", "modulation": "scale_shift_table",
}  # fmt: skip
_TOP_BACK, _BLOCK_BACK = ({theirs: original for original, theirs in names.items()} for names in (TOP, BLOCK))
_IN_BLOCK = re.compile(r"(blocks\.\d+\.)(.+)")


def to_diffusers(name: str) -> str | None:
    """Give diffusers' name of a tensor of the original layout; None if Wan has no such tensor."""
    return _renamed(name, TOP, BLOCK)


def to_original(name: str) -> str | None:
    """Give the original name of one of diffusers'; None if Wan has no such tensor."""
    return _renamed(name, _TOP_BACK, _BLOCK_BACK)


def _renamed(name: str, top: dict[str, str], block: dict[str, str]) -> str | None:
    inside = _IN_BLOCK.fullmatch(name)
    prefix, rest = inside.groups() if inside else ("", name)
    for old, new in (block if inside else top).items():
        if rest == old or (old.endswith(".") and rest in (f"{old}weight", f"{old}bias")):
            return prefix + new + rest.removeprefix(old)
    return None
