"""The probes of a joint checkpoint together: losses, context gain, leakage, attention and size, on the same clips."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ccl.analysis.attention_maps import AttentionProbe, draw_maps, sounding_tokens
from ccl.analysis.few_steps_probe import FewStepsProbe
from ccl.analysis.leakage_probe import GIVEN, LeakageProbe, choose_partners
from ccl.analysis.long_probe import LongProbe
from ccl.analysis.loss_probes import encode, loss_report, model_size, noise_levels
from ccl.analysis.options import ProbeOptions
from ccl.analysis.restore_probe import RestoreProbe
from ccl.pipeline import CCLPipeline
from ccl.training.objective import Batch
from shared.data.dataset import ClipDataset, Sample
from shared.data.manifest import Clip
from shared.utils.config import Flow
from shared.utils.errors import UserError
from shared.utils.fingerprint import fingerprint
from shared.utils.progress import bar as progress_bar

ATTENDED, PICTURED = 16, 4
"""Clips whose attention is measured, and of which pictures are made."""
STREAM_WIDTH = 18  # of a line about the steps, which says how they were made
ATTENTION_LEVELS = (0.2, 0.5, 0.8)
"""u at which attention is measured."""


class JointProbe:
    """One checkpoint on held-out clips, with their truths by id for leakage and attention. `towers`: the checkpoint
    before joint training, for forgetting; `teacher`: of a distilled one. UserError if one has learned other latents or
    texts."""

    def __init__(
        self, pipeline: CCLPipeline, clips: Sequence[Clip], truths: Mapping[str, Mapping[str, Any]],
        options: ProbeOptions, towers: CCLPipeline | None = None, teacher: CCLPipeline | None = None,
    ) -> None:  # fmt: skip
        for name in ("video_codec", "audio_codec", "text_encoder"):
            for key, other, what in (("--against", towers, "losses"), ("--teacher", teacher, "samples")):
                if other is not None and fingerprint(getattr(other, name)) != fingerprint(getattr(pipeline, name)):
                    raise UserError(f"{key}: its {name} is another one, so {what} cannot be compared")
        self.teacher = teacher
        for model in (pipeline, towers, teacher):
            if model is not None:
                model.transformer.eval()
        self.pipeline, self.clips, self.truths, self.options, self.towers = pipeline, clips, truths, options, towers
        self.flow = flow_of(pipeline)
        self.levels = noise_levels(options.levels, self.flow)
        self.size = (pipeline.config.height, pipeline.config.width)

    def measure(self) -> dict[str, Any]:
        """Results by probe, and "settings", how they were measured."""
        probes, result = set(self.options.probes), dict[str, Any]()
        batches: list[Batch] = []
        if probes - {"leakage", "steps", "long"}:
            batches = encode(self._dataset(self.clips), self.pipeline, self.options.batch)
        if {"loss", "text", "gain"} & probes:
            towers = self.towers and self.towers.transformer
            common = (batches, self.levels, self.flow, self.options.seed)
            result |= loss_report(self.options.probes, self.pipeline.transformer, towers, *common)
        if "leakage" in probes:
            result["leakage"] = self._leakage()
        if "attention" in probes:
            result["attention"] = self._attention(batches)
        if "restore" in probes:
            result["restore"] = self._restore(batches)
        if "long" in probes:
            options = self.options
            result["long"] = LongProbe(self.pipeline, options.sampled, options.seconds, options.seed).measure()
        if self.teacher is not None:
            samples, options = self._samples(), self.options
            given = samples, options.steps, options.batch, options.seed
            result["steps"] = FewStepsProbe(self.pipeline, self.teacher, *given).measure()
        if "model" in probes:
            result["model"] = model_size(self.pipeline.transformer, batches[0])
        settings = {
            "clips": len(self.clips), "u": self.levels, "attention_u": list(ATTENTION_LEVELS),
            "video_shift": self.flow.video_shift, "audio_shift": self.flow.audio_shift,
            "guidance": "none; of restore, steps and long: by default",
        }  # fmt: skip
        return {**result, "settings": self.options.settings() | settings}

    def _dataset(self, clips: Sequence[Clip]) -> ClipDataset:
        return ClipDataset(clips, self.pipeline.config.fps, self.size, self.pipeline.audio_codec.sample_rate)

    def _samples(self) -> list[Sample]:
        """Decode the clips that are sampled."""
        dataset = self._dataset(self.clips[: self.options.sampled])
        return [dataset[i] for i in range(len(dataset))]

    def _leakage(self) -> dict[str, Any]:
        options, clips = self.options, self.clips[: self.options.sampled]
        samples, truths = self._samples(), [self.truths[clip.id] for clip in clips]
        partners = choose_partners([sample.video.shape[1] for sample in samples], truths)
        if not partners:
            raise UserError("--manifest: leakage needs two clips of one length; there are none")
        starts, how = [clip.start for clip in clips], (options.steps, options.batch, options.seed)
        probe = LeakageProbe(self.pipeline, samples, truths, starts, partners, *how)
        return {task: probe.leakage(task) for task in GIVEN}

    def _restore(self, batches: Sequence[Batch]) -> dict[str, Any]:
        chosen = {clip.id for clip in self.clips[: self.options.sampled]}
        rows = ([row for row, name in enumerate(batch.ids) if name in chosen] for batch in batches)
        some = [batch.take(own) for batch, own in zip(batches, rows, strict=True) if own]
        return RestoreProbe(self.pipeline, self.flow, self.truths, self.options.steps, self.options.seed).measure(some)

    def _attention(self, batches: Sequence[Batch]) -> dict[str, Any]:
        pictures = self.options.pictures
        probe = AttentionProbe(self.pipeline.transformer, self.flow, ATTENTION_LEVELS, self.options.seed)
        chosen = {clip.id: (self.truths[clip.id], clip.start) for clip in self.clips[:ATTENDED]}
        pictured = list(chosen)[:PICTURED]
        with progress_bar(total=len(chosen), desc="attention", unit="clip") as bar:
            for batch in batches:
                if not (rows := [row for row, name in enumerate(batch.ids) if name in chosen]):
                    continue
                some = batch.take(rows)
                truths, space = [chosen[name] for name in some.ids], math.prod(probe.grid(some))
                sounding = sounding_tokens(some, truths, self.size, space)
                for row, maps in enumerate(probe.add(some, sounding)):
                    if pictures is not None and some.ids[row] in pictured:
                        draw_maps(pictures, some, row, maps, self.pipeline.video_codec, self.pipeline.config.fps)
                bar.update(len(rows))
        return probe.summary()


def flow_of(pipeline: CCLPipeline) -> Flow:
    """Noise levels of both streams as the pipeline's solvers have them."""
    solvers = [scheduler.config for scheduler in (pipeline.scheduler, pipeline.audio_scheduler)]
    shifts = [float(config["flow_shift" if "flow_shift" in config else "shift"]) for config in solvers]  # UniPC's
    return Flow(video_shift=shifts[0], audio_shift=shifts[1])


def headlines(result: Mapping[str, Any]) -> Iterator[str]:
    """Means, one line each."""
    for probe in ("loss", "text", "gain", "forgetting", "leakage", "restore", "steps", "long"):
        for task, values in result.get(probe, {}).items():
            for stream, one in ({"": values} if "mean" in values else values).items():
                if one["mean"] is not None:
                    low, high = one["interval"]
                    told = f"{probe:10s} {task:5s}{stream:{STREAM_WIDTH if probe == 'steps' else 6}s}"
                    told = f"{probe:10s} {task:6s}{stream:8s}" if probe == "restore" else told
                    told = f"{probe:10s} {task:10s}{stream:9s}" if probe == "long" else told
                    yield f"{told} {one['mean']:+9.4f}  [{low:+.4f}, {high:+.4f}]"
    for stream, kinds in result.get("attention", {}).items():
        for kind in ("background", "foreground"):
            shares = {name: value for name, value in kinds[kind].items() if isinstance(value, float)}
            words = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in shares.items())
            yield f"attention  {stream:5s} {kind}: {words}"
    for name, value in result.get("model", {}).items():
        yield f"model      {name.replace('_', ' ')} {value:,}"
