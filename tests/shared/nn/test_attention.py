"""The attention dispatcher: shapes, masks, and backends that cannot run here."""

from __future__ import annotations

import pytest
import torch

from shared.nn import attention
from shared.nn.attention import BACKENDS, active_backend, attend, check_backend, kernel_learns_slowly, use_backend
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


@pytest.mark.parametrize("name", ["native", "flex"])
def test_backends_that_run_here(name):
    q, k, v = (torch.randn(2, n, 3, 16) for n in (5, 7, 7))
    keys = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    with use_backend(name):
        assert active_backend() == name
        for mask, out in ((None, attend(q, k, v)), (keys[:, None, None], attend(q, k, v, keys=keys))):
            expected = softmax_attention(q, k, v, mask)
            torch.testing.assert_close(out, expected, rtol=0, atol=1e-5)
    assert active_backend() == "native"


@pytest.mark.parametrize(("name", "kind", "native"), [
    ("native", "pairs", False), ("flex", "pairs", False), ("xformers", "keys", False), ("flash-varlen", "keys", False),
    ("flash", "pairs", True), ("sage", "pairs", True),
])  # fmt: skip
def test_each_backend_gets_a_mask_that_it_takes(name, kind, native, monkeypatch):
    """Those that take none leave it to the native one."""
    given = {}
    monkeypatch.setattr(attention, "active_backend", lambda: name)
    monkeypatch.setattr(attention, "dispatch_attention_fn", lambda q, k, v, **how: given.update(how) or q)
    q, keys = torch.randn(2, 5, 3, 8), torch.ones(2, 5, dtype=torch.bool)
    attend(q, q, q, keys=keys)
    assert given["attn_mask"].shape == ((2, 5) if kind == "keys" else (2, 1, 1, 5))
    assert given["backend"] == (attention.AttentionBackendName.NATIVE if native else None)
    attend(q, q, q)
    assert given["attn_mask"] is None and given["backend"] is None


def test_on_a_cpu_bfloat16_learns_by_products(monkeypatch):
    """Near what the kernel computes, and only there: not without gradients, in float32, or for too many logits."""
    q, k, v = (torch.randn(2, n, 3, 16, dtype=torch.bfloat16) for n in (5, 7, 7))
    expected = softmax_attention(q.float(), k.float(), v.float())
    with monkeypatch.context() as patch:
        patch.setattr(attention, "dispatch_attention_fn", None)
        learns = q.clone().requires_grad_()
        out = attend(learns, k, v)
        torch.testing.assert_close(out.float(), expected, rtol=0, atol=0.03)
        torch.testing.assert_close(attend(learns, k, v, scale=0.5), attend(2 * learns, k, v), rtol=0, atol=0.03)
    out.sum().backward()
    exact = q.float().requires_grad_()
    softmax_attention(exact, k.float(), v.float()).sum().backward()
    assert (learns.grad.float() - exact.grad).norm() < 0.05 * exact.grad.norm()
    many = torch.empty(1, 2**14, 1, 1, dtype=torch.bfloat16, device="meta").requires_grad_()
    for queries, keys in ((q, k), (exact, k.float()), (many, many)):
        assert not kernel_learns_slowly(queries, keys)
    assert kernel_learns_slowly(learns, k)
    with use_backend("flex"):
        assert not kernel_learns_slowly(learns, k)


def test_queries_have_the_type_of_the_values(monkeypatch):
    """Under autocast a norm gives float32; a kernel of another package would refuse."""
    seen = []
    monkeypatch.setattr(attention, "dispatch_attention_fn", lambda q, k, v, **how: seen.append((q.dtype, k.dtype)) or q)
    x = torch.randn(1, 4, 2, 8)
    attend(x, x, x.bfloat16())
    assert seen == [(torch.bfloat16, torch.bfloat16)]


def test_an_unknown_backend_is_refused_with_the_choices():
    with pytest.raises(UserError, match=r"native.*xformers"):
        use_backend("fastest")


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without CUDA")
@pytest.mark.parametrize("name", [name for name, package in BACKENDS.items() if package])
def test_a_backend_that_cannot_run_says_what_it_needs(name):
    with pytest.raises(UserError, match="needs"):
        use_backend(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without CUDA")
def test_a_backend_that_cannot_learn_says_so_before_it_is_used():
    check_backend("flex", "--attention")
    with pytest.raises(UserError, match=r"train.attention 'flex' computes no gradients without"):
        check_backend("flex", "train.attention", learns=True)
