"""Make a video that speech, effects and music drive, with one checkpoint; the file carries the given sound.

Tracks, in any combination; what is not given is silent:
    python scripts/sample_mtv.py --prompt "One person conversation. ..." --speech voice.wav --effects steps.wav \\
        --music piano.wav --output out.mp4
More people speak in the prompt's order, Person1 from --speech, Person2 from --speech2 ... A mix is taken apart first:
    python scripts/sample_mtv.py --prompt "A bell rings." --audio film.wav --demixer dsp --output out.mp4

The video lasts as long as the sound. More than --window seconds are made window by window. Pictures at given times:
    ... --image first.png --keyframe 2.5=second.png --keyframe 6=third.png
A prompt that changes over time has lines of SECONDS, TEXT; the first begins at 0. A change is a cut, or --fade S:
    ... --timed-prompts story.txt
Adapters (docs/lora.md), and less GPU memory (docs/memory.md):
    ... --lora style=0.8 --lora bells --memory low
To edit a video, sample again with the same --seed and one track or the text replaced.
"""

from mtv.generate import MTVOptions, generate
from shared.utils.cli import parse
from shared.utils.errors import run_main


def main(argv: list[str] | None = None) -> None:
    """Print the file once it is written."""
    options = parse(MTVOptions, __doc__, argv)
    file = generate(options)
    if options.launch.writes:
        print(file)


if __name__ == "__main__":
    run_main(main)
