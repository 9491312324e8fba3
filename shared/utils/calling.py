"""What a call of a pipeline may be told by either of two names, ours and diffusers', and what a wrong one is told."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from shared.utils.errors import UserError
from shared.utils.rng import seed_of_each

Call = TypeVar("Call", bound=Callable[..., Any])
#: Called after each step: callback(pipeline, step, u, {"video": latents, "audio": latents}) -> the same dict or None.
StepCallback = Callable[[Any, int, float, dict[str, Tensor]], dict[str, Tensor] | None]
Generators = torch.Generator | Sequence[torch.Generator]
#: Names of the latents that a callback is shown: ours, and diffusers'.
LATENTS = {"video": "video", "audio": "audio", "latents": "video", "audio_latents": "audio"}
#: Keywords of diffusers' pipelines of video and sound that say nothing to ours (docs/sampling.md).
NO_MEANING = (
    "latents", "audio_latents", "prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds",
    "negative_prompt_attention_mask", "sigmas", "timesteps", "noise_scale", "decode_timestep", "decode_noise_scale",
    "attention_kwargs", "max_sequence_length", "stg_scale", "audio_stg_scale", "spatio_temporal_guidance_blocks",
    "audio_guidance_rescale", "use_cross_timestep", "enable_prompt_enhancement", "system_prompt",
    "prompt_max_new_tokens", "prompt_enhancement_kwargs", "prompt_enhancement_seed", "motion_speed", "min_seconds",
    "max_seconds",
)  # fmt: skip


def with_arguments(text: str) -> Callable[[Call], Call]:
    """Put `text` for {arguments} into the docstring of a call."""

    def with_text(call: Call) -> Call:
        before, after = inspect.getdoc(call).split("{arguments}")  # type: ignore[union-attr]
        call.__doc__ = before + text.rstrip() + after
        return call

    return with_text


def refuse_unknown(unknown: Mapping[str, Any], call: Callable[..., Any], elsewhere: Mapping[str, str]) -> None:
    """Raise UserError for a keyword that the call has not, with the nearest that it has; `elsewhere` says of some what
    is done in their place."""
    for name in unknown:
        if name in elsewhere:
            raise UserError(f"{name}: {elsewhere[name]}")
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


def asked_frames(duration: float | None, num_frames: int | None, fps: float) -> int | None:
    """Count the frames that are asked for, in seconds or in frames; None: neither. UserError for both, and for none."""
    if duration is not None and num_frames is not None:
        raise UserError("duration and num_frames say the same; give one of them")
    if num_frames is not None:
        if isinstance(num_frames, bool) or not isinstance(num_frames, int) or num_frames < 1:
            raise UserError(f"num_frames is {num_frames!r}; a whole number from 1 is needed")
        return num_frames
    if duration is None:
        return None
    frames = round(duration * fps) if math.isfinite(duration) else 0
    if frames < 1:
        raise UserError(f"duration {duration} s holds no frame at {fps} fps; give a positive duration")
    return frames


def said_scales(scales: Mapping[str, float | None], guidance: Any) -> dict[str, float]:
    """Give back those scales of guidance that were said by number. UserError for any beside `guidance`, and for one
    that is no finite number."""
    said = {name: value for name, value in scales.items() if value is not None}
    if said and guidance is not None:
        raise UserError(f"guidance and {next(iter(said))} say the same; give one of them")
    for name, value in said.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise UserError(f"{name} is {value!r}; a finite number is needed")
    return said


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


def callback_names(asked: Sequence[str] | None, streams: Sequence[str] = ("video", "audio")) -> tuple[str, ...]:
    """Give back the names of latents, of these streams, that a callback wants; None: ours. UserError for others."""
    known = [name for name, stream in LATENTS.items() if stream in streams]
    names = tuple(streams if asked is None else asked)
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"callback_on_step_end_tensor_inputs: {unknown[0]!r}; choose among {', '.join(known)}")
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
