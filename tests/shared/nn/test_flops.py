"""Operations by torch's own count, whatever kernel attention has."""

from __future__ import annotations

import torch
from torch.nn.functional import scaled_dot_product_attention

from shared.nn.flops import count_flops


def test_products_of_matrices_count_twice_and_nothing_else_does():
    layer = torch.nn.Linear(6, 5, device="meta")
    x = torch.empty(3, 4, 6, device="meta")
    assert count_flops(lambda: torch.relu(layer(x)) + 1) == 2 * 3 * 4 * 6 * 5
    assert count_flops(lambda: None) == 0 and torch.is_grad_enabled()


def test_attention_counts_as_its_products():
    q, k = torch.empty(1, 2, 7, 8, device="meta"), torch.empty(1, 2, 9, 8, device="meta")
    assert count_flops(lambda: scaled_dot_product_attention(q, k, k)) == 2 * 2 * (2 * 7 * 9 * 8)
