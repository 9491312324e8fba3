"""Wan's two sets of names, one tensor by one; whole models are compared in checkpoint/conversion/test_wan.py."""

import pytest

from shared.checkpoint.wan_names import to_diffusers, to_original


@pytest.mark.parametrize(
    ("original", "diffusers"),
    [
        ("blocks.11.cross_attn.o.weight", "blocks.11.attn2.to_out.0.weight"),
        ("blocks.0.norm3.bias", "blocks.0.norm2.bias"),
        ("blocks.0.ffn.2.weight", "blocks.0.ffn.net.2.weight"),
        ("head.head.weight", "proj_out.weight"),
        ("time_projection.1.bias", "condition_embedder.time_proj.bias"),
    ],
)
def test_names_go_there_and_back(original: str, diffusers: str) -> None:
    assert to_diffusers(original) == diffusers and to_original(diffusers) == original


@pytest.mark.parametrize(
    "name", ["blocks.0.attn1.to_q.scale", "blocks.0.cross_attn.k_img.weight", "img_emb.proj.0.bias"]
)
def test_other_names_are_not_wans(name: str) -> None:
    assert to_diffusers(name) is None and to_original(name) is None
