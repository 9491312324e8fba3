"""What each metric of the scorer sees: true clips of the toy world, damaged in ways that are known, and measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.data.samples import resample
from shared.evaluation.bootstrap import over_clips
from shared.evaluation.clip_media import covering, shown_at
from shared.evaluation.fakes import blurred, frozen
from shared.evaluation.metrics.base import NEEDS, Metric, Result
from shared.puppets.clip import render_clip
from shared.puppets.lasting import lasting
from shared.puppets.script import HELD_OUT_SEED, Spec, sample_spec
from shared.utils.progress import bar

Frames = NDArray[np.uint8]
Sound = NDArray[np.float32]
SECONDS, SHIFT = 4, 0.2  # of a clip, and by which its sound is moved


class DrawnClip(NamedTuple):
    """A clip of the toy world: its script, frames uint8 [T, H, W, 3], mix [N] and text."""

    spec: Spec
    frames: Frames
    sound: Sound
    text: str


class DrawnMedia:
    """Implements `shared.evaluation.metrics.base.ClipMedia` on a clip that is in no file."""

    def __init__(self, clip: DrawnClip) -> None:
        self._clip, self.fps, self.text = clip, float(clip.spec.fps), clip.text

    @property
    def duration(self) -> float:
        """Seconds of the pictures."""
        return len(self._clip.frames) / self.fps

    def frames(self, fps: float | None = None, size: tuple[int, int] | None = None) -> Frames:
        """Pictures at a rate and size, as of a file."""
        chosen = self._clip.frames
        if fps is not None and fps != self.fps:
            chosen = chosen[shown_at(len(chosen), self.fps, fps)]
        return chosen if size is None else np.stack([covering(frame, size) for frame in chosen])

    def audio(self, rate: int) -> Sound:
        """Sound at a rate."""
        return resample(self._clip.sound[None], self._clip.spec.rate, rate)[0]

    def speech(self, rate: int) -> Sound | None:
        """None: there is the mix alone, as of a clip that a model made."""


class Damage(NamedTuple):
    """What is done, and how: of a clip and another one makes a clip."""

    what: str
    make: Callable[[DrawnClip, DrawnClip], DrawnClip]


def dropped(clip: DrawnClip, other: DrawnClip) -> DrawnClip:
    """Show every second frame twice."""
    return clip._replace(frames=np.repeat(clip.frames[::2], 2, 0)[: len(clip.frames)])


def blurry(clip: DrawnClip, other: DrawnClip) -> DrawnClip:
    """Blur each frame."""
    return clip._replace(frames=blurred(clip.spec, clip.frames, clip.sound)[0])


def still(clip: DrawnClip, other: DrawnClip) -> DrawnClip:
    """Show the middle frame all the time."""
    return clip._replace(frames=frozen(clip.spec, clip.frames, clip.sound)[0])


def other_text(clip: DrawnClip, other: DrawnClip) -> DrawnClip:
    """Take the text of the other clip."""
    return clip._replace(text=other.text)


def other_sound(clip: DrawnClip, other: DrawnClip) -> DrawnClip:
    """Take the sound of the other clip, which is as long."""
    return clip._replace(sound=other.sound)


def silenced(clip: DrawnClip, other: DrawnClip) -> DrawnClip:
    """Take the sound away."""
    return clip._replace(sound=np.zeros_like(clip.sound))


def late(clip: DrawnClip, other: DrawnClip) -> DrawnClip:
    """Let the sound come SHIFT seconds later, after silence."""
    by = round(SHIFT * clip.spec.rate)
    return clip._replace(sound=np.concatenate([np.zeros(by, np.float32), clip.sound[:-by]]))


def early(clip: DrawnClip, other: DrawnClip) -> DrawnClip:
    """Let the sound come SHIFT seconds earlier, and end in silence."""
    by = round(SHIFT * clip.spec.rate)
    return clip._replace(sound=np.concatenate([clip.sound[by:], np.zeros(by, np.float32)]))


DAMAGES = (
    Damage("none", lambda clip, other: clip),
    Damage("every second frame twice", dropped),
    Damage("frames blurred", blurry),
    Damage("one frame all the time", still),
    Damage("text of another clip", other_text),
    Damage("sound of another clip", other_sound),
    Damage("silence", silenced),
    Damage(f"sound {1000 * SHIFT:g} ms late", late),
    Damage(f"sound {1000 * SHIFT:g} ms early", early),
)


def drawn_clips(count: int) -> Iterator[DrawnClip]:
    """Held-out clips of level simple, all of SECONDS."""
    for index in range(count):
        spec = lasting(sample_spec(HELD_OUT_SEED, index, "simple"), SECONDS)
        clip = render_clip(spec)
        yield DrawnClip(spec, clip.frames, clip.mix, clip.caption)


def measured(clips: Sequence[DrawnClip], metrics: Mapping[str, Metric]) -> dict[str, dict[str, list[Result]]]:
    """Results by damage and metric, one for each clip; the other clip is the next one."""
    found: dict[str, dict[str, list[Result]]] = {}
    for damage in bar(DAMAGES, total=len(DAMAGES), unit="damage", desc="metrics"):
        found[damage.what] = {name: [] for name in metrics}
        for number, clip in enumerate(clips):
            media = DrawnMedia(damage.make(clip, clips[(number + 1) % len(clips)]))
            for name, metric in metrics.items():
                found[damage.what][name].append(metric.clip(media))
    return found


def cell(results: Sequence[Result]) -> str:
    """Mean with its interval, the median lag where a metric tells one, and how many were refused and why."""
    score = over_clips({str(number): result.value for number, result in enumerate(results)})
    words = []
    if score["mean"] is not None:
        low, high = score["interval"]
        words.append(f"{score['mean']:.2f} [{low:.2f}, {high:.2f}]")
    lags = [result.facts.get("lag_ms") for result in results if result.value is not None]
    if known := [lag for lag in lags if isinstance(lag, int | float)]:
        words.append(f"lag {np.median(known):.0f} ms")
    refused = Counter(result.refused for result in results if result.value is None)
    words += [f"{count} refused: {reason}" for reason, count in refused.items()]
    return "; ".join(words)


def damage_table(found: Mapping[str, Mapping[str, Sequence[Result]]]) -> str:
    """Markdown: a row for each damage, a column for each metric."""
    names = list(next(iter(found.values())))
    rows = [["damage", *names], ["---"] * (len(names) + 1)]
    rows += [[what, *(cell(results) for results in by_metric.values())] for what, by_metric in found.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def check_needs(metrics: Mapping[str, Any]) -> list[str]:
    """Names of metrics that need what a drawn clip has not: a track of speech, or a set of true clips."""
    there = set(NEEDS) - {"speech"}
    return [name for name, metric in metrics.items() if not metric.needs <= there]
