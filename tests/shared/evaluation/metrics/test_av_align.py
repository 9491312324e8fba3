"""AV-Align as its authors' script computes it."""

from __future__ import annotations

import numpy as np
import pytest
from media import Media, puppet
from perception import need_model

from shared.evaluation.metrics import av_align
from shared.evaluation.metrics.av_align import AVAlign, flow_peaks, intersection_over_union
from shared.evaluation.metrics.base import Tools
from shared.perception import installed
from shared.utils.errors import UserError


def test_a_clip_has_the_number_of_the_public_script() -> None:
    """It was run with OpenCV 5.0 and librosa 0.11 on the same arrays: 10 onsets, 8 peaks, 4 of them matched."""
    need_model("", "cv2")
    result = AVAlign.of(Tools()).clip(puppet(1, 4))
    assert len(result.facts["onsets_s"]) == 10 and len(result.facts["flow_peaks_s"]) == 8
    assert result.value == pytest.approx(4 / 14)


def test_every_local_maximum_of_enough_flow_is_a_peak() -> None:
    flow = np.array([0.5, 0.2, 0.3, 0.25, 0.05, 0.09, 0.05, 0.4, 0.4, 0.2, 0.6])
    assert flow_peaks(flow, 10.0).tolist() == [0.2]


def test_each_onset_takes_the_first_free_peak_within_a_frame() -> None:
    onsets, peaks = np.array([1.0, 1.02, 1.04, 3.0]), np.array([0.95, 1.05, 2.9])
    assert intersection_over_union(onsets, peaks, 0.1) == pytest.approx(2 / 5)
    assert intersection_over_union(onsets, peaks, 0.11) == pytest.approx(3 / 4)
    assert intersection_over_union(onsets[:0], peaks[:0], 0.1) == 0
    assert intersection_over_union(np.array([1.0]), np.array([1.125]), 0.125) == 0  # just one frame away


def test_two_frames_have_no_peak_between_them_and_without_opencv_it_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clip = Media(np.zeros((2, 8, 8, 3), np.uint8), 10.0, np.zeros(3200, np.float32), 16000)
    assert AVAlign().clip(clip).refused == "fewer than 3 frames"
    monkeypatch.setattr(installed, "import_module", _missing)
    with pytest.raises(UserError, match="av_align needs the package opencv-python-headless, which is not installed"):
        av_align.AVAlign.of(Tools())


def _missing(name: str) -> None:
    raise ModuleNotFoundError(name=name)
