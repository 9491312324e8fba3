"""Models of a run without values: their sizes are those of training, and what stands for absent components."""

from __future__ import annotations

from pathlib import Path

import pytest

from ccl.training.meta_run import MetaModels, forecast_components, layers_of
from shared.utils.config import TrainConfig

ROOT = Path(__file__).parents[3]


def load(name: str, *overrides: str) -> TrainConfig:
    return TrainConfig.load(ROOT / f"configs/train/{name}.yaml", list(overrides))


def test_a_recipes_components_are_told_by_its_model() -> None:
    config = load("ccl_wan1.3b_joint")
    known = forecast_components(config)
    assert (known.codecs.video.latent_channels, known.codecs.audio.latent_channels, known.text.dim) == (16, 128, 4096)
    models = MetaModels(config, known, layers_of(config)[0])
    assert sum(p.numel() for p in models.parameters()) == 2_981_798_592 and models.patch == (2, 2)
    assert models.learns == 1.0 and all(p.is_meta for p in models.parameters())


def test_the_embedded_ones_are_the_default_and_named_ones_are_looked_up() -> None:
    clips = "data.manifest=clips"
    embedded = forecast_components(load("puppets_tiny", clips))
    assert (embedded.codecs.video.latent_channels, embedded.text.dim) == (48, 128)
    named = forecast_components(load("puppets_tiny", clips, f"codecs={ROOT / 'assets/codecs'}"))
    assert named.codecs.video.latent_channels == 48


def test_frozen_towers_leave_what_joins_them(depth: int = 2) -> None:
    config = load("ccl_wan1.3b_joint", "trainable=[fusion]")
    models = MetaModels(config, forecast_components(config), depth)
    learning = {name for name, p in models.named_parameters() if p.requires_grad}
    assert learning and all(".fusion." in name for name in learning)
    assert models.learns == pytest.approx(143_608_320 / 2_981_798_592, rel=0.5)
