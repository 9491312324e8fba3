"""Blocks that are left out where a stream hardly changes: each stream by itself, each state of guidance by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import ContextParallelConfig
from diffusers.hooks import FirstBlockCacheConfig
from test_sampler import SIGMAS, latents, sampler
from tiny import CONFIG, inputs, rotary_arguments, transformer
from torch import Tensor

from ccl import StreamCacheConfig
from ccl.guidance import Form, Guidance
from ccl.routing import Task
from ccl.transformer import DualStreamTransformer, StreamInput, embed
from shared.utils.errors import UserError

ROUTE = Task.T2AV.route
NEVER, ALWAYS = 0.0, 1e9


def deep() -> DualStreamTransformer:
    return transformer(video=CONFIG["video"] | {"num_layers": 3}, audio=CONFIG["audio"] | {"num_layers": 3})


def moved(given: StreamInput, amount: float) -> StreamInput:
    return replace(given, latents=given.latents + amount)


@torch.no_grad()
def evaluated(model: DualStreamTransformer, *given: StreamInput, name: str = "c") -> dict[str, Tensor]:
    if not model.is_cache_enabled:
        return dict(zip(("video", "audio"), model(ROUTE, *given), strict=True))
    with model.cache_context(name):
        return dict(zip(("video", "audio"), model(ROUTE, *given), strict=True))


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def left_out(model: DualStreamTransformer) -> tuple[int, int]:
    return model.cache_evaluations.left_out["video"], model.cache_evaluations.left_out["audio"]


def test_thresholds_of_zero_leave_nothing_out_and_change_no_bit() -> None:
    model, (video, audio) = deep(), inputs()
    some = [(moved(video, x), moved(audio, x)) for x in (0.0, 0.01)]
    plain = [evaluated(model, *given) for given in some]
    model.enable_cache(StreamCacheConfig(NEVER, NEVER))
    assert all(same(evaluated(model, *given), one) for given, one in zip(some, plain, strict=True))
    assert left_out(model) == (0, 0) and model.cache_evaluations.all == {"video": 2, "audio": 2}
    model.disable_cache()
    assert same(evaluated(model, video, audio), plain[0]) and not model.is_cache_enabled


def test_an_unchanged_evaluation_gives_the_same_again() -> None:
    model, given = deep(), inputs()
    model.enable_cache(StreamCacheConfig())
    first = evaluated(model, *given)
    again = evaluated(model, *given)
    assert left_out(model) == (1, 1)
    for name, value in again.items():
        torch.testing.assert_close(value, first[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("runs", "is_left_out"), [("audio", "video"), ("video", "audio")])
def test_a_stream_that_runs_reads_the_other_as_it_was(runs: str, is_left_out: str) -> None:
    model, (video, audio) = deep(), inputs()
    thresholds = {runs: NEVER, is_left_out: ALWAYS}
    model.enable_cache(StreamCacheConfig(**thresholds))
    evaluated(model, video, audio)
    later = moved(video, 0.3), moved(audio, 0.3)
    found = evaluated(model, *later)
    assert model.cache_evaluations.left_out == {runs: 0, is_left_out: 1}
    model.disable_cache()
    assert same(found, by_hand(model, (video, audio), later, runs))
    assert not torch.allclose(found[runs], evaluated(model, *later)[runs], atol=1e-4)  # what was left out counts


@torch.no_grad()
def by_hand(
    model: DualStreamTransformer, before: tuple[StreamInput, StreamInput], later: tuple[StreamInput, StreamInput],
    runs: str,
) -> dict[str, Tensor]:  # fmt: skip
    """The second evaluation, block by block: the stream that `runs` reads what the other was in the first one."""
    streams = {"video": model.video_stream, "audio": model.audio_stream}
    rotary = rotary_arguments(model, *before)
    states = dict(zip(streams, map(embed, streams.values(), before), strict=True))
    reads, entered = [], {}
    for index, block in enumerate(model.blocks):
        read: dict[str, Tensor] = {}
        states = dict(zip(streams, block(*states.values(), ROUTE, rotary, read=read), strict=True))
        reads.append(read)
        entered = entered if index else {name: state.x for name, state in states.items()}
    rest = {name: state.x - entered[name] for name, state in states.items()}
    states = dict(zip(streams, map(embed, streams.values(), later), strict=True))
    states = dict(zip(streams, model.blocks[0](*states.values(), ROUTE, rotary), strict=True))
    other = "audio" if runs == "video" else "video"
    for block, read in zip(list(model.blocks)[1:], reads[1:], strict=True):
        key_value = getattr(block.fusion, runs).key_value(read[other])
        alone = {runs: states[runs], other: None}
        after = block(alone["video"], alone["audio"], ROUTE, rotary, **{f"cached_{other}": key_value})
        states[runs] = dict(zip(streams, after, strict=True))[runs]
    states[other] = states[other].with_x(states[other].x + rest[other])
    audio = model.audio_stream.head(states["audio"]).flatten(2).transpose(1, 2)
    return {"video": model.video_stream.head(states["video"]), "audio": audio}


def test_states_of_guidance_are_kept_apart_and_samples_too() -> None:
    model, guidance = deep(), Guidance(Form.DUAL, (2.0, 2.0), (3.0, 3.0))
    model.enable_cache(StreamCacheConfig(ALWAYS, ALWAYS))
    samples = []
    for _ in range(2):
        before = dict(model.cache_evaluations.all), left_out(model)
        one = sampler(model, Task.T2AV, guidance)
        with torch.no_grad():
            samples.append([one.velocity(latents(name), SIGMAS) for name in "xy"])
        assert model.cache_evaluations.all["video"] - before[0]["video"] == 6
        assert [now - then for now, then in zip(left_out(model), before[1], strict=True)] == [3, 3]
    assert all(map(same, *samples))
    model.disable_cache()
    with torch.no_grad():
        plain = sampler(model, Task.T2AV, guidance).velocity(latents("x"), SIGMAS)
    assert same(samples[0][0], plain)


def test_what_cannot_have_one_is_refused() -> None:
    model, given = deep(), inputs()
    with pytest.raises(ValueError, match=r"does not know two streams; ccl\.StreamCacheConfig is needed"):
        model.enable_cache(FirstBlockCacheConfig())
    model.enable_cache(StreamCacheConfig())
    with pytest.raises(ValueError, match="already"):
        model.enable_cache(StreamCacheConfig())
    with pytest.raises(ValueError, match="No cache context is set"):
        model(ROUTE, *given)
    other = transformer()
    other.context_group = object()
    with pytest.raises(ValueError, match="context parallel do not go together"):
        other.enable_cache(StreamCacheConfig())
    with pytest.raises(UserError, match="context parallel do not go together"):
        model.enable_parallelism(config=ContextParallelConfig(ulysses_degree=2))
    single = {name: CONFIG[name] | {"num_layers": 1} for name in ("video", "audio")}
    with pytest.raises(ValueError, match="the model has 1"):
        transformer(**single).enable_cache(StreamCacheConfig())
    for bad in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="audio threshold of a step cache"):
            StreamCacheConfig(audio=bad)
