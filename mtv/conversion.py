"""What a checkpoint folder of MTV's public weights (baaivision/MTVCraft) holds besides them, and its two models.

Names and tensors are `shared.checkpoint.conversion.mtvcraft`'s, which writes the folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtv.cogvideox.loading import codec_folder, read_part
from shared.utils.errors import UserError
from shared.utils.ranges import check_range

FPS, SCALE = 24.0, 0.7


def build_models(transformer: dict[str, Any], control: dict[str, Any]) -> tuple[Any, Any]:
    """Build backbone and control network of these arguments, without values."""
    import torch
    from diffusers import CogVideoXTransformer3DModel

    from mtv.mtvcraft import MTVCraftControl

    with torch.device("meta"):
        return CogVideoXTransformer3DModel(**transformer), MTVCraftControl(**control)


def spatial_stride(cogvideox: Path) -> int:
    """Read pixels to a latent's side of the autoencoder of a CogVideoX folder; torch is not needed. UserError for
    another CogVideoX than that of the public weights."""
    where = f"--cogvideox {cogvideox}"
    if not cogvideox.is_dir():
        raise UserError(f"{where}: no such folder; CogVideoX-5b as diffusers has it is needed")
    codec = codec_folder(cogvideox).name
    config, text = (read_part(cogvideox, f"{name}/config.json") for name in (codec, "text_encoder"))
    if (kind := config.get("_class_name")) != "AutoencoderKLCogVideoX":
        raise UserError(f"{where}: {codec} is {kind!r}, not AutoencoderKLCogVideoX")
    if (scale := config.get("scaling_factor")) != SCALE:
        made = f"these weights were made for latents times {SCALE}, as CogVideoX-5b has them"
        raise UserError(f"{where}: scaling_factor of its {codec} is {scale}; {made}")
    if (kind := text.get("model_type")) != "t5":
        raise UserError(f"{where}: text_encoder is {kind!r}, not t5")
    levels = config.get("block_out_channels", [0] * 4)
    check_range(f"{where}: levels of block_out_channels", len(levels), 1, 10)
    return int(2 ** (len(levels) - 1))


def write_others(
    folder: Path, models: tuple[Any, Any], cogvideox: Path, wav2vec2: str, size: tuple[int, int], shard_size: str
) -> None:
    """Write autoencoder, text encoder, wav2vec2, scheduler and model_index.json. UserError for a part that does not fit
    `models`, those of `build_models`."""
    from mtv.pipeline import MTVPipeline
    from shared.codecs.cogvideox import CogVideoXVideoCodec
    from shared.encoders.t5 import T5Text
    from shared.encoders.wav2vec2 import MTVCraftWav2Vec2

    transformer, control = models
    length = transformer.config.max_text_seq_length
    others: dict[str, Any] = {
        "video_codec": CogVideoXVideoCodec.from_pretrained(codec_folder(cogvideox)),
        "text_encoder": T5Text.from_pretrained(cogvideox, max_length=length, torch_dtype="auto"),
        "audio_encoder": MTVCraftWav2Vec2.from_transformers(wav2vec2),
    }
    encoder = others["audio_encoder"]
    if (values := encoder.window * encoder.layers * encoder.dim) != control.config.features:
        what = f"makes {values} values for a frame, and the control network reads {control.config.features}"
        raise UserError(f"--wav2vec2 {wav2vec2}: {what}; wav2vec2-base-960h is needed")
    for name, part in others.items():
        part.save_pretrained(folder / name, max_shard_size=shard_size)
    scheduler = public_scheduler()
    scheduler.save_pretrained(folder / "scheduler")
    parts = {"transformer": transformer, "control": control, "scheduler": scheduler, **others}
    MTVPipeline(**parts, fps=FPS, height=size[0], width=size[1]).save_config(folder)


def public_scheduler() -> Any:
    """Make the schedule that the weights were trained on: √β linear, zero terminal SNR, no shift; v is predicted.

    At sampling its public code takes steps of DPM-Solver++(2M) as an SDE, from timestep 999 in equal strides.
    """
    from diffusers import CogVideoXDPMScheduler

    return CogVideoXDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        timestep_spacing="trailing", rescale_betas_zero_snr=True, snr_shift_scale=1.0,
    )  # fmt: skip
