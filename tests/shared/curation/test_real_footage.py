"""The builder on a real face and real voices. No package has a talking head with sound: a silent one gets lines of
LibriVox, as loud as its lips are open, in time or late, and lines as they were read, which its lips do not follow."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from media import Media
from perception import carphone, need_model, spoken_lines

from mtv.captions import compose
from mtv.demix import separated
from shared.curation.build import build
from shared.curation.config import DemixConfig
from shared.curation.record import Tools
from shared.curation.sources import Source
from shared.data.media import read_audio, read_video
from shared.data.media_write import write_video
from shared.evaluation.metrics.mouths import from_landmarks

FPS, RATE = 25, 16000
LATE = (0, 200, 400, 600, 800, 1000)  # milliseconds
SETTINGS = {
    "shots": {"detector": "none"}, "technical": {"least_side": 128}, "words": {"by": "whisper", "language": "en"},
    "captions": {"source": "none"}, "duplicates": {"by": "both"}, "split": {"held_out": 0},
}  # fmt: skip


def make_films(folder: Path) -> dict[str, str]:
    """Write NUMBER_LATE.mp4, and NUMBER_line.mp4 with the line as it was read; return what is said, by number."""
    pictures = read_video(carphone(), FPS)[:, :, :192]
    count = len(pictures) * RATE // FPS
    mouth = from_landmarks(Media(pictures, FPS, np.zeros(count, np.float32), RATE))
    assert mouth.faces == 1 and mouth.found > 0.9
    times = np.arange(count) / RATE
    said = {}
    for number, (file, text) in enumerate(sorted(spoken_lines().items())):
        said[str(number)] = text
        line = np.resize(read_audio(file, RATE, True)[0], count)
        write_video(folder / f"{number}_line.mp4", pictures, FPS, line[None], RATE)
        for late in LATE:
            at = (times - late / 1000) % (count / RATE)
            loud = np.interp(at, np.arange(len(mouth.opening)) / mouth.fps, mouth.opening)
            voice = line * (loud / np.percentile(mouth.opening, 95)).clip(0, 1)
            write_video(folder / f"{number}_{late}.mp4", pictures, FPS, voice[None].astype(np.float32), RATE)
    return said


@pytest.mark.slow
def test_a_dubbed_face_is_told_from_one_that_speaks(tmp_path: Path) -> None:
    for model, module in (("spleeter", "torch"), ("face landmarks", "ai_edge_litert.interpreter"), ("", "silero_vad")):
        need_model(model, module)
    need_model("whisper-base", "faster_whisper")
    films, output = tmp_path / "films", tmp_path / "set"
    films.mkdir()
    said = make_films(films)
    sources = [Source(film) for film in sorted(films.glob("*.mp4"))]
    build(sources, output, DemixConfig.model_validate(SETTINGS), Tools(separated, compose), 2)

    report = [json.loads(line) for line in (output / "report.jsonl").read_text(encoding="utf-8").splitlines()]
    kinds = {
        kind: [one for one in report if one["source"].endswith(f"_{kind}.mp4")] for kind in (*map(str, LATE), "line")
    }
    kept = {kind: sum(one["verdict"] == "keep" for one in ones) for kind, ones in kinds.items()}
    print(f"of {len(said)} each are kept:", kept)
    assert kept["0"] == len(said) and sum(kept[str(late)] for late in LATE[2:]) <= len(said) * len(LATE[2:]) // 10
    assert {one["cause"] for one in report if one["verdict"] == "drop"} == {"voice-over"}

    clips = {one["id"]: one for one in map(json.loads, (output / "manifest.jsonl").read_text().splitlines())}
    for one in kinds["0"]:  # nothing but a voice is in them
        assert clips[one["id"]]["subsets"] == ["basic_face", "single_character"]
    heard = [(clips[one["id"]], Path(one["source"]).name) for one in kinds["line"] if one["verdict"] == "keep"]
    assert heard
    for clip, name in heard:
        words = set(said[name[0]].lower().replace("mister", "mr").split())
        right = [re.sub("[^a-z-]", "", word.lower()) in words for _, _, word in clip["words"]]
        assert np.mean(right) > 0.7, (clip["transcript"], said[name[0]])
