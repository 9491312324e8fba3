"""What the builder looks and listens with: each model's source and licence, and whether its weights come along."""

from __future__ import annotations

from typing import NamedTuple

from shared.perception.installed import WEIGHTS
from shared.utils.markdown import markdown_table


class Model(NamedTuple):
    """A model, or a method without weights, by the key of the configuration and the value that choose it."""

    key: str
    value: str
    name: str
    source: str
    licence: str
    weights: str


OWN = "this repository", "Apache-2.0", "none needed"
YOURS = "yours to bring"


def _packaged(key: str, value: str, name: str, *models: str) -> Model:
    """Take source and licence from the list that `make perception` installs by."""
    files = [weights for model in models for weights in WEIGHTS[model]]
    sources = dict.fromkeys(f"{one.package} {one.version}" for file in files for one in file.sources)
    licences = ", ".join(dict.fromkeys(file.licence for file in files))
    where = "in that package" if sources else "in this repository"
    return Model(key, value, name, ", ".join(sources) or "assets/perception", licences, where)


_SCENES = "PySceneDetect", "scenedetect-headless", "BSD-3-Clause", "none needed"
MODELS = (
    Model("shots.detector", "adaptive", *_SCENES),
    Model("shots.detector", "content", *_SCENES),
    _packaged("shots.detector", "transnetv2", "TransNet V2", "transnetv2"),
    Model("demix", "dsp", "signal processing", *OWN),
    _packaged("demix", "spleeter", "Spleeter, two stems", "spleeter"),
    Model("demix", "demucs-cdx23", "Demucs (MVSEP-CDX23)", "your .th files", "MIT (code); theirs (weights)", YOURS),
    _packaged("people.faces", "landmarks", "MediaPipe face detector and mesh", "face detector", "face landmarks"),
    Model("people.faces", "puppets", "the toy world's detector", *OWN),
    Model("speech.activity", "silero", "Silero VAD", "silero-vad", "MIT, Silero Team", "in that package"),
    Model("speech.activity", "level", "level of the speech track", *OWN),
    Model("speech.speaker", "correlation", "correlation of lips with loudness", *OWN),
    Model("speech.speaker", "talknet", "TalkNet-ASD", "your file", "MIT (code); theirs (weights)", YOURS),
    Model("voices.by", "pyannote", "diarisation of pyannote", "your folder", "MIT (code); theirs (weights)", YOURS),
    _packaged("quality.by", "dnsmos", "DNSMOS", "dnsmos"),
    Model("quality.by", "audiobox", "Audiobox-aesthetics", "your folder", "CC-BY-4.0", YOURS),
    _packaged("words.by", "whisper", "Whisper base", "whisper-base"),
    Model("captions.source", "server", "captions.model", "your server", "that model's own", YOURS),
    Model("captions.source", "transformers", "captions.model", "your folder, or the hub", "that model's own", YOURS),
)


def licences() -> str:
    """Table of `MODELS`."""
    return markdown_table(["key", "value", "model", "source", "licence", "weights"], [list(one) for one in MODELS])
