"""The names that a call of `CCLPipeline` may have in diffusers' pipelines, and what they are here.

`duration` and `num_frames`, `fps` and `frame_rate`, `seed` and `generator`, `guidance` and the scales of diffusers'
LTX-2 pipeline are each said once, by either name.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ccl.guidance import Form, Guidance
from shared.utils.calling import said_scales

#: What a call's arguments mean, for `help(pipe.__call__)`.
ARGUMENTS = """\
Args:
    prompt, audio_prompt: what to see, and to hear (default: the same). `TimedPrompts` change over time.
    negative_prompt: the text 0c of guidance; default: none.
    task: t2av, t2v, t2a, a2v, v2a, part, or auto: by what is given.
    duration: seconds; or num_frames. Default: as long as what is given, otherwise 2 s.
    height, width: pixels; default: as trained. fps, or frame_rate: frames a second, also of a given video;
        default: the pipeline's. Its clock tells the transformer, which heeds it with `frame_rate`.
    num_inference_steps: solver steps. Default: 24, of a model that is distilled what its config says.
    guidance: form and weights of UCG. Default: dual, of a model that is distilled none, which its weights have.
        Or by number: guidance_scale of the text, modality_scale of the other modality, audio_... of the sound
        (default: as the video's), 1 is none; guidance_rescale, 0 to 1.
    num_videos_per_prompt: clips of each prompt.
    seed: one per prompt, or one (default: 0): clip i draws from seed + i. Video and sound have noise of their
        own. generator: a torch.Generator or one per clip; manual_seed(n) is seed n.
    image: the first frame (i2av, i2v): a file, PIL, [H, W, 3] or [B, H, W, 3] of uint8 or in [0, 1], or a
        tensor [3, H, W] or [B, 3, H, W] in [-1, 1]. Files and PIL are scaled and cut to the size.
    audio: the sound to make a video for: a file, (samples, rate), or a tensor [B or 1, 1, samples] at the
        codec's rate. video: the pictures to make a sound for: a file, a list of PIL, [T, H, W, 3] as of an
        image, or a tensor [B or 1, 3, T, H, W] in [-1, 1].
    keep: spans, (from, to) in seconds, that stay of the given video and sound while the rest is made; what is
        given may end with the last of them. keep_audio: other spans of the sound.
    given_speech, given_effects: task part: a file, or (samples, rate), of which the mix and the video are made.
    output_type: np, pil, pt: what `CCLOutput.frames` holds; latent: nothing is decoded.
    return_dict: false: (frames, audio).
    callback_on_step_end: callback(pipeline, step, u, latents) -> the same dict or None; its latents are "video"
        and "audio", or those named by callback_on_step_end_tensor_inputs, where "latents" and "audio_latents"
        are the same. A callback that sets `pipeline._interrupt` ends the sampling.
"""


@dataclass(frozen=True)
class Scales:
    """Guidance as diffusers' LTX-2 pipeline says it: of the text and of the other modality, per stream."""

    guidance_scale: float | None = None
    audio_guidance_scale: float | None = None
    modality_scale: float | None = None
    audio_modality_scale: float | None = None
    guidance_rescale: float | None = None

    def guidance(self, guidance: Guidance | None) -> Guidance | None:
        """Put the scales that were said into the default guidance; a scale of the video is the sound's, too, unless
        that has its own. UserError beside `guidance`, and for a scale that is no finite number."""
        if not said_scales(vars(self), guidance):
            return guidance
        usual = Guidance()
        text = _both(self.guidance_scale, self.audio_guidance_scale, usual.text_scale)
        context = _both(self.modality_scale, self.audio_modality_scale, usual.context_scale)
        form = Form.NONE if (*text, *context) == (1, 1, 1, 1) else None
        return replace(
            usual, form=form, text_scale=text, context_scale=context, rescale=self.guidance_rescale or usual.rescale
        )


def _both(video: float | None, audio: float | None, usual: tuple[float, float]) -> tuple[float, float]:
    own = usual[0] if video is None else video
    return own, audio if audio is not None else usual[1] if video is None else video
