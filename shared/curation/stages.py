"""The stages of the builder, in order; each is a function in a file of its own."""

from shared.curation import (
    active_speakers,
    captions,
    cut,
    demixing,
    fingerprint,
    in_process,
    people,
    quality,
    shots,
    speech,
    subsets,
    technical,
    template,
    voices,
    words,
)
from shared.curation.config import DemixConfig
from shared.curation.record import Stage
from shared.perception import spleeter
from shared.perception.voices import voices_fingerprint

STAGES = (
    Stage("shots", shots.find_shots),
    Stage("technical", technical.examine),
    Stage("demix", demixing.demix, writes=True),
    Stage("people", people.look),
    Stage("speech", speech.listen, reads=("demix", "people"), version=2, loads=active_speakers.loads),
    Stage("voices", voices.count, reads=("demix", "people"), loads=voices.loads),
    Stage("quality", quality.rate, reads=("demix", "speech")),
    Stage("words", words.write_down, reads=("demix", "speech")),
    Stage("captions", captions.caption, reads=("people",), loads=in_process.loads),
    Stage("subsets", subsets.sort, reads=("demix", "people", "speech")),
    Stage("template", template.write, reads=("people", "speech", "voices", "captions")),
    Stage("fingerprint", fingerprint.take),
    Stage("cut", cut.cut, reads=("technical",), writes=True),
)


def check_installed(config: DemixConfig, names: set[str]) -> None:
    """Raise UserError before anything is begun, where what one of these stages needs is not installed."""
    if "shots" in names and config.shots.detector != "none":
        shots.check(config.shots)
    if "demix" in names and spleeter.MODEL in (config.demix.demixer, config.demix.second):
        spleeter.check()
    if "people" in names:
        people.check(config.people.faces)
    if "speech" in names and config.speech.activity == "silero":
        voices_fingerprint()
    if "speech" in names:
        active_speakers.check(config.speech)
    if "voices" in names:
        voices.check(config.voices)
    if "quality" in names:
        quality.check(config.quality)
    if "words" in names:
        words.check(config.words)
    if "captions" in names and config.captions.source == "transformers":
        in_process.check(config, captions.RATE)
