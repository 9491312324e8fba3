"""What probe.py prints of its numbers; the numbers themselves: tests/scripts/test_probe.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ccl.analysis.probe import JointProbe, ProbeSettings, headlines
from shared.codecs import LinearAudioCodec
from shared.encoders import HashedWords
from shared.utils.errors import UserError

SETTINGS = ProbeSettings(("loss",), levels=2, sampled=2, steps=1, batch=2, seed=0, pictures=None)


def test_every_number_has_its_line() -> None:
    one = {"mean": 0.5, "interval": [0.25, 0.75]}
    result = {
        "loss": {"t2av": {"video": one, "joint": {"mean": None}}},
        "leakage": {"a2v": one},
        "attention": {"audio": {"background": {"lct": 0.25, "even": {}}, "foreground": {"right_time": 0.5}}},
        "model": {"cross_modal_flops": 1234567},
    }
    assert [" ".join(line.split()) for line in headlines(result)] == [
        "loss t2av video +0.5000 [+0.2500, +0.7500]",
        "leakage a2v +0.5000 [+0.2500, +0.7500]",
        "attention audio background: lct 0.250",
        "attention audio foreground: right time 0.500",
        "model cross modal flops 1,234,567",
    ]


def test_towers_of_other_latents_are_refused() -> None:
    def pipeline(channels: int) -> SimpleNamespace:
        parts = {"video_codec": LinearAudioCodec(channels), "audio_codec": LinearAudioCodec(8)}
        return SimpleNamespace(**parts, text_encoder=HashedWords())

    with pytest.raises(UserError, match="--against: its video_codec is another one"):
        JointProbe(pipeline(8), [], {}, SETTINGS, pipeline(4))  # type: ignore[arg-type]
