from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from perception import carphone, need_model, spoken_lines
from torchaudio.models import HDemucs

from mtv.demix import residual_dbfs, si_sdr
from mtv.separation import DEMIXERS, DemucsDemixer, Stems, StemsDemixer, demixer
from mtv.separation_dsp import find_clicks, split_rest
from shared.data.media import read_audio, write_audio
from shared.perception import spleeter
from shared.puppets.script import sample_spec
from shared.puppets.sound import synthesise
from shared.utils.errors import UserError
from shared.utils.rng import numpy_generator

TINY = {"channels": 4, "depth": 5, "nfft": 1024}


def stage_stems(index: int, level: str = "simple") -> dict[str, np.ndarray]:
    """True tracks, [1, N] each."""
    stems = synthesise(sample_spec(5, index, level))
    speech = sum(stem for name, stem in stems.items() if name.startswith("speech"))
    return {"speech": speech[None], "effects": stems["effects"][None], "music": stems["music"][None]}


@pytest.fixture(scope="module")
def stems() -> dict[str, np.ndarray]:
    """A clip in which all three sound."""
    return next(found for found in map(stage_stems, range(20)) if all(stem.any() for stem in found.values()))


@pytest.mark.parametrize(
    ("rate", "shape"), [(16000, (1, 16000)), (44100, (2, 30001)), (48000, (2, 48000)), (16000, (1, 1))]
)
def test_dsp_tracks_sum_to_the_mix(rate: int, shape: tuple[int, int]) -> None:
    mix = numpy_generator(0, "mix", *shape).uniform(-0.5, 0.5, shape).astype(np.float32)
    tracks = demixer("dsp").separate(mix, rate)
    assert tracks.rate == rate
    assert all(track.shape == shape and track.dtype == np.float32 for _, track in tracks.items())
    np.testing.assert_allclose(tracks.speech + tracks.effects + tracks.music, mix, atol=1e-4)


def test_dsp_of_silence_is_silence() -> None:
    tracks = demixer("dsp").separate(np.zeros((2, 20000), np.float32), 16000)
    assert not any(track.any() for _, track in tracks.items())


def test_dsp_separates_the_stage_better_than_the_mix_does() -> None:
    clips = [found for found in map(stage_stems, range(10)) if all(stem.any() for stem in found.values())][:3]
    gains: dict[str, list[float]] = {"speech": [], "effects": [], "music": []}
    for stems in clips:
        mix = sum(stems.values())
        for name, track in demixer("dsp").separate(mix, 16000).items():
            gains[name].append(si_sdr(track, stems[name]) - si_sdr(mix, stems[name]))
    means = {name: np.mean(values) for name, values in gains.items()}
    assert len(clips) == 3
    assert means["speech"] > 10 and means["effects"] > 3 and means["music"] > 10, means


def test_dsp_leaves_little_on_a_track_that_is_silent(stems: dict[str, np.ndarray]) -> None:
    for absent, most in (("speech", -45), ("effects", -90), ("music", -55)):
        mix = sum(stem for name, stem in stems.items() if name != absent)
        assert residual_dbfs(dict(demixer("dsp").separate(mix, 16000).items())[absent]) < most, absent


def test_dsp_keeps_sources_where_they_are_in_stereo(stems: dict[str, np.ndarray]) -> None:
    left, right = stems["effects"] + stems["music"], stems["speech"]
    tracks = demixer("dsp").separate(np.concatenate([left, right]).astype(np.float32), 16000)
    assert (tracks.speech[1] ** 2).sum() > 10 * (tracks.speech[0] ** 2).sum()
    assert (tracks.effects[0] ** 2).sum() > 10 * (tracks.effects[1] ** 2).sum()


def test_what_is_left_of_a_voice_is_parted_into_hits_and_music() -> None:
    gains: dict[str, list[float]] = {"effects": [], "music": []}
    clips = [found for found in map(stage_stems, range(10)) if all(stem.any() for stem in found.values())][:3]
    for stems in clips:
        rest = stems["effects"] + stems["music"]
        tracks = dict(zip(("effects", "music"), split_rest(rest, 16000), strict=True))
        np.testing.assert_allclose(sum(tracks.values()), rest, atol=1e-6)
        for name, track in tracks.items():
            gains[name].append(si_sdr(track, stems[name]) - si_sdr(rest, stems[name]))
    assert np.mean(gains["effects"]) > 5 and np.mean(gains["music"]) > 10, gains


def test_spleeter_finds_the_speech_and_its_rest_is_parted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that hears the voice exactly: no hit is left in the music before the first one."""
    stems = next(found for found in map(stage_stems, range(10)) if all(stem.any() for stem in found.values()))
    two = {"speech": stems["speech"], "others": stems["effects"] + stems["music"]}
    monkeypatch.setattr(spleeter, "check", lambda: None)
    monkeypatch.setattr(spleeter, "two_tracks", lambda mix, rate, device: two)
    mix = sum(stems.values())
    tracks = demixer("spleeter").separate(mix, 16000)
    assert np.array_equal(tracks.speech, stems["speech"])
    np.testing.assert_allclose(tracks.speech + tracks.effects + tracks.music, mix, atol=1e-6)
    assert si_sdr(tracks.music, stems["music"]) > 10 and si_sdr(tracks.effects, stems["effects"]) > 10
    with pytest.raises(UserError, match="demixer spleeter: sound at 8000 Hz; at least 16000 Hz is needed"):
        demixer("spleeter").separate(np.zeros((1, 80), np.float32), 8000)


@pytest.mark.slow
def test_recorded_speech_is_kept_by_spleeter_and_broken_by_dsp() -> None:
    """Lines of LibriVox, alone and under the music of a film as loud: docs/mtv.md."""
    need_model("spleeter", "torch")
    lines = [read_audio(file, 16000, True) for file in sorted(spoken_lines())]
    music = read_audio(carphone().with_name("bigbuckbunny.mp4"), 16000, True)[0]
    kept: dict[str, dict[str, float]] = {"alone": {}, "under music": {}}
    for name in ("dsp", "spleeter"):
        separate = demixer(name).separate
        kept["alone"][name] = float(np.mean([si_sdr(separate(line, 16000).speech, line) for line in lines]))
        scores = []
        for line in lines:
            under = np.resize(music, line.shape).astype(np.float32)
            mix = line + under * np.sqrt((line**2).mean() / (under**2).mean())
            scores.append(si_sdr(separate(mix, 16000).speech, line))
        kept["under music"][name] = float(np.mean(scores))
    print({case: {name: round(value, 1) for name, value in found.items()} for case, found in kept.items()})
    assert kept["alone"]["spleeter"] > 20 > 0 > kept["alone"]["dsp"]
    assert kept["under music"]["spleeter"] > 1 > -2 > kept["under music"]["dsp"]


def test_clicks_are_found_where_the_hits_are() -> None:
    for index in range(3):
        spec = sample_spec(5, index)
        onsets = np.sort([onset for prop in spec.props for onset in prop.onsets])
        found = find_clicks(sum(stage_stems(index).values()).astype(np.float64), 16000)
        assert len(found) == len(onsets)
        np.testing.assert_allclose(found, onsets, atol=0.015)


def test_dsp_refuses_a_low_rate() -> None:
    with pytest.raises(UserError, match="8000 Hz; at least 16000"):
        demixer("dsp").separate(np.zeros((1, 8000), np.float32), 8000)


@pytest.mark.parametrize("mix", [np.zeros(8, np.float32), np.zeros((3, 8), np.float32), np.full((1, 8), np.nan, "f4")])
def test_a_mix_of_another_form_is_a_mistake_of_the_program(mix: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a mix"):
        demixer("dsp").separate(mix, 16000)


def test_tracks_have_one_shape() -> None:
    with pytest.raises(ValueError, match="music is float32"):
        Stems(np.zeros((1, 4), "f4"), np.zeros((1, 4), "f4"), np.zeros((1, 5), "f4"), 16000)


def test_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UserError, match="'magic' is unknown; the known ones are dsp, spleeter, demucs-cdx23, stems"):
        demixer("magic")
    assert all(kind.name == name for name, kind in DEMIXERS.items())


def save_demucs(path: Path, seed: int, sources: tuple[str, ...] = ("music", "effect", "dialog")) -> torch.nn.Module:
    """A random model in the form of demucs' own checkpoints."""
    torch.manual_seed(seed)
    model = HDemucs(list(sources), **TINY)
    torch.save({"klass": HDemucs, "args": (list(sources),), "kwargs": TINY, "state": model.state_dict()}, path)
    return model.eval()


def test_demucs_order_mean_rate_and_channels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / "a.th", tmp_path / "b.th"]
    models = [save_demucs(path, seed) for seed, path in enumerate(paths)]
    separator = demixer("demucs-cdx23", checkpoints=paths)
    said = capsys.readouterr().out
    assert all(f"{path}: opening a pickle because you named it" in said for path in paths)
    for model in separator.models:
        model.segment = 0.5  # so that three windows cross-fade
    draw = numpy_generator(0, "demucs")
    short = draw.uniform(-0.5, 0.5, (2, 20000)).astype(np.float32)
    window = torch.nn.functional.pad(torch.from_numpy(short), (0, 2050))[None]
    with torch.inference_mode():
        wanted = torch.stack([model(window)[0, ..., :20000] for model in models]).mean(0).numpy()
    tracks = separator.separate(short, 44100)
    for name, track in zip(("music", "effects", "speech"), wanted, strict=True):
        np.testing.assert_allclose(dict(tracks.items())[name], track, atol=1e-5)
    long = draw.uniform(-0.5, 0.5, (1, 16001)).astype(np.float32)
    tracks = separator.separate(long, 16000)
    assert all(track.shape == (1, 16001) and np.isfinite(track).all() for _, track in tracks.items())
    assert tracks.speech[0, -2000:].any()


def test_demucs_windows_cover_everything_once(tmp_path: Path) -> None:
    save_demucs(tmp_path / "a.th", 0)
    separator = DemucsDemixer([tmp_path / "a.th"], tell=lambda line: None)
    thirds = torch.tensor([0.2, 0.3, 0.5])[:, None, None]

    class Shares(torch.nn.Module):
        segment = 0.25

        def forward(self, sound: torch.Tensor) -> torch.Tensor:
            return sound[:, None] * thirds

    separator.models = [Shares()]
    mix = numpy_generator(0, "shares").uniform(-0.5, 0.5, (2, 50000)).astype(np.float32)
    tracks = separator.separate(mix, 44100)
    np.testing.assert_allclose(tracks.speech, 0.5 * mix, atol=1e-6)
    np.testing.assert_allclose(tracks.music, 0.2 * mix, atol=1e-6)


def test_demucs_bad_checkpoints(tmp_path: Path) -> None:
    def make(path: Path) -> None:
        DemucsDemixer([path], tell=lambda line: None)

    with pytest.raises(UserError, match="no checkpoint"):
        DemucsDemixer([])
    with pytest.raises(UserError, match=r"gone\.th: no such checkpoint"):
        make(tmp_path / "gone.th")
    (tmp_path / "text.th").write_text("not a model")
    (tmp_path / "cut.th").write_bytes(b"\x80\x02c__builtin__\nint\nX\x01\x00\x00\x00x\x85R.")  # int("x")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.th")
    for name in ("text.th", "cut.th", "other.th"):
        with pytest.raises(UserError, match=f"{name}: not a checkpoint of demucs"):
            make(tmp_path / name)
    save_demucs(tmp_path / "nan.th", 0)
    package = torch.load(tmp_path / "nan.th", weights_only=False)
    name, weight = next(iter(package["state"].items()))
    weight.view(-1)[0] = float("nan")
    torch.save(package, tmp_path / "nan.th")
    with pytest.raises(UserError, match=rf"nan\.th: the weight {name} holds NaN or infinity"):
        make(tmp_path / "nan.th")
    save_demucs(tmp_path / "four.th", 0, ("drums", "bass", "other", "vocals"))
    with pytest.raises(UserError, match=r"four\.th: a model of 4 sources"):
        make(tmp_path / "four.th")


def test_without_demucs_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "demucs", None)
    path = tmp_path / "model.th"
    path.write_bytes(b"cdemucs.htdemucs\nHTDemucs\n.")
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(path.read_bytes())
    with pytest.raises(UserError, match=r"needs the package demucs.*pip install .*demucs"):
        DemucsDemixer([path], tell=lambda line: None)


def write_stems(folder: Path, *lengths: int, channels: tuple[int, ...] = (1, 1, 1)) -> list[Path]:
    paths = [folder / f"{name}.wav" for name in ("speech", "effects", "music")]
    for level, (path, length, count) in enumerate(zip(paths, lengths, channels, strict=True), start=1):
        write_audio(path, np.full((count, length), level / 8, np.float32), 16000)
    return paths


def test_stems_are_the_files_fitted_to_the_mix(tmp_path: Path) -> None:
    separator = StemsDemixer(*write_stems(tmp_path, 16000, 15500, 16000, channels=(1, 2, 1)))
    tracks = separator.separate(np.zeros((2, 16100), np.float32), 16000)
    assert tracks.speech.shape == (2, 16100)
    np.testing.assert_array_equal(tracks.speech[:, :16000], np.float32(1 / 8))
    np.testing.assert_array_equal(tracks.effects[:, :15500], np.float32(2 / 8))
    assert not tracks.effects[:, 15500:].any() and not tracks.music[:, 16000:].any()
    assert separator.read(8000, mono=True).music.shape == (1, 8000)


def test_stems_that_do_not_fit_are_named(tmp_path: Path) -> None:
    separator = StemsDemixer(*write_stems(tmp_path, 16000, 15000, 16000))
    with pytest.raises(UserError, match=r"effects\.wav 0\.938 s.*one frame, 0\.042 s"):
        separator.read(16000)
    separator = StemsDemixer(*write_stems(tmp_path, 16000, 16000, 16000))
    with pytest.raises(UserError, match=r"music\.wav: last 1\.000 s, the mix 2\.000 s"):
        separator.separate(np.zeros((1, 32000), np.float32), 16000)
    with pytest.raises(UserError, match="-1 frames per second"):
        StemsDemixer(*separator.files, fps=-1)
