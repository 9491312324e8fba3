"""Mouths: of real faces, over frames in which they are missed; and of the puppets, without their captions."""

from __future__ import annotations

import numpy as np
import pytest
from media import Media, puppet
from perception import carphone, need_model

from shared.data.media import read_video
from shared.evaluation.metrics.lip_sync import LipSync
from shared.evaluation.metrics.mouths import filled, from_landmarks, from_puppets
from shared.perception.faces import EYES, LIPS, FaceTrack


def test_missed_frames_are_filled_and_absence_is_nothing() -> None:
    mesh = np.full((6, 468, 3), np.nan)
    for frame, opening in ((1, 10.0), (3, 20.0)):
        mesh[frame] = 0
        mesh[frame, EYES[1]] = (100, 0, 0)
        for upper, lower in LIPS:
            mesh[frame, upper], mesh[frame, lower] = 0, (0, opening, 0)
    track = FaceTrack(np.full((6, 4), np.nan), mesh)
    assert filled(track) == pytest.approx([0, 0.1, 0.15, 0.2, 0, 0])


def test_puppets_are_found_without_a_caption() -> None:
    clip = puppet(1, 2)
    found = from_puppets(clip)
    assert found.found == 1 and found.faces >= 1 and len(found.opening) == 32 and found.opening.std() > 0.05
    empty = Media(np.full_like(clip.pictures, 200), clip.fps, clip.sound, clip.rate)
    assert from_puppets(empty).faces == 0


def test_without_a_face_there_is_none() -> None:
    need_model("face landmarks", "ai_edge_litert.interpreter")
    wall = Media(np.full((5, 40, 40, 3), 180, np.uint8), 25.0, np.zeros(3200, np.float32), 16000)
    assert from_landmarks(wall)[2:] == (0, 0.0)


@pytest.mark.slow
def test_a_talking_head_is_in_sync_with_a_voice_made_from_its_lips() -> None:
    """No talking head with sound is in a package: a voice as loud as the lips are open stands for it, 160 ms late."""
    need_model("face landmarks", "ai_edge_litert.interpreter")
    need_model("", "silero_vad")
    frames, rate, late = read_video(carphone(), 30)[45:105], 16000, 0.16
    silent = Media(frames, 30.0, np.full(2 * rate, 0.1, np.float32), rate)
    mouths = from_landmarks(silent)
    assert mouths.faces == 1 and mouths.found == 1
    loud = np.interp(np.arange(2 * rate) / rate - late, np.arange(len(mouths.opening)) / mouths.fps, mouths.opening)
    voice = (loud * np.random.default_rng(0).standard_normal(2 * rate)).astype(np.float32)
    result = LipSync().clip(Media(frames, 30.0, voice, rate, voice=voice))
    assert result.facts["lag_ms"] == pytest.approx(1000 * late, abs=40) and result.value and result.value > 0.8
    assert LipSync().clip(Media(frames, 30.0, voice, rate)).refused == "nobody speaks"  # by the voice detector
