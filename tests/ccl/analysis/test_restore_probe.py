"""The probe of restoring, with predictions that are right and with none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ccl.analysis import restore_probe
from ccl.analysis.loss_probes import encode
from ccl.analysis.restore_probe import RestoreProbe
from scripts.make_puppets import main as make_puppets
from shared.checkpoint.registry import find_component, load_component
from shared.data.dataset import ClipDataset
from shared.data.manifest import read_manifest
from shared.encoders import HashedWords
from shared.puppets.clip import read_truth
from shared.utils.config import Flow

CODECS = Path(__file__).parents[3] / "assets/codecs"


def test_what_is_spoilt_below_a_level_is_seen_at_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--clips", "2", "--output", str(tmp_path), "--seed", "5", "--seconds", "1", "--workers", "1", "--lossless"]
    make_puppets([*words, "--level", "simple"])
    clips = read_manifest(tmp_path)
    truths = {clip.id: read_truth(clip.truth) for clip in clips if clip.truth}
    codecs = {name: load_component(find_component(name, CODECS)) for name in ("video_codec", "audio_codec")}
    config, model = SimpleNamespace(fps=16.0), SimpleNamespace(dtype=torch.float32)
    pipeline: Any = SimpleNamespace(
        **codecs, text_encoder=HashedWords(), config=config, device=torch.device("cpu"), transformer=model
    )
    batches = encode(ClipDataset(clips, 16.0, (64, 64), 16000), pipeline, 4)
    clean, right = {name: getattr(batches[0], name) for name in ("video", "audio")}, True

    class Predicting:
        def __init__(self, *given: Any) -> None:
            pass

        def velocity(self, latents: dict[str, Any], sigmas: dict[str, float]) -> dict[str, Any]:
            """Exact, or none."""
            return {name: (x - clean[name]) / sigmas[name] if right else 0 * x for name, x in latents.items()}

    monkeypatch.setattr(restore_probe, "JointSampler", Predicting)
    monkeypatch.setattr(restore_probe, "LEVELS", (0.05, 0.3, 1.0))
    probe = RestoreProbe(pipeline, Flow(video_shift=4.0, audio_shift=3.0), truths, 6, 0)
    found = probe.measure(batches)
    assert set(found) == {"codec", "0.05", "0.3", "1"} and set(found["codec"]["rest"]["per_clip"]) == set(truths)
    for regions in found.values():
        for name, one in regions.items():
            assert one["mean"] == pytest.approx(found["codec"][name]["mean"], abs=0.2)
    right = False
    spoilt = [probe.measure(batches)[name]["rest"]["mean"] for name in ("codec", "0.05", "0.3", "1")]
    assert spoilt[0] == found["codec"]["rest"]["mean"] and spoilt[0] - 1 > spoilt[1] > spoilt[2] + 3 > spoilt[3] + 6
