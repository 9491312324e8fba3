from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from shared.curation.config import DemixConfig
from shared.curation.demixing import compare, demix
from shared.curation.record import Audio, Context, Record, Tools
from shared.curation.stages import check_installed
from shared.data.media import read_audio
from shared.data.media_write import write_audio
from shared.perception import installed
from shared.utils.errors import UserError

RATE = 16000
RNG = np.random.default_rng(0)
SPEECH, EFFECTS, MUSIC = (RNG.normal(0, 0.1, (1, 2 * RATE)).clip(-1, 1).astype(np.float32) for _ in range(3))
NONE = np.zeros_like(SPEECH)


def tracks(speech: Audio = SPEECH, effects: Audio = EFFECTS, music: Audio = MUSIC) -> dict[str, Audio]:
    return {"speech": speech, "effects": effects, "music": music}


def fake(name: str, checkpoints: Sequence[Path], device: str, mix: Audio, rate: int) -> Mapping[str, Audio]:
    """Two demixers that agree of a clip without effects: one hears too little speech, and one a little noise."""
    if name == "dsp":
        return tracks(effects=NONE + 1e-4)
    return tracks(SPEECH * np.float32(0.9), NONE, MUSIC if len(checkpoints) < 2 else -MUSIC)


def found(tmp_path: Path, **settings: object):  # type: ignore[no-untyped-def]
    write_audio(tmp_path / "mix.wav", SPEECH + MUSIC, RATE)
    config = DemixConfig.model_validate({"demix": {"demixer": "dsp"} | settings})
    context = Context(config, tmp_path, Tools(fake, None))  # type: ignore[arg-type]
    return demix(Record("k", tmp_path / "mix.wav", "k", 0.5, 1.5), context)


def test_tracks_are_written_and_silent_ones_are_exact_zeros(tmp_path: Path) -> None:
    finding = found(tmp_path)
    assert finding.verdict == "keep" and finding.figures["silent"] == ["effects"]
    assert finding.figures["levels_dbfs"]["speech"] == pytest.approx(-20, abs=0.2)
    files = {name: read_audio(tmp_path / f"tracks/k/{name}.wav", RATE) for name in tracks()}
    assert not files["effects"].any() and np.abs(files["music"] - MUSIC).max() < 1e-4


@pytest.mark.parametrize(("files", "verdict"), [(["a.th"], "keep"), (["a.th", "b.th"], "drop")])
def test_two_demixers_must_agree_on_what_can_be_compared(tmp_path: Path, files: list[str], verdict: str) -> None:
    finding = found(tmp_path, second="demucs-cdx23", second_checkpoints=files)
    assert finding.verdict == verdict and set(finding.figures["l1"]) == {"speech", "music"}
    if verdict == "drop":
        assert finding.cause == "demixers differ" and "dsp and demucs-cdx23 differ in music by 1.4" in finding.reason
        assert not (tmp_path / "tracks").exists()


def test_spleeter_is_a_second_demixer_that_needs_no_checkpoints(tmp_path: Path) -> None:
    finding = found(tmp_path, second="spleeter")
    assert finding.verdict == "keep" and finding.figures["l1"]["music"] < 0.01 < finding.figures["l1"]["speech"]
    finding = found(tmp_path, second="spleeter", most_l1=0.01)
    assert finding.verdict == "drop" and "dsp and spleeter differ in speech by 0.0" in finding.reason


def test_missing_weights_of_spleeter_are_told_before_anything_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installed, "folders", lambda: (tmp_path,))
    for settings in ({}, {"demixer": "dsp", "second": "spleeter"}):
        config = DemixConfig.model_validate({"demix": settings})
        with pytest.raises(UserError, match=r"spleeter: its weights .* are not installed; run `make perception`"):
            check_installed(config, {"demix"})
        check_installed(config, {"cut"})
    check_installed(DemixConfig.model_validate({"demix": {"demixer": "dsp"}}), {"demix"})


def test_only_pairs_that_say_the_same_are_compared() -> None:
    mix = SPEECH + EFFECTS + MUSIC
    assert compare(tracks(), tracks(), mix) == {"speech": 0.0}
    others = tracks(music=NONE)
    assert compare(tracks(music=NONE), others, mix) == {"speech": 0.0, "effects": 0.0}
    assert compare(tracks(effects=NONE), others, mix)["music"] > 0.5
    assert compare(tracks(music=NONE), tracks(effects=EFFECTS - MUSIC), mix)["effects"] == pytest.approx(0, abs=1e-6)
    half = compare(tracks(), tracks(speech=SPEECH / np.float32(2)), SPEECH)
    assert half["speech"] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"demixer": "demucs-cdx23"}, "needs the MVSEP-CDX23 .th files"),
        ({"checkpoints": ["a.th"]}, "spleeter takes none"),
        ({"second": "spleeter"}, "compared with itself"),
        ({"second": "demucs-cdx23"}, "needs the MVSEP-CDX23 .th files"),
        ({"second": "spleeter", "second_checkpoints": ["a.th"]}, "spleeter takes none"),
    ],
)
def test_demixers_without_their_weights_are_refused(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DemixConfig.model_validate({"demix": settings})
