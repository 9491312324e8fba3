"""The names that a call of `CCLPipeline` may have in diffusers' pipelines, and what they are here.

`duration` and `num_frames`, `fps` and `frame_rate`, `seed` and `generator`, `guidance` and the scales of diffusers'
LTX-2 pipeline are each said once, by either name.
"""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from ccl.guidance import Form, Guidance
from shared.utils.errors import UserError
from shared.utils.rng import seed_of_each

Call = TypeVar("Call", bound=Callable[..., Any])
#: Called after each step: callback(pipeline, step, u, {"video": latents, "audio": latents}) -> the same dict or None.
StepCallback = Callable[[Any, int, float, dict[str, Tensor]], dict[str, Tensor] | None]
Generators = torch.Generator | Sequence[torch.Generator]
#: Names of the latents that a callback is shown: ours, and diffusers'.
LATENTS = {"video": "video", "audio": "audio", "latents": "video", "audio_latents": "audio"}
#: Keywords of diffusers' pipelines of video and sound that say nothing to this one (docs/sampling.md).
NO_MEANING = (
    "latents", "audio_latents", "prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds",
    "negative_prompt_attention_mask", "sigmas", "timesteps", "noise_scale", "decode_timestep", "decode_noise_scale",
    "attention_kwargs", "max_sequence_length", "stg_scale", "audio_stg_scale", "spatio_temporal_guidance_blocks",
    "audio_guidance_rescale", "use_cross_timestep", "enable_prompt_enhancement", "system_prompt",
    "prompt_max_new_tokens", "prompt_enhancement_kwargs", "prompt_enhancement_seed", "motion_speed", "min_seconds",
    "max_seconds",
)  # fmt: skip


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


def with_arguments(call: Call) -> Call:
    """Put `ARGUMENTS` into the docstring of a call."""
    before, after = inspect.getdoc(call).split("{arguments}")  # type: ignore[union-attr]
    call.__doc__ = before + ARGUMENTS.rstrip() + after
    return call


def refuse_unknown(unknown: Mapping[str, Any], call: Callable[..., Any]) -> None:
    """Raise UserError for a keyword that the call has not, with the nearest that it has."""
    for name in unknown:
        if name in NO_MEANING:
            raise UserError(f"{name} has no meaning here; leave it out (docs/sampling.md)")
        known = [one for one in inspect.signature(call).parameters if one not in ("self", "unknown")]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        raise UserError(f"unknown keyword {name}" + (f"; is {near[0]} meant?" if near else "; see help(pipe.__call__)"))


def chosen(name: str, value: Any, other: str, same: Any) -> Any:
    """Take whichever of two names was said. UserError where both were."""
    if value is not None and same is not None:
        raise UserError(f"{name} and {other} say the same; give one of them")
    return same if value is None else value


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
        said = {name: value for name, value in vars(self).items() if value is not None}
        if not said:
            return guidance
        if guidance is not None:
            raise UserError(f"guidance and {next(iter(said))} say the same; give one of them")
        for name, value in said.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise UserError(f"{name} is {value!r}; a finite number is needed")
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


def seeds_of(seed: int | Sequence[int] | None, generator: Generators | None, count: int) -> list[int]:
    """Seeds of `count` samples. A generator that is as `manual_seed(n)` leaves it is seed n; one that has drawn gives a
    number that it draws. Either draws one more, so that the next call makes something else. UserError for both."""
    if generator is None:
        return seed_of_each(0 if seed is None else seed, count)
    if seed is not None:
        raise UserError("seed and generator say the same; give one of them")
    each = list(generator) if isinstance(generator, Sequence) else [generator]
    if not all(isinstance(one, torch.Generator) for one in each):
        raise UserError("generator: a torch.Generator is needed, or one per prompt")
    numbers = [_number(one) for one in each]
    return seed_of_each(numbers[0] if isinstance(generator, torch.Generator) else numbers, count)


def _number(generator: torch.Generator) -> int:
    new = torch.Generator(generator.device).manual_seed(generator.initial_seed())
    unused = torch.equal(new.get_state(), generator.get_state())
    drawn = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    return generator.initial_seed() if unused else drawn


def repeated(prompts: list[Any], count: int) -> list[Any]:
    """Take each prompt so many times, one after the other. UserError for no whole number from 1."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise UserError(f"num_videos_per_prompt is {count!r}; a whole number from 1 is needed")
    return [prompt for prompt in prompts for _ in range(count)]


def callback_names(asked: Sequence[str] | None) -> tuple[str, ...]:
    """Give back the names of latents that a callback wants; None: ours. UserError for others."""
    names = ("video", "audio") if asked is None else tuple(asked)
    if unknown := [name for name in names if name not in LATENTS]:
        raise UserError(f"callback_on_step_end_tensor_inputs: {unknown[0]!r}; choose among {', '.join(LATENTS)}")
    return names


@dataclass(frozen=True)
class StepEnd:
    """A callback with the names of the latents that it is shown."""

    callback: StepCallback | None
    names: tuple[str, ...]

    def __call__(self, pipeline: Any, step: int, u: float, latents: dict[str, Tensor]) -> None:
        """Show it the latents after a step, and put what it gives back in their place. UserError for other names."""
        if self.callback is None:
            return
        shown = {name: latents[LATENTS[name]] for name in self.names if LATENTS[name] in latents}
        for name, value in (self.callback(pipeline, step, u, shown) or {}).items():
            if name not in shown:
                raise UserError(f"a callback gave back {name!r}; it was shown {', '.join(shown) or 'no latents'}")
            latents[LATENTS[name]] = value
