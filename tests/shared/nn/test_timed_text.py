"""Texts over time: each latent reads its own text, in one evaluation; batches of different cuts are their samples."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from shared.encoders.timed_prompts import TimedPrompts
from shared.nn.attention import attend
from shared.nn.clock import LatentClock
from shared.nn.dit import DiTStream, StreamConfig
from shared.nn.timed_text import TimedText, text_over_time
from shared.utils.rng import generator

CLOCK = LatentClock.at_rate(8, 4.0)  # centres at 0.125, 0.375 ... 1.875 s
LENGTH, WIDTH, SPACE, HEADS = 3, 12, 4, 2

CUTS = TimedPrompts((0.0, 0.5, 1.25), ("a", "b", "a"))
OTHER_CUTS = TimedPrompts((0.0, 0.75), ("c", "b"))
FADES = TimedPrompts((0.0, 1.0), ("a", "d"), fade=1.0)
CONSTANT = TimedPrompts.of("e")


def noise(name: str, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator(0, "tests", name))


def embed(texts: list[str], asked: list[str] | None = None) -> torch.Tensor:
    """Values that depend on the text alone; what was asked for is added to `asked`."""
    if asked is not None:
        asked.extend(texts)
    return torch.stack([noise(text, LENGTH, WIDTH) for text in texts])


def timed(*prompts: TimedPrompts, clock: LatentClock = CLOCK) -> TimedText:
    text = text_over_time(prompts, clock, embed)
    assert isinstance(text, TimedText)
    return text


def stream(**changes: int) -> DiTStream:
    """A small stream without dead paths."""
    torch.manual_seed(0)
    model = DiTStream(StreamConfig(4, HEADS, 24, 2, 64, WIDTH, freq_dim=32, **changes)).eval()
    for name, parameter in model.named_parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3, generator=generator(0, "weights", name))
    return model


def test_one_text_all_the_time_is_what_it_was_without_times():
    asked: list[str] = []
    late = TimedPrompts((0.0, 1.9), ("a", "b"))  # after the last centre
    again = TimedPrompts((0.0, 0.5), ("a", "a"), fade=0.3)
    text = text_over_time([late, CONSTANT, again], CLOCK, partial(embed, asked=asked))
    assert asked == ["a", "e", "a"] and isinstance(text, torch.Tensor) and torch.equal(text, embed(asked))


def test_latents_are_cut_where_a_samples_text_changes_and_texts_are_embedded_once():
    asked: list[str] = []
    text = text_over_time([CUTS, OTHER_CUTS, CONSTANT], CLOCK, partial(embed, asked=asked))
    assert asked == ["a", "b", "c", "e"] and isinstance(text, TimedText) and text.shape == (4, LENGTH, WIDTH)
    found = [(span.start, span.stop, [asked[i] for i in span.rows[0].tolist()]) for span in text.spans]
    assert found == [(0, 2, [*"ace"]), (2, 3, [*"bce"]), (3, 5, [*"bbe"]), (5, 8, [*"abe"])]
    assert all(len(span.rows) == 1 and not span.weights for span in text.spans)


def test_a_cross_fade_mixes_in_its_own_latents_alone():
    spans = timed(FADES, CONSTANT).spans  # from 0.5 to 1.5 s
    assert [(span.start, span.stop, len(span.rows)) for span in spans] == [(0, 2, 1), (2, 6, 2), (6, 8, 1)]
    first, second = spans[1].weights
    torch.testing.assert_close(first, torch.tensor([[0.875, 0.625, 0.375, 0.125], [1, 1, 1, 1]]))
    torch.testing.assert_close(second, torch.tensor([[0.125, 0.375, 0.625, 0.875], [0, 0, 0, 0]]))


def test_a_route_is_attention_to_all_texts_by_weight():
    """Beside a reference that attends with every latent to every text."""
    prompts = [CUTS, OTHER_CUTS, FADES, CONSTANT]
    text, names = timed(*prompts), [*"abcde"]
    q = noise("q", len(prompts), len(CLOCK) * SPACE, HEADS, 6)
    k, v = (noise(name, len(text.texts), LENGTH, HEADS, 6) for name in "kv")
    order = [next(name for name in names if torch.equal(embed([name])[0], one)) for one in text.texts]
    for i, prompt in enumerate(prompts):
        expected = torch.zeros_like(q[i])
        for name, weight in zip(prompt.texts, prompt.weights(CLOCK.centres), strict=True):
            row = order.index(name)
            logits = torch.einsum("nhd,mhd->hnm", q[i], k[row]) / 6**0.5
            read = torch.einsum("hnm,mhd->nhd", logits.softmax(-1), v[row])
            expected += read * weight.float().repeat_interleave(SPACE)[:, None, None]
        torch.testing.assert_close(text.route(attend, q, k, v)[i], expected, rtol=0, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("grid", ["video", "time"])
def test_a_stream_reads_a_mixed_batch_as_its_samples_alone(grid):
    model = stream(grid=grid, patch_size=(1, 2, 2) if grid == "video" else (1, 1, 1))
    prompts = [CUTS, CONSTANT, FADES, OTHER_CUTS]
    latents, sigma = noise("x", 4, 4, len(CLOCK), 4, 4), torch.tensor([0.2, 0.5, 0.7, 0.9])
    if grid == "time":
        latents = latents[..., :1, :1]
    together = model(latents, sigma, timed(*prompts), CLOCK)
    assert together.std() > 0.1
    for i, prompt in enumerate(prompts):
        text = text_over_time([prompt], CLOCK, embed)
        assert isinstance(text, TimedText) == (prompt is not CONSTANT)
        one = slice(i, i + 1)
        torch.testing.assert_close(model(latents[one], sigma[one], text, CLOCK), together[one], rtol=0, atol=1e-5)
    other = model(latents, sigma, timed(CUTS, CONSTANT, FADES, CUTS), CLOCK)
    torch.testing.assert_close(other[:3], together[:3], rtol=0, atol=1e-5)
    assert not torch.allclose(other[3], together[3], atol=1e-3)


def test_every_text_learns_and_the_gradients_of_a_batch_are_those_of_its_samples():
    model, gradients = stream(), []
    latents, sigma = noise("x", 2, 4, len(CLOCK), 4, 4), torch.tensor([0.2, 0.5])
    for batches in ([[0, 1]], [[0], [1]]):
        model.zero_grad()
        for rows in batches:
            text = timed(*([FADES, OTHER_CUTS][i] for i in rows))
            model(latents[rows], sigma[rows], text).square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert any("text_embedder" in name and gradient.any() for name, gradient in gradients[0].items())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-4, atol=1e-4)


def test_samples_are_taken_with_the_texts_that_they_read():
    text = timed(CUTS, OTHER_CUTS, CONSTANT, FADES)
    part = text[torch.tensor([3, 1])]
    assert isinstance(part, TimedText) and len(part.texts) == 4  # a, b, c and d
    q, k = noise("q", 4, 8, HEADS, 6), noise("k", len(text.texts), LENGTH, HEADS, 6)
    kept = [next(i for i, one in enumerate(text.texts) if torch.equal(one, own)) for own in part.texts]
    whole, taken = text.route(attend, q, k, k), part.route(attend, q[[3, 1]], k[kept], k[kept])
    torch.testing.assert_close(taken, whole[[3, 1]], rtol=0, atol=1e-6)
    assert torch.equal(text[torch.tensor([2, 2])], embed(["e", "e"]))


def test_texts_are_laid_out_for_a_model_that_cannot_route():
    layers = timed(CUTS, FADES, CONSTANT).layers()
    assert torch.equal(layers[0][0], embed(["a", "a", "e"])) and torch.equal(layers[1][0], embed(["b", "d", "e"]))
    torch.testing.assert_close(layers[0][1] + layers[1][1], torch.ones(3, len(CLOCK)))
    assert layers[0][1][0].tolist() == [1, 1, 0, 0, 0, 1, 1, 1] and not layers[1][1][2].any()


def test_texts_are_moved_and_rounded_as_a_tensor_is():
    text = timed(CUTS).to("cpu", torch.bfloat16)
    assert text.dtype == torch.bfloat16 and torch.equal(text.texts, timed(CUTS).texts.bfloat16())
    moved = timed(CUTS).to("meta")
    assert moved.texts.is_meta and all(row.is_meta for span in moved.spans for row in span.rows)


def test_texts_of_another_length_are_refused():
    with pytest.raises(ValueError, match="over the time of 8 latents do not fit 4"):
        stream()(noise("x", 1, 4, 4, 4, 4), torch.tensor([0.5]), timed(CUTS))


def test_a_cut_at_a_centre_is_the_later_texts_wherever_a_window_begins():
    prompt = TimedPrompts((0.0, 0.3), ("a", "b"))
    clock = LatentClock((0.0, 0.2), (0.2, 0.4), 5.0)  # a centre at 0.3
    for start in (0.0, 0.1, 1 / 3, 0.7):
        moved = TimedPrompts((0.0, 0.3 + start), prompt.texts)
        assert [span.stop for span in timed(moved, clock=clock.shifted(start)).spans] == [1, 2]
