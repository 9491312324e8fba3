"""The attention dispatcher: shapes, masks, and backends that cannot run here."""

from __future__ import annotations

import pytest
import torch

from shared.nn.attention import BACKENDS, attend, use_backend
from shared.utils.errors import UserError


def softmax_attention(q, k, v, mask=None):
    logits = torch.einsum("bnhd,bmhd->bhnm", q, k) / q.shape[-1] ** 0.5
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    return torch.einsum("bhnm,bmhd->bnhd", logits.softmax(-1), v)


@pytest.mark.parametrize("masked", [False, True])
def test_attend_is_softmax_attention(masked):
    q, k, v = torch.randn(2, 5, 3, 8), torch.randn(2, 7, 3, 8), torch.randn(2, 7, 3, 8)
    mask = (torch.rand(5, 7) > 0.5) | (torch.arange(7) == 0) if masked else None
    torch.testing.assert_close(attend(q, k, v, mask), softmax_attention(q, k, v, mask), rtol=0, atol=1e-5)


def test_native_backend_runs_here():
    q = torch.randn(1, 4, 2, 8)
    with use_backend("native"):
        torch.testing.assert_close(attend(q, q, q), softmax_attention(q, q, q), rtol=0, atol=1e-5)


def test_an_unknown_backend_is_refused_with_the_choices():
    with pytest.raises(UserError, match=r"native.*xformers"):
        use_backend("fastest")


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without CUDA")
@pytest.mark.parametrize("name", [name for name, package in BACKENDS.items() if package])
def test_a_backend_that_cannot_run_says_what_it_needs(name):
    with pytest.raises(UserError, match="needs"):
        use_backend(name)
