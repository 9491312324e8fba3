"""What a component is: class, settings and weights, and not how it was called for."""

from __future__ import annotations

import torch

from shared.codecs import LinearVideoCodec
from shared.encoders.audio import LogMel
from shared.utils.fingerprint import fingerprint


def test_equal_components_have_one_fingerprint() -> None:
    """diffusers notes which arguments were defaults, in an order that differs between processes."""
    assert fingerprint(LogMel()) == fingerprint(LogMel(n_mels=64))


def test_class_settings_and_weights_count() -> None:
    codec, other = LinearVideoCodec(latent_channels=4), LinearVideoCodec(latent_channels=4)
    with torch.no_grad():
        next(iter(other.state_dict().values())).add_(1)
    kinds = [LogMel(), LogMel(floor_db=-60.0), codec, other, LinearVideoCodec(latent_channels=5), torch.nn.Linear(1, 1)]
    assert len({fingerprint(kind) for kind in kinds}) == 6
    assert fingerprint(codec) == fingerprint(LinearVideoCodec(latent_channels=4))
    assert fingerprint(codec) != fingerprint(LinearVideoCodec(latent_channels=4).half())
