"""Public sets of prompts: which texts belong to which clips, and which metrics their papers report that there are here.

A suite is read from the user's copy; nothing is fetched. Clips of a model are named as its items are.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.evaluation.score_clips import ClipSet, read_clips
from shared.utils.errors import UserError
from shared.utils.files import read_json
from shared.utils.text_files import read_text, split_lines

LARGEST = 64 * 2**20  # bytes of a set's texts


@dataclass(frozen=True)
class Suite:
    """How a set is read, {name of a clip: text}, what layout that is, and its metrics, those of clips alone."""

    read: Callable[[Path], dict[str, str]]
    layout: str
    metrics: tuple[str, ...]


def verse_bench(path: Path) -> dict[str, str]:
    """Texts of Verse-Bench (UniVerse-1, arXiv 2509.06155): what is seen, and what is said between <S> and <E>. Clips
    are named after set and item, set3_01039."""
    texts = {}
    for file in sorted(path.glob("set*/data/*.json")):
        item = read_json(file, advice="copy the set again")
        speech = item.get("speech_prompt")
        said = speech.get("text") if isinstance(speech, dict) else speech
        spoken = f" <S>{said}<E>" if isinstance(said, str) and said.strip() else ""
        texts[f"{file.parents[1].name}_{file.stem}"] = f"{item.get('video_prompt', '')}{spoken}"
    return texts


def javisbench(path: Path) -> dict[str, str]:
    """Texts of JavisBench (arXiv 2503.23377): of each row of its CSV; clips are named sample_0000, sample_0001 ..."""
    if not path.is_file():
        return {}
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(path, most=LARGEST))))
    except csv.Error as error:
        raise UserError(f"{path}: is no CSV ({error}); copy the set again") from None
    return {f"sample_{number:04d}": row["text"] for number, row in enumerate(rows) if row.get("text")}


def mtv(path: Path) -> dict[str, str]:
    """Texts of a manifest or a folder of X.mp4 with X.txt, as held-out clips of MTV's data: its own are not public."""
    return {clip.id: clip.caption for clip in read_clips(path) if clip.caption} if path.exists() else {}


def seed_tts(path: Path) -> dict[str, str]:
    """Texts to be spoken of Seed-TTS (arXiv 2406.02430): lines of meta.lst with name, text and sound of the voice to
    take, and the text to speak."""
    file = path / "meta.lst" if path.is_dir() else path
    if not file.is_file():
        return {}
    rows = [line.split("|") for line in split_lines(read_text(file, most=LARGEST), str(file)) if line.strip()]
    if wrong := next((number for number, row in enumerate(rows, 1) if len(row) < 4), None):
        raise UserError(f"{file}:{wrong}: NAME|TEXT OF THE VOICE|ITS FILE|TEXT is needed")
    return {row[0].strip(): row[3].strip() for row in rows}


SUITES: Mapping[str, Suite] = {
    "verse-bench": Suite(
        verse_bench, "a folder with set1/data/NAME.json ... is needed", ("clap_score", "av_align", "sync_c", "wer")
    ),
    "javisbench": Suite(
        javisbench,
        "JavisBench.csv or JavisBench-mini.csv, with a column text, is needed",
        ("text_c", "clap_score", "audio_c", "javis_score", "av_align", "desync"),
    ),
    "mtv": Suite(
        mtv, "a manifest, or a folder of X.mp4 with X.txt, is needed",
        ("temp_c", "text_c", "audio_c", "sync_c", "sync_d"),
    ),
    "seed-tts": Suite(seed_tts, "meta.lst, or the folder with it, is needed", ("wer",)),
}  # fmt: skip


def named_suite(word: str) -> tuple[str, Path]:
    """Read NAME=PATH. ValueError for a suite that there is not."""
    name, _, path = word.partition("=")
    if name not in SUITES or not path:
        raise ValueError(f"--suite {word}: NAME=PATH of your copy is needed; there are {', '.join(SUITES)}")
    return name, Path(path)


def read_suite(word: str) -> dict[str, str]:
    """Texts of a suite by the names of clips. UserError for a copy that has none, and says what is needed."""
    name, path = named_suite(word)
    suite = SUITES[name]
    texts = suite.read(path)
    if not texts:
        raise UserError(f"--suite {word}: no texts there; {suite.layout} (docs/score.md)")
    return texts


def with_texts(one: ClipSet, texts: Mapping[str, str], word: str) -> ClipSet:
    """Give each clip the text of its name. UserError for a clip that is none of the suite's."""
    if strange := [clip.id for clip in one.clips if clip.id not in texts]:
        like = next(iter(texts))
        raise UserError(f"{one.path}: {strange[0]} is no name of --suite {word}; clips are named as {like}")
    return one._replace(clips=[clip.model_copy(update={"caption": texts[clip.id]}) for clip in one.clips])


def coverage(word: str, texts: Mapping[str, str], sets: Sequence[ClipSet]) -> dict[str, Any]:
    """Tell of each set of clips which names of the suite it lacks; a number over the rest is none of the suite's."""
    missing = {one.name: sorted(texts.keys() - {clip.id for clip in one.clips}) for one in sets}
    return {"suite": word.partition("=")[0], "items": len(texts), "missing": missing}


def incomplete(suite: Mapping[str, Any] | None) -> list[str]:
    """Lines about the sets of clips that lack some of a suite's."""
    if suite is None:
        return []
    lacking = {name: missing for name, missing in suite["missing"].items() if missing}
    return [
        f"{name}: {len(missing)} of {suite['items']} clips of {suite['suite']} are missing, as {missing[0]}"
        for name, missing in lacking.items()
    ]
