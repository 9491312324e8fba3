"""Video that sound drives, on the page: checked as in scripts/sample_mtv.py, then made and shown window by window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccl.app.jobs import Job
from ccl.app.making import steps_told
from ccl.app.options import asked, plainly
from ccl.app.players import MadeClip
from mtv.generate import MTVOptions, call_arguments, given_tracks, read_given, resampled, separated
from mtv.kept_windows import KeptWindows
from shared.utils.windows import SECONDS, plan, window_frames

if TYPE_CHECKING:
    from ccl.app.shelf import Shelf

TRACKS = ("speech", "speech2", "effects", "music", "audio")


class DrivenRequest:
    """One request for a video: `values` are options of scripts/sample_mtv.py by name, of which those that are empty
    have its defaults. `texts`: those that follow the prompt, with their seconds; `keyframes`: pictures' files, with
    theirs. UserError, as there, for what does not fit, before any model is loaded."""

    def __init__(
        self, values: Mapping[str, Any], folder: Path, texts: Sequence[tuple[float, str]] = (),
        keyframes: Sequence[tuple[float, str]] = (), name: str = "driven",
    ) -> None:  # fmt: skip
        self.file = folder / f"{name}.mp4"
        self.prompt = " ".join((values.get("prompt") or " ").splitlines())
        self.files = [*(values.get(track) for track in TRACKS), *(file for _, file in keyframes), folder]
        given = {"output": self.file, **values} | {"keyframe": [f"{time:g}={file}" for time, file in keyframes]}
        if texts:  # as a file, so that all is checked as on the command line
            story = folder / "timed texts"
            rows = texts if texts[0][0] == 0 else [(0.0, self.prompt), *texts]
            story.write_text("".join(f"{time:g}, {text}\n" for time, text in rows), encoding="utf-8")
            given |= {"prompt": None, "timed_prompts": story}
        elif not self.prompt.strip():
            given["prompt"] = " "
        with plainly(self.files):
            self.options = asked(MTVOptions, given)
            self.texts, self.sound = read_given(self.options)

    def make(self, job: Job, shelf: Shelf, caption: str, shown: Sequence[MadeClip] = ()) -> MadeClip:
        """Make the video; after each window what is finished is shown, behind the clips that are `shown` already."""
        options = self.options
        with plainly(self.files), KeptWindows.of(self.file, "", resume=False) as kept:
            job.progress("loading the model", 0.0)
            pipeline = shelf.driven(options)
            fps = options.fps or float(pipeline.config.fps)
            rate = pipeline.audio_encoder.sample_rate
            if options.audio is None:
                tracks = given_tracks(options, rate, job.note)
            else:
                tracks = resampled(separated(options, self.sound), rate)
            stride, seconds = pipeline.video_codec.temporal_stride, options.window or SECONDS
            frames = max(1, round(self.sound.duration * fps))
            windows = len(plan(frames, window_frames(seconds, fps, stride), 1 + stride, stride))
            arguments = call_arguments(options, pipeline, fps)
            arguments["callback_on_step_end"] = steps_told(job, caption, 0.0, 1.0, windows)
            progress = kept.progress()
            for number, part in enumerate(pipeline.stream(self.texts, tracks, **arguments, progress=progress), start=1):
                kept.add(part[0], progress)
                if number < windows:  # the frames wait on the disk; what plays is written beside them
                    so_far = self.file.with_name(f"{self.file.stem}_{number}.mp4")
                    self.sound.write(so_far, kept.video(), fps)
                    told = f"{caption}, the first {kept.frames / fps:.1f} s"
                    job.show(*shown, MadeClip(so_far, told, whole=False))
            self.sound.write(self.file, kept.video(), fps)
            kept.remove()
        clip = MadeClip(self.file, caption)
        job.show(*shown, clip)
        return clip
