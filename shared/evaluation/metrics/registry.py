"""Every metric of the scorer by name; a metric's own module is imported only when it is asked for."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from shared.utils.errors import UserError

if TYPE_CHECKING:
    from shared.evaluation.metrics.base import Metric, Tools


@dataclass(frozen=True)
class Entry:
    """Where a metric is: `kind` is a class of `module`, made by its classmethod `of(tools)`. `weights` names what the
    user has to give with --weights, `settings` what may be set with --set, and their defaults; `over_sets`: it compares
    with the set of --reference."""

    module: str
    kind: str
    about: str
    weights: tuple[str, ...] = ()
    settings: Mapping[str, float] = field(default_factory=dict)
    over_sets: bool = False


_HERE = "shared.evaluation.metrics"
_FACES = {"min_track": 20, "min_face": 100.0, "least_fps": 23.75}
_VIDEOS = {"fps": 8.0, "frames": 16, "windows": 1}

METRICS = {
    "temp_c": Entry(f"{_HERE}.temp_c", "TempC", "likeness of neighbouring frames, by CLIP", ("clip",), {"fps": 8.0}),
    "text_c": Entry(f"{_HERE}.text_c", "TextC", "likeness of frames and text, by CLIP", ("clip",), {"fps": 2.0}),
    "audio_c": Entry(f"{_HERE}.audio_c", "AudioC", "likeness of sound and video, by PE-AV", ("pe_av",), {"frames": 16}),
    "javis_score": Entry(
        f"{_HERE}.javis_score", "JavisScore", "the same moment by moment, as JavisBench", ("pe_av",), {"fps": 8.0}
    ),
    "javis_score_imagebind": Entry(
        f"{_HERE}.javis_score",
        "JavisScoreImageBind",
        "the same by ImageBind, as published",
        ("imagebind",),
        {"fps": 8.0, "published": False},
    ),
    "imagebind_av": Entry(
        f"{_HERE}.imagebind_score",
        "ImageBindAV",
        "likeness of sound and video, by ImageBind",
        ("imagebind",),
        {"video_clips": 5, "audio_clips": 3, "published": False},
    ),
    "imagebind_tv": Entry(
        f"{_HERE}.imagebind_score",
        "ImageBindTV",
        "likeness of video and text, by ImageBind",
        ("imagebind", "clip"),
        {"video_clips": 5, "published": False},
    ),
    "imagebind_ta": Entry(
        f"{_HERE}.imagebind_score",
        "ImageBindTA",
        "likeness of sound and text, by ImageBind",
        ("imagebind", "clip"),
        {"audio_clips": 3, "published": False},
    ),
    "clap_score": Entry(f"{_HERE}.clap_score", "CLAPScore", "likeness of sound and text, by CLAP", ("clap",)),
    "fvd": Entry(f"{_HERE}.fvd", "FVD", "distance of videos from the reference, by I3D", ("i3d",), _VIDEOS, True),
    "fvd_videomae": Entry(f"{_HERE}.fvd", "FVDVideoMAE", "the same by VideoMAE", ("videomae",), _VIDEOS, True),
    "fvd_vjepa2": Entry(f"{_HERE}.fvd", "FVDVJEPA2", "the same by V-JEPA 2", ("vjepa2",), _VIDEOS, True),
    "fad": Entry(
        f"{_HERE}.fad", "FAD", "distance of sounds from the reference, by VGGish", ("vggish",), over_sets=True
    ),
    "fad_clap": Entry(f"{_HERE}.fad", "FADCLAP", "the same by CLAP", ("clap",), over_sets=True),
    "lip_sync": Entry(f"{_HERE}.lip_sync", "LipSync", "mouths against the loudness of speech", (), {"most_lag": 0.5}),
    "lip_sync_puppets": Entry(
        f"{_HERE}.lip_sync", "PuppetLipSync", "the same of the drawn mouths of the toy world", (), {"most_lag": 0.5}
    ),
    "sync_c": Entry(
        f"{_HERE}.sync_net", "SyncC", "how surely faces speak what is heard, by SyncNet", ("syncnet",), _FACES
    ),
    "sync_d": Entry(
        f"{_HERE}.sync_net", "SyncD", "how far faces are from what is heard, by SyncNet", ("syncnet",), _FACES
    ),
    "desync": Entry(
        f"{_HERE}.desync",
        "DeSync",
        "seconds between sound and picture, by Synchformer",
        ("synchformer",),
        {"least_fps": 23.75},
    ),
    "onset_sync": Entry(
        f"{_HERE}.onset_sync", "OnsetSync", "events seen against events heard", (), {"window": 0.1, "most_lag": 0.5}
    ),
    "av_align": Entry(f"{_HERE}.av_align", "AVAlign", "peaks of optical flow against onsets, as published"),
    "wer": Entry(f"{_HERE}.wer", "WordErrorRate", "wrong words of what is said, by Whisper"),
    "dnsmos": Entry(f"{_HERE}.dnsmos", "DNSMOS", "quality of the speech"),
    "audiobox_aesthetics": Entry(
        f"{_HERE}.audiobox_aesthetics", "AudioboxAesthetics", "how well the sound is made", ("audiobox",)
    ),
}


def named(text: object) -> object:
    """Read names of metrics between commas. ValueError, with the nearest name, for one that there is not."""
    if not isinstance(text, str):
        return text
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in METRICS:
            near = difflib.get_close_matches(name, METRICS, n=1, cutoff=0)
            raise ValueError(f"{name}: no such metric; the nearest is {near[0]}, all are {', '.join(METRICS)}")
    return tuple(dict.fromkeys(names))


def check_weights(names: Sequence[str], weights: Mapping[str, Path]) -> None:
    """Raise UserError for weights that a metric needs and nobody gave, for given ones that none of `names` needs, and
    for a path where there is nothing."""
    needed = {weight: name for name in names for weight in METRICS[name].weights}
    for weight, name in needed.items():
        if weight not in weights:
            raise UserError(f"--metrics {name}: needs weights; give --weights {weight}=PATH (docs/score.md)")
        if not weights[weight].exists():
            raise UserError(f"--weights {weight}={weights[weight]}: there is no such file or folder")
    for weight in weights.keys() - needed.keys():
        told = ", ".join(needed) or "none"
        raise UserError(f"--weights {weight}: no metric that is asked for needs it; needed are {told}")


def check_reference(names: Sequence[str], has_reference: bool) -> None:
    """Raise UserError for a metric over sets without --reference, and for --reference that no metric needs."""
    over_sets = [name for name in names if METRICS[name].over_sets]
    if over_sets and not has_reference:
        raise UserError(f"--metrics {over_sets[0]}: compares with true clips; give --reference DIR")
    if has_reference and not over_sets:
        raise UserError("--reference: no metric that is asked for compares with true clips; leave it out")


def read_settings(words: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Read METRIC.NAME=VALUE over the defaults of the metrics `names`. UserError for what is none of theirs."""
    settings = {name: dict(METRICS[name].settings) for name in names}
    known = [f"{name}.{key}" for name, values in settings.items() for key in values]
    for word in words:
        place, _, value = word.partition("=")
        if place not in known:
            raise UserError(f"--set {word}: METRIC.NAME=VALUE is needed; there are {', '.join(known) or 'none'}")
        name, _, key = place.partition(".")
        if isinstance(settings[name][key], bool):
            if value not in ("0", "1"):
                raise UserError(f"--set {word}: 1 is needed for yes, or 0 for no")
            settings[name][key] = value == "1"
            continue
        whole = isinstance(settings[name][key], int)
        try:
            number = int(value) if whole else float(value)
        except ValueError:
            number = 0
        if not 0 < number <= 1e6 or not math.isfinite(number):
            raise UserError(f"--set {word}: a {'whole ' * whole}number above 0 is needed")
        settings[name][key] = number
    return settings


def load(names: Sequence[str], tools: Tools) -> dict[str, Metric]:
    """Make the metrics. UserError for weights that are not what a metric needs."""
    return {name: getattr(import_module(METRICS[name].module), METRICS[name].kind).of(tools) for name in names}
