"""Configuration of the data builder: a section for each stage, thresholds with their units (docs/curation.md)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from shared.utils import config_file
from shared.utils.config_sections import Section, key
from shared.utils.errors import UserError
from shared.utils.ranges import (
    Amount,
    Batch,
    Count,
    Fps,
    Natural,
    Rate,
    SampleRate,
    Seconds,
    Seed,
    Side,
    Steps,
    Workers,
)

#: Names of the stages, in order.
STAGE_NAMES = (
    "shots", "technical", "demix", "people", "speech", "voices", "quality", "words", "captions", "subsets", "template",
    "fingerprint", "cut",
)  # fmt: skip
#: Keys by section that decide how a stage is run, and not what it finds.
FREE_KEYS = {
    "captions": {
        "url", "sound_url", "key_variable", "timeout", "tries", "pause", "most_per_minute", "device", "processes",
    },
    "demix": {"device"},
}  # fmt: skip
#: Mean brightness of a picture.
Brightness = Annotated[float, Field(gt=0, le=255)]
#: Of a sound, as listeners rate it.
Score = Annotated[float, Field(ge=1, le=10)]


class Shots(Section):
    """Films into shots."""

    detector: Literal["adaptive", "content", "transnetv2", "none"] = key(
        "adaptive",
        "What finds cuts: PySceneDetect's adaptive or content; TransNet V2 (make perception), dissolves too; none: "
        "every file is one shot.",
    )
    threshold: Amount | None = key(
        None, "The detector's threshold; null is its own: adaptive 3, content 27, transnetv2 a probability of 0.5."
    )
    least_content: Amount = key(15.0, "adaptive: change of a picture, 0 to 255, below which nothing is a cut.")
    fade_level: Brightness = key(12.0, "Mean brightness below which a film has faded to black.")
    least_seconds: Seconds = key(2.0, "Shots that are shorter are dropped.")
    most_seconds: Seconds = key(10.0, "Shots that are longer are divided into equal parts.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.least_seconds > self.most_seconds / 2:
            told = f"{self.least_seconds:g} s is more than half of most_seconds, {self.most_seconds:g} s"
            raise ValueError(f"shots.least_seconds: {told}; parts of a long shot would be dropped")
        return self


class Technical(Section):
    """What a clip must have as a file."""

    least_side: Side = key(256, "Pixels of the shorter side, without the bars of a letterbox.")
    least_rate: SampleRate = key(16000, "Samples a second of the sound.")
    least_fps: Fps = key(12.0, "Frames a second.")
    black_level: Brightness = key(16.0, "Mean brightness below which a frame is black.")
    most_black: Rate = key(0.1, "Share of black frames.")
    most_frozen: Rate = key(0.5, "Share of frames that are as the one before.")
    most_clipped: Rate = key(0.01, "Share of samples at full scale.")
    most_silent: Rate = key(0.9, "Share of the time below -45 dBFS.")


class Demix(Section):
    """Sound into speech, effects and music."""

    demixer: Literal["dsp", "spleeter", "demucs-cdx23"] = key(
        "spleeter", "What makes the tracks: spleeter (make perception) or demucs-cdx23; dsp is for the toy world."
    )
    checkpoints: list[Path] = key([], "Its MVSEP-CDX23 .th files; several are an ensemble.")
    second: Literal["dsp", "spleeter", "demucs-cdx23"] | None = key(
        None, "What it is compared with; null: with nothing."
    )
    second_checkpoints: list[Path] = key([], "The second one's .th files.")
    most_l1: Amount = key(
        0.5, "L1 distance of tracks that both make, in shares of the mix's, above which it is dropped."
    )
    device: str = key("cpu", "Where demucs-cdx23 and spleeter run.")

    @model_validator(mode="after")
    def _with_weights(self) -> Self:
        for name, files in ((self.demixer, self.checkpoints), (self.second, self.second_checkpoints)):
            if (name == "demucs-cdx23") != bool(files):
                told = "needs the MVSEP-CDX23 .th files that you have" if not files else f"{name} takes none"
                raise ValueError(f"demix: {name} {told}; set checkpoints, or second_checkpoints of the second one")
        if self.second == self.demixer and self.checkpoints == self.second_checkpoints:
            raise ValueError(f"demix.second: {self.second} is compared with itself; give another one, or null")
        return self


class People(Section):
    """Faces."""

    faces: Literal["landmarks", "puppets"] = key(
        "landmarks", "What finds faces: networks (make perception), or, for the toy world, its own detector."
    )
    fps: Fps = key(25.0, "Frames a second that are looked at; a film of fewer keeps its own.")
    least_found: Rate = key(0.3, "Share of the frames in which a face must be found to be a person.")


def _need_weights(section: str, choice: str, chosen: str, needing: tuple[str, str], weights: Path | None) -> None:
    """Raise ValueError unless there are weights exactly where the model that needs them, a `file` or `folder`, is
    chosen."""
    model, what = needing
    if (chosen == model) != (weights is not None):
        told = f"{model} needs the {what} that you have" if weights is None else f"{chosen} takes none"
        raise ValueError(f"{section}.weights: {told}; set them with {choice}: {model} alone")


class Speech(Section):
    """Who speaks."""

    activity: Literal["silero", "level"] = key(
        "silero", "What tells speech in the speech track: silero-vad (make perception), or its level above -45 dBFS."
    )
    least_probability: Rate = key(0.5, "silero: probability of speech.")
    speaker: Literal["correlation", "talknet"] = key(
        "correlation",
        "What tells who speaks: lips that go with the loudness of speech; or TalkNet-ASD, of which you have weights.",
    )
    weights: Path | None = key(None, "talknet: its safetensors file, or the folder of that.")
    least_share: Rate = key(
        0.1, "talknet: share of the frames with speech in which a face must be scored above 0, and 0.4 s at least."
    )
    least_motion: Rate = key(0.05, "correlation: change of a mouth's opening within 0.4 s from which lips move.")
    least_correlation: Rate = key(0.3, "correlation: of moving lips with the loudness of speech from which they speak.")
    most_lag: Rate = key(0.1, "correlation: seconds by which lips and sound may be apart.")
    least_speech: Rate = key(0.1, "Share of the time with speech below which there is no voice-over.")
    most_voice_over: Rate = key(0.5, "Share of the speech that may be of nobody who is seen to speak.")

    @model_validator(mode="after")
    def _with_weights(self) -> Self:
        _need_weights("speech", "speaker", self.speaker, ("talknet", "file"), self.weights)
        return self


class Voices(Section):
    """How many voices are heard."""

    by: Literal["none", "pyannote"] = key(
        "none", "What counts them, and tells who speaks when: pyannote (extra voices), of which you have a pipeline; "
        "or nothing.",
    )  # fmt: skip
    weights: Path | None = key(None, "pyannote: its folder, as pyannote/speaker-diarization-community-1 is published.")
    most_unseen: Natural = key(0, "Voices that may be heard beyond as many as faces are seen.")

    @model_validator(mode="after")
    def _with_weights(self) -> Self:
        _need_weights("voices", "by", self.by, ("pyannote", "folder"), self.weights)
        return self


class Quality(Section):
    """How good the sound is."""

    by: Literal["none", "dnsmos", "audiobox"] = key(
        "none",
        "What rates it: dnsmos (make perception), the speech track of clips in which somebody speaks; audiobox, of "
        "which you have weights, the sound of all; or nothing.",
    )
    weights: Path | None = key(None, "audiobox: its folder, as facebook/audiobox-aesthetics is published.")
    least: Score | None = key(
        None,
        "Score below which a clip is dropped. null: dnsmos 2.5 overall, of 5; audiobox 5 for production quality, "
        "of 10.",
    )

    @model_validator(mode="after")
    def _with_weights(self) -> Self:
        _need_weights("quality", "by", self.by, ("audiobox", "folder"), self.weights)
        return self


class Words(Section):
    """What is said."""

    by: Literal["none", "whisper"] = key(
        "none", "What writes it down, where there is speech: whisper, the base model (make perception); or nothing."
    )
    language: str | None = key(None, "Whisper's code of the language that is spoken, as en; null: it is found.")


class Captions(Section):
    """Texts."""

    source: Literal["files", "server", "transformers", "none"] = key(
        "files",
        "X.txt beside the film X.mp4, where there is one; a server that speaks OpenAI's protocol; a model that is "
        "loaded here by transformers; or none.",
    )
    url: str = key("http://localhost:8000/v1", "Address of the server, as vLLM has it.")
    model: str = key("", "Model that the server has; of transformers a folder, or a name of the hub.")
    sound_model: str | None = key(
        None, "Model that is asked for the sound alone, and given nothing else; null: the same is asked for all."
    )
    sound_url: str | None = key(None, "Address of the server that has sound_model; null: the same.")
    key_variable: str = key("OPENAI_API_KEY", "Variable of the environment that holds the server's key, if it has one.")
    pictures: Batch = key(6, "Pictures of a clip that the model sees.")
    side: Side = key(512, "Pixels of their longer side at most.")
    hears: bool = key(False, "The model is given the sound too.")
    most_tokens: Count = key(600, "Tokens of an answer.")
    device: str = key("cpu", "transformers: where the model runs.")
    dtype: Literal["float32", "bfloat16"] = key("bfloat16", "transformers: precision of the model.")
    processes: Workers = key(
        1, "transformers: processes that caption, each with a model of its own; never more than --workers."
    )
    timeout: Seconds = key(120.0, "Seconds that an answer may take.")
    tries: Steps = key(5, "Tries where the server is overloaded, fails or is not there.")
    pause: Seconds = key(1.0, "Seconds before the second try, then twice as many; Retry-After comes first.")
    most_per_minute: Amount = key(600.0, "Requests of all processes of a run together.")

    @model_validator(mode="after")
    def _with_model(self) -> Self:
        asks = self.source in ("server", "transformers")
        if asks and not self.model:
            wanted = "the server's name of the model" if self.source == "server" else "a folder, or a name of the hub,"
            raise ValueError(f"captions.model: {wanted} is needed")
        for name, url in (("url", self.url), ("sound_url", self.sound_url or self.url)):
            if self.source == "server" and not url.startswith(("http://", "https://")):
                raise ValueError(f"captions.{name}: {url} is no address; http://HOST:PORT/v1 is needed")
        if self.sound_model and (self.hears or not asks):
            told = "hears is true: the sound goes to one model" if self.hears else f"source {self.source} asks no model"
            raise ValueError(f"captions.sound_model: {told}; set one of the two")
        return self

    def of_sound(self) -> Self:
        """Take the settings as they are for `sound_model`."""
        return self.model_copy(update={"model": self.sound_model, "url": self.sound_url or self.url})


class Subsets(Section):
    """MTV's subsets."""

    least_face: Rate = key(0.25, "Height of a talking head's face in shares of the picture's.")


class Duplicates(Section):
    """Clips that are nearly the same."""

    by: Literal["either", "both"] = key("either", "What must be alike: pictures or sound, or pictures and sound.")
    most_picture: Rate = key(0.1, "Share of the pictures' bits that may differ; of unlike ones nearly half does.")
    most_sound: Rate = key(0.3, "Share of the sound's bits that may differ.")


class Join(Section):
    """Shots that follow each other as one clip."""

    most_seconds: Seconds | None = key(
        None, "Length up to which they become one clip, with a text for each from where it begins; null: they do not."
    )


class Split(Section):
    """Films that are held out."""

    held_out: Rate = key(0.05, "Share of the films, with all that are nearly the same.")


class DemixConfig(Section):
    """How a data set is built. Whatever a section decides is decided anew when it changes, and nothing else."""

    seed: Seed = key(0, "The held-out split follows from it.")
    licence: str = key("", "Licence of films that do not say their own; it goes into the report and the data card.")
    limit_seconds: Seconds = key(
        600.0, "Time that a stage may take for a clip, or for a minute of film, before it fails."
    )
    shots: Shots = Shots()
    technical: Technical = Technical()
    demix: Demix = Demix()
    people: People = People()
    speech: Speech = Speech()
    voices: Voices = Voices()
    quality: Quality = Quality()
    words: Words = Words()
    captions: Captions = Captions()
    subsets: Subsets = Subsets()
    duplicates: Duplicates = Duplicates()
    split: Split = Split()
    join: Join = Join()
    shards: dict[str, Any] = key(
        {},
        "Training shards in OUTPUT/latents too: options of scripts/encode.py by name, as {checkpoint: assets/puppets, "
        "tracks: true}.",
    )

    @classmethod
    def load(cls, path: str | os.PathLike[str], overrides: list[str] | None = None) -> Self:
        """Read a YAML file and apply `overrides` ("shots.least_seconds=1"). UserError names the file and the key."""
        raw = config_file.read(Path(path), overrides or [])
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise UserError(config_file.explain(error, Path(path), cls)) from None
