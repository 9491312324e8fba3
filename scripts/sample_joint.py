"""Make video and sound from text, and from a picture, a sound or a video, with one checkpoint.

    python scripts/sample_joint.py --prompt "Scene description: a big yellow bell rings twice." --output bell.mp4

What is made follows from what is given (--task auto):
    text alone            t2av   video with sound, an .mp4
    text and --image      t2av   the same, beginning with that picture
    text and --audio      a2v    a video for this sound; the file carries the given sound itself
    text and --video      v2a    a sound for this video; the file carries the given picture itself
    --video, --audio, --keep 0-2,4-5   t2av   those seconds stay, the rest is made: extend, retake, fill in
    --given-speech or --given-effects  part   the video and the rest of the sound for it
With --task t2v the mp4 has no sound (--image works here too); --task t2a writes a .wav.

Many prompts, one per line of a file, make OUT_000.mp4, OUT_001.mp4 ... with seeds SEED, SEED + 1 ...:
    python scripts/sample_joint.py --prompts prompts.txt --output many/clip.mp4
Processes of torchrun or deepspeed divide them, or make each clip together (docs/scaling.md):
    torchrun --nproc-per-node 2 scripts/sample_joint.py --prompt "A bell rings." --context-parallel 2 --output bell.mp4
A prompt that changes over time has lines of SECONDS, TEXT; the first begins at 0. A change is a cut, or --fade S:
    python scripts/sample_joint.py --timed-prompts story.txt --duration 4 --output story.mp4
A long clip, a few seconds at a time:
    python scripts/sample_joint.py --prompt "A bell rings." --duration 60 --window 4 --output minute.mp4
Adapters (docs/lora.md), and less GPU memory (docs/memory.md):
    python scripts/sample_joint.py --prompt "A bell rings." --lora style=0.8 --lora bells --memory low --output bell.mp4
Guidance by itself and per stream (video, then audio):
    python scripts/sample_joint.py --prompt "A drum is hit." --guidance dual --text-scale 3,2 \\
        --context-scale 2 --output drum.mp4
As Ovi's release guides, of a checkpoint made of it (docs/conversion.md):
    ... --guidance text --text-scale 4,3 --skip-layers 11
"""

from ccl.generate import JointOptions, generate
from shared.utils.cli import parse
from shared.utils.errors import run_main


def main(argv: list[str] | None = None) -> None:
    """Print each file as soon as it is written."""
    for file in generate(parse(JointOptions, __doc__, argv)):
        print(file)


if __name__ == "__main__":
    run_main(main)
