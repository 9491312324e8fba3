"""Measure what a joint checkpoint knows, with little sampling: how well it predicts, and what it attends to.

    python scripts/probe.py --checkpoint outputs/puppets/checkpoint --manifest held_out/manifest.jsonl \\
        --output probe.json

The file holds, by --probes: `loss`, held out, on fixed (clip, noise, u), per task, stream, clip and noise level;
`gain`, how much of it the other stream explains; `leakage`, what else changes when the given sound or picture is
another clip's; `attention`, where cross-modal attention looks; `model`, its size. docs/probes.md says what each number
means. leakage and attention need clips of the stage (scripts/make_puppets.py), which know where and when something
sounds.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.checkpoint.folder import check_checkpoint, load_checkpoint
from shared.data.manifest import Clip, read_manifest
from shared.utils.cli_old import Parser, device
from shared.utils.errors import UserError, run_main

if TYPE_CHECKING:
    from ccl.pipeline import CCLPipeline
    from ccl.training.objective import Batch
    from shared.data.dataset import ClipDataset
    from shared.utils.config import Flow

PROBES = ("loss", "gain", "leakage", "attention", "model")
BY_TRUTH = ("leakage", "attention")
ATTENDED, PICTURED = 16, 4
"""Clips whose attention is measured, and of which pictures are made."""
ATTENTION_LEVELS = (0.2, 0.5, 0.8)
"""u at which attention is measured."""


def main(argv: Sequence[str] | None = None) -> None:
    """Check, load, measure, write."""
    options = parse(argv)
    check_joint("--checkpoint", options.checkpoint)
    if options.against is not None:
        check_joint("--against", options.against)
    clips = read_manifest(options.manifest)[: options.clips]
    truths = {clip.id: read_truth(clip, options) for clip in clips} if set(options.probes) & set(BY_TRUTH) else {}
    prepare(options)
    from shared.data.dataset import survey
    from shared.utils.files import write_json

    survey(clips, needs_video=True, needs_audio=True)
    begun = time.monotonic()
    result = Session(options, clips, truths).measure()
    result["settings"]["seconds"] = round(time.monotonic() - begun, 1)
    write_json(options.output, result)
    print("\n".join(headlines(result)))
    print(options.output)


class Session:
    """One checkpoint, the held-out clips and what has been encoded of them."""

    def __init__(self, options: argparse.Namespace, clips: Sequence[Clip], truths: dict[str, dict[str, Any]]) -> None:
        from shared.utils.config import Flow

        self.options, self.clips, self.truths = options, clips, truths
        self.pipeline = self._load(options.checkpoint)
        shifts = [scheduler_shift(s) for s in (self.pipeline.scheduler, self.pipeline.audio_scheduler)]
        self.flow: Flow = Flow(video_shift=shifts[0], audio_shift=shifts[1])
        self.size = (self.pipeline.config.height, self.pipeline.config.width)
        self.towers = None if options.against is None else self._towers()

    def _load(self, folder: Path) -> CCLPipeline:
        from ccl.pipeline import CCLPipeline

        pipeline = load_checkpoint(CCLPipeline, folder, None, device(self.options.device))
        pipeline.transformer.eval()
        return pipeline

    def measure(self) -> dict[str, Any]:
        """What the file holds."""
        from ccl.analysis.loss_probes import model_size, noise_levels

        probes, options = self.options.probes, self.options
        self.levels = noise_levels(options.levels, self.flow)
        result: dict[str, Any] = {}
        if set(probes) - {"leakage"}:
            self.batches = self._encode()
        if {"loss", "gain"} & set(probes):
            result |= self._losses()
        if "leakage" in probes:
            result["leakage"] = self._leakage()
        if "attention" in probes:
            result["attention"] = self._attention()
        if "model" in probes:
            result["model"] = model_size(self.pipeline.transformer, self.batches[0])
        return {**result, "settings": self._settings()}

    def _dataset(self, clips: Sequence[Clip]) -> ClipDataset:
        from shared.data.dataset import ClipDataset

        return ClipDataset(clips, self.pipeline.config.fps, self.size, self.pipeline.audio_codec.sample_rate)

    def _encode(self) -> list[Batch]:
        from tqdm import tqdm

        from ccl.analysis.loss_probes import encode
        from shared.data.dataset import check_clip

        def samples() -> Iterator[Any]:
            dataset = self._dataset(self.clips)
            for index in tqdm(range(len(dataset)), desc="encoding clips", unit="clip"):
                sample = dataset[index]
                check_clip(sample, needs_video=True, needs_audio=True)
                yield sample

        pipe = self.pipeline
        codecs = (pipe.video_codec, pipe.audio_codec)
        return encode(samples(), codecs, pipe.text_encoder, pipe.config.fps, self.options.batch, pipe.device)

    def _losses(self) -> dict[str, Any]:
        """ "loss", "gain" and, with --against, "forgetting"; without DCR the loss of the joint tasks alone."""
        from ccl.analysis.loss_probes import JOINED, State, context_gain, held_out_losses, summaries, tasks_of

        probes, model = self.options.probes, self.pipeline.transformer
        tasks = tasks_of(model)
        single = [State(task) for task in tasks if task not in JOINED]
        if not single:
            print("this model knows no stream alone: no loss of t2v and t2a, no gain, no forgetting")
        states = [State(task) for task in tasks] if "loss" in probes else []
        if "gain" in probes and single:
            states += [State(task, alone) for task in JOINED for alone in (False, True)]
        if not states:
            return {"gain": {}}
        common = (self.batches, self.levels, self.flow, self.options.seed)
        table = held_out_losses(model, *common, list(dict.fromkeys(states)))
        result: dict[str, Any] = {}
        if "loss" in probes:
            result["loss"] = {task.value: summaries(table[State(task)]) for task in tasks}
        if "gain" in probes:
            result["gain"] = {task.value: summaries(context_gain(table, task)) for task in JOINED if single}
        if self.towers is not None and single:
            before = held_out_losses(self.towers.transformer, *common, single, "held-out loss, against")
            result["forgetting"] = {
                state.task.value: summaries({s: loss - before[state][s] for s, loss in table[state].items()})
                for state in single
            }
        return result

    def _towers(self) -> CCLPipeline:
        """The checkpoint --against, which must have learned the same latents and texts."""
        from shared.nn.fingerprint import fingerprint

        towers = self._load(self.options.against)
        for name in ("video_codec", "audio_codec", "text_encoder"):
            if fingerprint(getattr(towers, name)) != fingerprint(getattr(self.pipeline, name)):
                raise UserError(
                    f"--against {self.options.against}: its {name} is another one, so losses cannot be compared"
                )
        return towers

    def _leakage(self) -> dict[str, Any]:
        from ccl.analysis.leakage_probe import GIVEN, Swaps, choose_partners

        clips = self.clips[: self.options.sampled]
        dataset = self._dataset(clips)
        samples, truths = [dataset[i] for i in range(len(dataset))], [self.truths[clip.id] for clip in clips]
        partners = choose_partners([sample.video.shape[1] for sample in samples], truths)
        if not partners:
            raise UserError(
                f"--manifest {self.options.manifest}: leakage needs two clips of one length; there are none"
            )
        starts = [clip.start for clip in clips]
        common = (partners, self.options.steps, self.options.batch, self.options.seed)
        swaps = Swaps(self.pipeline, samples, truths, starts, *common)
        return {task: swaps.leakage(task) for task in GIVEN}

    def _attention(self) -> dict[str, Any]:
        from tqdm import tqdm

        from ccl.analysis.attention_figures import draw_maps
        from ccl.analysis.attention_maps import AttentionProbe, sounding_tokens

        model = self.pipeline.transformer
        probe = AttentionProbe(model, self.flow, ATTENTION_LEVELS, self.options.seed)
        chosen = {clip.id: (self.truths[clip.id], clip.start) for clip in self.clips[:ATTENDED]}
        pictured = list(chosen)[:PICTURED] if self.options.pictures is not None else []
        drawn = (self.pipeline.video_codec, self.pipeline.config.fps)
        with tqdm(total=len(chosen), desc="attention", unit="clip") as bar:
            for batch in self.batches:
                rows = [row for row, name in enumerate(batch.ids) if name in chosen]
                if not rows:
                    continue
                some = batch.take(rows)
                sounding = sounding_tokens(some, [chosen[name] for name in some.ids], self.size, probe.space(some))
                for row, maps in enumerate(probe.add(some, sounding)):
                    if some.ids[row] in pictured:
                        draw_maps(self.options.pictures, some, row, maps, *drawn)
                bar.update(len(rows))
        return probe.summary()

    def _settings(self) -> dict[str, Any]:
        options = self.options
        told = {name: getattr(options, name) for name in ("probes", "seed", "batch", "steps", "sampled")}
        against = None if options.against is None else str(options.against)
        return {
            "checkpoint": str(options.checkpoint), "manifest": str(options.manifest), "against": against,
            "clips": len(self.clips), "u": self.levels, "attention_u": list(ATTENTION_LEVELS),
            "video_shift": self.flow.video_shift, "audio_shift": self.flow.audio_shift, "guidance": "none", **told,
        }  # fmt: skip


def scheduler_shift(scheduler: Any) -> float:
    """The shift of a solver; UniPC has its own name for it."""
    config = scheduler.config
    return float(config["flow_shift"] if "flow_shift" in config else config["shift"])


def headlines(result: dict[str, Any]) -> Iterator[str]:
    """The means, one line each."""
    for probe in ("loss", "gain", "forgetting", "leakage"):
        for task, found in result.get(probe, {}).items():
            parts = {"": found} if "mean" in found else found
            for stream, values in parts.items():
                if values["mean"] is not None:
                    low, high = values["interval"]
                    yield f"{probe:10s} {task:5s}{stream:6s} {values['mean']:+9.4f}  [{low:+.4f}, {high:+.4f}]"
    for stream, found in result.get("attention", {}).items():
        for kind in ("background", "foreground"):
            told = [f"{name.replace('_', ' ')} {value:.3f}" for name, value in found[kind].items()
                    if isinstance(value, float)]  # fmt: skip
            yield f"attention  {stream:5s} {kind}: {', '.join(told)}"
    for name, value in result.get("model", {}).items():
        yield f"model      {name.replace('_', ' ')} {value:,}"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, metavar="DIR")
    add("--manifest", type=Path, required=True, metavar="FILE", help="held-out clips")
    add("--output", type=Path, required=True, metavar="FILE", help="the numbers, a .json")
    add("--clips", type=int, default=64, help="the first so many clips; default: 64")
    add("--probes", default=",".join(PROBES), help=f"some of {','.join(PROBES)}; default: all")
    add("--against", type=Path, metavar="DIR", help="the checkpoint of the towers before joint training: forgetting")
    add("--pictures", type=Path, metavar="DIR", help=f"attention maps of {PICTURED} clips as png files")
    add("--levels", type=int, default=8, help="noise levels of the loss; default: 8")
    add("--sampled", type=int, default=16, help="clips that leakage samples; default: 16")
    add("--steps", type=int, default=16, help="solver steps of leakage; default: 16")
    add("--batch", type=int, default=16, help="clips at a time; default: 16")
    add("--seed", type=int, default=0, help="of the noise; default: 0")
    add("--device", default="auto", help="auto (default: a GPU if there is one), cpu, cuda, cuda:1 ...")
    return checked(parser.parse_args(argv))


def checked(options: argparse.Namespace) -> argparse.Namespace:
    for name, least in (("clips", 1), ("levels", 1), ("sampled", 2), ("steps", 1), ("batch", 1)):
        if (value := getattr(options, name)) < least:
            raise UserError(f"--{name} {value}: at least {least} is needed")
    named = [name.strip() for name in options.probes.split(",")]
    if unknown := [name for name in named if name not in PROBES]:
        raise UserError(f"--probes {unknown[0]}: give some of {','.join(PROBES)}")
    options.probes = [name for name in PROBES if name in named]
    if options.pictures is not None and "attention" not in options.probes:
        raise UserError("--pictures shows attention; give --probes attention with it, or leave it out")
    if options.against is not None and "loss" not in options.probes:
        raise UserError("--against compares losses; give --probes loss with it, or leave it out")
    if options.output.suffix != ".json":
        raise UserError(f"--output {options.output}: the file's name must end in .json")
    return options


def check_joint(option: str, folder: Path) -> None:
    """Raise UserError unless the folder holds a checkpoint of a joint model."""
    index = check_checkpoint(folder)
    kind = index.get("transformer") or ["", ""]
    if not (kind[0] or "").startswith("ccl.") or not (index.get("audio_codec") or [None])[0]:
        raise UserError(f"{option} {folder}: holds no joint model; a checkpoint of scripts/train_ccl.py is needed")


def read_truth(clip: Clip, options: argparse.Namespace) -> dict[str, Any]:
    """Raises UserError for a clip without the stage's truth."""
    rest = ",".join(name for name in options.probes if name not in BY_TRUTH) or "loss,gain,model"
    if clip.truth is None:
        raise UserError(
            f"--manifest {options.manifest}: clip {clip.id!r} has no truth, which leakage and attention need; give "
            f"clips of scripts/make_puppets.py, or --probes {rest}"
        )
    try:
        truth: dict[str, Any] = json.loads(clip.truth.read_text(encoding="utf-8"))
        missing = [name for name in ("characters", "objects", "events", "pan", "mood", "music") if name not in truth]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{clip.truth}: cannot be read ({error}); the truth of a stage clip is needed") from None
    if missing:
        raise UserError(f"{clip.truth}: has no {missing[0]}; the truth of a stage clip is needed")
    return truth


def prepare(options: argparse.Namespace) -> None:
    """Make the folders. Raises UserError where that cannot be."""
    folders = [("--output", options.output.parent)]
    if options.pictures is not None:
        folders.append(("--pictures", options.pictures))
    for option, folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{option} {folder}: {error.strerror}; give a folder that can be written to") from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UserError(f"{option} {folder}: cannot be written to; give another folder")
    if options.output.is_dir():
        raise UserError(f"--output {options.output}: is a folder; give a file")


if __name__ == "__main__":
    run_main(main)
