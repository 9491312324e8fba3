"""Operations and bytes are those of the kernels that run, attention's too, and the bound is the slower of both."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from ccl.analysis import roofline as roof


def test_a_linear_layer_counts_its_product_and_its_bytes():
    layer, x = torch.nn.Linear(6, 5), torch.randn(4, 6)
    counted = roof.count_work(lambda: layer(x))
    assert counted.flops == 2 * 4 * 6 * 5 and counted.shapes == {(4, 6, 5): 1}
    assert counted.product_bytes == 4 * (4 * 6 + 6 * 5 + 5 + 4 * 5) and counted.other_bytes == 0


def test_views_move_nothing_and_other_kernels_move_bytes_alone():
    x = torch.randn(4, 6)
    assert roof.count_work(lambda: x.view(2, 12).T[3]).bytes == 0
    counted = roof.count_work(lambda: x + 1)
    assert counted.flops == 0 and counted.bytes == counted.other_bytes == 2 * 4 * 24
    assert roof.count_work(lambda: x[:1].expand(4, 6) + x).bytes == 3 * 4 * 24


def test_the_cpus_fused_attention_counts_forward_and_backward():
    q, k = (torch.randn(1, 2, tokens, 8, requires_grad=True) for tokens in (7, 9))
    forward = roof.count_work(lambda: scaled_dot_product_attention(q, k, k))
    product = 2 * 2 * 7 * 9 * 8
    assert forward.flops == forward.attention_flops == 2 * product
    both = roof.count_work(lambda: scaled_dot_product_attention(q, k, k).sum().backward())
    assert both.attention_flops == (2 + 5) * product  # logits again, and four products of gradients


def test_the_bound_is_operations_or_bytes(monkeypatch):
    monkeypatch.setattr(roof, "matmul_rate", lambda shapes, *_: 100.0 * len(list(shapes)))
    monkeypatch.setattr(roof, "copy_rate", lambda *_, **__: 50.0)
    layer, x = torch.nn.Linear(6, 5, bias=False), torch.randn(4, 6)
    counted = roof.count_work(lambda: layer(layer.weight.T.new_ones(4, 6)))
    by_bytes = roof.roofline(counted, torch.float32, "cpu")
    assert by_bytes.seconds == 4 * (24 + 30 + 20) / 50.0 and by_bytes.rates == (100.0, 50.0)
    monkeypatch.setattr(roof, "copy_rate", lambda *_, **__: 1e9)
    by_flops = roof.roofline(roof.count_work(lambda: (layer(x), layer(x))), torch.float32, "cpu")
    assert by_flops.seconds == pytest.approx(2 * 240 / 200.0)
    facts = by_flops.facts(4.8)
    assert facts["share_of_roofline"] == facts["share_of_matmul_rate"] == pytest.approx(0.5)
    assert "50% reached" in by_flops.text(4.8)
