from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.data.manifest import read_manifest, write_manifest
from shared.data.media import probe, read_audio, read_video
from shared.puppets import picture
from shared.puppets.choices import Choices, Mixture
from shared.puppets.clip import (
    CUT_FADE,
    PuppetClip,
    Spec,
    audio_caption,
    caption,
    make_clips,
    read_truth,
    render_clip,
    render_show,
    sample_spec,
)
from shared.puppets.picture import FLASH_DECAY, MOUTH_HALF_WIDTH, ball_height, scene_to_pixels
from shared.puppets.script import FIRST_ONSET, LAST_ONSET, ONSET_GAP
from shared.puppets.shows import sample_show
from shared.puppets.sound import mouth_opening
from shared.utils.errors import UserError

RATE = 16000
SIMPLE = [sample_spec(0, index) for index in range(60)]
FULL = [sample_spec(0, index, "full") for index in range(150)]
PERSON = r"(an offscreen (man|woman)|a (man|woman)( in a (red|green|blue|yellow) shirt)?( on the (left|right))?)"
TEMPLATE = re.compile(
    rf"((One person conversation\. Person1: {PERSON}\.|"
    rf"Two person conversation\. Person1: {PERSON}\. Person2: {PERSON}\.)"
    r"( Person1 is speaking\.)?( Person2 is speaking\.)? )?Scene description: [a-z ]+\."
)


def pixel(clip: PuppetClip, place: list[float]) -> np.ndarray:
    column, row = scene_to_pixels(*place, size=clip.frames.shape[1:3])
    return clip.frames[:, int(row), int(column)].astype(float)


def band(sound: np.ndarray, low: float, high: float) -> np.ndarray:
    spectrum = np.fft.rfft(sound.astype(float))
    frequency = np.fft.rfftfreq(len(sound), 1 / RATE)
    spectrum[(frequency < low) | (frequency > high)] = 0
    return np.fft.irfft(spectrum, len(sound))


def test_same_seed_same_bits_another_seed_another_clip() -> None:
    first, again = (render_clip(sample_spec(3, 5, "full")) for _ in range(2))
    assert np.array_equal(first.frames, again.frames) and np.array_equal(first.mix, again.mix)
    assert first.truth == again.truth
    other = sample_spec(4, 5, "full")
    assert other.id != first.truth["id"] and other != sample_spec(3, 5, "full")


def test_size_changes_the_picture_only() -> None:
    small, wide = render_clip(sample_spec(0, 1)), render_clip(sample_spec(0, 1, size=(48, 96)))
    assert wide.frames.shape == (32, 48, 96, 3)
    assert np.array_equal(small.mix, wide.mix) and small.caption == wide.caption


@pytest.mark.parametrize("specs", [SIMPLE, FULL], ids=["simple", "full"])
def test_captions_follow_the_template_and_never_tell_times(specs: list[Spec]) -> None:
    for spec in specs:
        assert TEMPLATE.fullmatch(caption(spec)), caption(spec)
        assert re.fullmatch(r"[A-Z][a-z ]+\.", audio_caption(spec)), audio_caption(spec)


def test_the_captions_of_the_design() -> None:
    spec = next(s for s in SIMPLE if s.characters and s.characters[0].syllables and s.props and s.music)
    prop = replace(
        spec.props[0],
        kind="ball",
        size="big",
        colour="red",
        onsets=(0.5, 1.2),
        mentioned=("size", "colour", "count"),
    )
    person = replace(spec.characters[0], kind="man", shirt="red", side="left")
    clip = render_clip(replace(spec, props=(prop,), characters=(person,), mood="warm bright"))
    assert clip.caption == (
        "One person conversation. Person1: a man in a red shirt on the left. "
        "Person1 is speaking. Scene description: a big red ball bounces twice under a warm bright light."
    )
    assert clip.audio_caption == "A man speaks while a big red ball bounces twice with warm bright music."


@pytest.mark.parametrize("specs", [SIMPLE, FULL], ids=["simple", "full"])
def test_onsets_keep_their_distances(specs: list[Spec]) -> None:
    for spec in specs:
        onsets = np.sort([onset for prop in spec.props for onset in prop.onsets])
        assert all(prop.onsets for prop in spec.props)
        if len(onsets):
            assert onsets[0] >= FIRST_ONSET and onsets[-1] <= spec.duration - LAST_ONSET
            assert np.diff(onsets).min(initial=9) >= ONSET_GAP - 1e-9


@pytest.mark.parametrize("spec", [*SIMPLE[:12], *FULL[:6]], ids=lambda spec: spec.id)
def test_mix_is_the_sum_of_the_stems_and_is_heard(spec: Spec) -> None:
    clip = render_clip(spec)
    assert np.array_equal(clip.mix, sum(clip.stems.values())) and clip.mix.shape == (spec.samples,)
    assert np.abs(clip.mix).max() < 0.95
    assert 10 * np.log10((clip.mix.astype(float) ** 2).mean()) > -40
    assert clip.stems["effects"].any() == bool(spec.props) and clip.stems["music"].any() == spec.music
    for i, character in enumerate(spec.characters):
        assert clip.stems[f"speech{i + 1}"].any() == bool(character.syllables)


@pytest.mark.parametrize("kind", ["ball", "bell", "drum"])
def test_the_spark_shows_at_the_onset_and_not_before(kind: str) -> None:
    for spec in [s for s in SIMPLE if s.props and s.props[0].kind == kind][:4]:
        spec = replace(spec, props=(replace(spec.props[0], onsets=(0.73, 1.52)),))
        clip = render_clip(spec)
        darkest = pixel(clip, clip.truth["objects"][0]["flash_centre"]).min(axis=1)
        for onset in (0.73, 1.52):
            first = int(np.ceil(onset * spec.fps))
            before = darkest[first - 1]
            assert darkest[first] > before + 60, spec.id
            seen = (darkest[first] - before) / (255 - before)
            assert seen == pytest.approx(np.exp(-(first / spec.fps - onset) / FLASH_DECAY), abs=0.25)


def test_the_sound_of_an_event_starts_at_its_onset() -> None:
    for spec in [s for s in SIMPLE if s.props][:8]:
        click = np.abs(band(render_clip(spec).mix, 4500, 7500))
        for onset in spec.props[0].onsets:
            at = round(onset * RATE)
            assert click[at : at + 480].max() > 20 * click[at - 800 : at - 160].max()


def test_the_mouth_opens_with_the_voice() -> None:
    for spec in [s for s in SIMPLE if s.characters and s.characters[0].syllables][:8]:
        clip = render_clip(spec)
        person = clip.truth["characters"][0]
        x, y = scene_to_pixels(*person["mouth_centre"], size=spec.size)
        half = int(MOUTH_HALF_WIDTH * 64) + 1
        box = clip.frames[:, int(y) - 5 : int(y) + 6, int(x) - half : int(x) + half].astype(float)
        dark = (255 - box).sum(axis=(1, 2, 3))
        assert np.corrcoef(dark, person["mouth"])[0, 1] > 0.97
        loudness = np.sqrt(np.convolve(band(clip.mix, 2300, 3800) ** 2, np.hanning(960), "same"))
        heard = loudness[(np.arange(spec.frames) * RATE) // spec.fps]
        assert np.corrcoef(heard, person["mouth"])[0, 1] > 0.95


def test_a_silent_persons_mouth_stays_shut() -> None:
    spec = next(s for s in SIMPLE if s.characters and not s.characters[0].syllables)
    clip = render_clip(spec)
    assert not any(clip.truth["characters"][0]["mouth"]) and "is speaking" not in clip.caption


def test_size_and_colour_of_an_object_are_heard() -> None:
    spec = next(s for s in SIMPLE if s.props)
    heard = {}
    for size in ("big", "small"):
        for colour in ("red", "green", "blue", "yellow"):
            prop = replace(spec.props[0], kind="drum", size=size, colour=colour, onsets=(0.5,))
            sound = render_clip(replace(spec, props=(prop,))).stems["effects"]
            heard[size, colour] = int(np.abs(np.fft.rfft(band(sound, 60, 700))).argmax())
    assert len(set(heard.values())) == 8
    assert heard["small", "red"] == pytest.approx(2 * heard["big", "red"], abs=4)


def test_the_ball_is_on_the_floor_at_its_onsets_only() -> None:
    onsets = (0.4, 0.8, 1.7)
    t = np.linspace(0, 1.7, 1701)
    height = ball_height(t, onsets)
    assert np.abs(ball_height(np.array(onsets), onsets)).max() < 1e-9
    assert all(np.abs(time - np.array(onsets)).min() < 0.01 for time in t[height < 1e-3])


def test_full_has_what_makes_the_papers_effects_visible() -> None:
    assert {spec.fps for spec in FULL} == {12, 15, 16, 24, 25, 30}
    assert {int(spec.duration) for spec in FULL} == {2, 3, 4, 5, 6, 8}
    assert {len(spec.characters) for spec in FULL} == {len(spec.props) for spec in FULL} == {0, 1, 2}
    assert any(spec.pan != (0.0, 0.0) for spec in FULL) and any(spec.distractors for spec in FULL)
    assert any(not prop.visible for spec in FULL for prop in spec.props)
    assert any(not character.visible for spec in FULL for character in spec.characters)
    assert any(sum(bool(character.syllables) for character in spec.characters) == 2 for spec in FULL)
    for spec in SIMPLE:
        assert len(spec.characters) <= 1 and len(spec.props) <= 1 and (spec.characters or spec.props)


def test_a_silent_span_is_exact_zeros() -> None:
    spec = next(s for s in FULL if s.silence and s.duration == 2)
    clip = render_clip(spec)
    start, end = (round(t * RATE) for t in clip.truth["silence"])
    assert end - start > 0.2 * len(clip.mix)
    assert not clip.mix[start + 1 : end - 1].any() and clip.mix.any()


def test_an_offscreen_object_is_heard_and_not_seen() -> None:
    spec = next(s for s in FULL if len(s.props) == 1 and not s.props[0].visible)
    clip = render_clip(replace(spec, frames=40))
    assert "offscreen" in clip.caption and "offscreen" not in clip.audio_caption
    assert np.array_equal(clip.frames, render_clip(replace(spec, frames=40, props=())).frames)


def test_conflict_changes_the_text_alone() -> None:
    spec = sample_spec(0, 0, conflict=1.0)
    clip, plain = render_clip(spec), render_clip(replace(spec, caption_overrides=()))
    assert "conflict" in clip.truth["subsets"] and "conflict" not in plain.truth["subsets"]
    assert clip.caption != plain.caption and np.array_equal(clip.mix, plain.mix)
    assert not any(s.caption_overrides for s in SIMPLE + FULL)


def test_truth_survives_json(tmp_path: Path) -> None:
    truth = render_clip(sample_spec(0, 2, "full")).truth
    (tmp_path / "t.json").write_text(json.dumps(truth))
    assert read_truth(tmp_path / "t.json") == json.loads(json.dumps(truth)) == truth


@pytest.mark.parametrize(
    ("text", "said"),
    [('{"characters": []}', "has no objects"), ("[1]", "no JSON object"), ("", "is damaged")],
)
def test_what_is_no_truth_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(UserError, match=rf"t\.json:? .*{said}"):
        read_truth(tmp_path / "t.json")


@pytest.mark.parametrize("bad", [{"level": "hard"}, {"index": -1}, {"size": 63}, {"size": 16}, {"conflict": 2.0}])
def test_bad_values_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"give|must"):
        sample_spec(**{"seed": 0, "index": 0, **bad})


def test_files_agree_with_the_truth(tmp_path: Path) -> None:
    for clip in make_clips(tmp_path / "clips", 2, 1, "full", (64, 64), 0.0, workers=1):
        assert clip.truth is not None and clip.video is not None
        truth = json.loads(clip.truth.read_text())
        info = probe(clip.video)
        assert info.fps == truth["fps"] and (info.height, info.width) == tuple(truth["size"])
        assert info.duration == pytest.approx(truth["duration"], abs=0.5 / truth["fps"])
        stems = [read_audio(path, 16000)[0] for path in clip.tracks.values()]
        assert {len(stem) for stem in stems} == {round(truth["duration"] * 16000)}
        heard = read_audio(clip.video, 16000)[0][: len(stems[0])]
        assert np.corrcoef(sum(stems)[: len(heard)], heard)[0, 1] > 0.95


def test_wrong_settings_make_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hard"):
        make_clips(tmp_path / "clips", 2, 1, "hard", (64, 64), 0.0, workers=1)
    assert not (tmp_path / "clips").exists()


def test_shots_follow_one_another_on_exact_frames() -> None:
    show = next(s for s in (sample_show(5, i, (64, 64)) for i in range(99)) if len(s.shots) == 3)
    clip, shots = render_show(show), [render_clip(shot) for shot in show.shots]
    assert np.array_equal(clip.frames, np.concatenate([shot.frames for shot in shots]))
    fps, fade = show.shots[0].fps, round(CUT_FADE * RATE)
    assert clip.truth["frames"] == len(clip.frames) and len(clip.mix) == round(len(clip.frames) * RATE / fps)
    assert np.array_equal(clip.mix, sum(clip.stems.values())) and np.abs(clip.mix).max() < 0.95
    for start, shot, told in zip(show.starts, shots, clip.truth["shots"], strict=True):
        assert told == {"start": start} | shot.truth
        first = round(start * RATE)
        inner = slice(first + fade, first + len(shot.mix) - fade - 1)
        assert np.array_equal(clip.mix[inner], shot.mix[fade : len(shot.mix) - fade - 1])
    assert clip.caption == " ".join(shot.caption for shot in shots)
    assert "several_shots" in clip.truth["subsets"]


def test_one_shot_is_a_clip_as_before() -> None:
    show = sample_show(5, 0, (64, 64), shots=1)
    clip, plain = render_show(show), render_clip(show.shots[0])
    assert clip.truth == plain.truth and np.array_equal(clip.mix, plain.mix)
    assert [len(c["syllables"]) for c in clip.truth["characters"]] == [
        len(c.syllables) for c in show.shots[0].characters
    ]
    assert "syllables" not in str(render_clip(SIMPLE[0]).truth)


def test_shows_are_written_with_their_prompts(tmp_path: Path) -> None:
    clips = list(make_clips(tmp_path / "clips", 6, 1, "shows", (64, 64), 0.0, 1, Choices(fps=Mixture.of(12))))
    write_manifest(tmp_path / "clips" / "manifest.jsonl", clips)
    assert read_manifest(tmp_path / "clips") == clips
    assert all(clip.subsets[0] == "shows" for clip in clips)
    several = [clip for clip in clips if clip.prompts]
    assert several and len(several) < len(clips)
    for clip in several:
        assert clip.caption == " ".join(text for _, text in clip.prompts) and "several_shots" in clip.subsets
        assert clip.audio_caption == " ".join(text for _, text in clip.audio_prompts) != clip.caption
        assert [seconds for seconds, _ in clip.audio_prompts] == [seconds for seconds, _ in clip.prompts]
        assert clip.truth is not None
        starts = [shot["start"] for shot in json.loads(clip.truth.read_text())["shots"]]
        assert [seconds for seconds, _ in clip.prompts] == starts
        with pytest.raises(UserError, match=r"tells of \d shots; a clip of one shot is needed"):
            read_truth(clip.truth)
    for clip in clips:
        assert clip.video is not None and probe(clip.video).fps == 12
    make_clips(tmp_path / "clips", 6, 1, "shows", (64, 64), 0.0, 1, Choices(fps=Mixture.of(12)))
    with pytest.raises(UserError, match="holds clips of other settings"):
        make_clips(tmp_path / "clips", 6, 1, "shows", (64, 64), 0.0, 1, Choices(fps=Mixture.of(16)))


def test_old_levels_have_no_shots(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="level 'simple' has no shots to choose; level 'shows' has"):
        make_clips(tmp_path / "clips", 1, 1, "simple", (64, 64), 0.0, 1, Choices(shots=1))
    assert not (tmp_path / "clips").exists()


@pytest.mark.parametrize("level", ["simple", "full", "shows"])
def test_lossless_files_return_what_was_drawn(tmp_path: Path, level: str) -> None:
    choices = Choices(seconds=Mixture.of(1, 2), fps=Mixture.of(15, 24), lossless=True)
    clips = list(make_clips(tmp_path / "clips", 3, 1, level, (64, 64), 0.0, 1, choices))
    for index, clip in enumerate(clips):
        assert clip.video is not None and clip.video.suffix == ".mkv" and clip.audio == clip.video
        show = choices.show(1, level, (64, 64), 0.0, index)
        drawn, fps = render_show(show), show.shots[0].fps
        assert np.array_equal(read_video(clip.video, fps), drawn.frames)
        assert np.array_equal(read_audio(clip.video, RATE)[0], drawn.mix)
    kept = json.loads((tmp_path / "clips/puppets.json").read_text())
    assert kept["lossless"] is True and kept["seconds"] == {"1": 0.5, "2": 0.5}
    with pytest.raises(UserError, match="holds clips of other settings"):
        make_clips(tmp_path / "clips", 3, 1, level, (64, 64), 0.0, 1, replace(choices, lossless=False))


def test_old_levels_are_what_they_were() -> None:
    """The scripts of the shipped checkpoint's training and evaluation; golden."""
    text = repr([(s.level, s.characters, s.props, s.distractors, s.mood, s.pan) for s in SIMPLE + FULL])
    said = " ".join(caption(s) + audio_caption(s) for s in SIMPLE + FULL)
    assert hashlib.sha256((text + said).encode()).hexdigest()[:16] == "23e12f5c3cf0d7a4"


@pytest.mark.parametrize("level", ["simple", "full", "shows"])
def test_how_many_frames_are_painted_at_once_changes_nothing(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [replace(sample_spec(9, i, level), pan=(-0.04, 0.03) if i % 2 else (0.0, 0.0)) for i in range(6)]
    mouths = [[mouth_opening(spec, person) for person in spec.characters] for spec in specs]
    painted = []
    for held in (2**18, 2**40):
        monkeypatch.setattr(picture, "CANVAS_BYTES", held)
        painted.append([picture.render(spec, given) for spec, given in zip(specs, mouths, strict=True)])
    assert all(np.array_equal(few, all_) for few, all_ in zip(*painted, strict=True))
