"""A step cache is asked for by thresholds, and told what is evaluated; a model without one is told nothing."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from tiny import transformer

from shared.nn.cache_context import StreamCacheConfig, begin_sample, cache_steps, evaluation
from shared.utils.errors import UserError


def test_without_a_cache_nothing_is_told() -> None:
    for model in (object(), transformer(), SimpleNamespace(transformer=transformer())):
        begin_sample(model)
        with evaluation(model, "c") as told:
            assert told is None


def test_evaluations_are_named_until_the_next_sample() -> None:
    model = transformer()
    cache_steps(model, (0.2, 0.0))
    assert model._cache_config == StreamCacheConfig(video=0.2, audio=0.0)
    states = model.blocks[0]._diffusers_hook.get_hook("stream_cache").states
    for held in (model, SimpleNamespace(transformer=model)):
        with evaluation(held, "c"):
            states.get_state().rest["video"] = None
        with evaluation(held, "0c"):
            assert not states.get_state().rest
        begin_sample(held)
        with evaluation(held, "c"):
            assert not states.get_state().rest


def test_what_cannot_be_is_one_line() -> None:
    model = transformer()
    cache_steps(model, None)
    assert not model.is_cache_enabled
    with pytest.raises(UserError, match="--step-cache: the video threshold of a step cache is -1"):
        cache_steps(model, (-1.0, 0.0))
