"""A tiny random CogVideoX folder that diffusers saved, trained and sampled by MTV alone, through the scripts."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import export
import numpy as np
import pytest
import sample_mtv
import soundfile
import torch
import yaml
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    FlowMatchEulerDiscreteScheduler,
)
from driven_runs import driven
from PIL import Image
from safetensors.torch import load_file
from small_cogvideox import save_folder

from mtv.cogvideox.hooks import CogVideoXDenoiser
from mtv.cogvideox.loading import codec_folder, load_scheduler
from mtv.cogvideox.objective import draw_timesteps
from mtv.cogvideox_adapter import DiffusionObjective, LazyT5
from mtv.control import TrackFeatures
from mtv.control_training import build_control
from mtv.curriculum import DiffusionLoss
from mtv.guidance import TrackGuidance
from mtv.pipeline import MTVPipeline
from mtv.tracks import Tracks
from shared.checkpoint.folder import load_checkpoint
from shared.codecs.cogvideox import CogVideoXVideoCodec
from shared.codecs.library import load_library_model
from shared.data.media import probe, read_video, write_video
from shared.encoders.audio import LogMel
from shared.utils.errors import UserError
from shared.utils.rng import generator

ROOT = Path(__file__).parents[2]

FPS, SIDE, RATE = 8, 16, 16000
NONE = TrackGuidance(1, 1, 1, 1)
SMALL = {"token_dim": 8, "tokens": 2, "interaction_blocks": 1, "heads": 2, "ffn_dim": 8, "hidden_dim": 8}
SCHEDULERS = {
    "ddim epsilon": CogVideoXDDIMScheduler(timestep_spacing="trailing"),
    "dpm v": CogVideoXDPMScheduler(
        prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True
    ),
}


def noise(name: str, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator(0, "tests", name))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cogvideox/, as `CogVideoXPipeline.save_pretrained` writes it; clips and configurations beside it."""
    folder = tmp_path_factory.mktemp("backbone")
    save_folder(folder / "cogvideox", SCHEDULERS["dpm v"])
    lines = [json.dumps(write_clip(folder, index)) for index in range(2)]
    (folder / "manifest.jsonl").write_text("\n".join(lines))
    (folder / "mtv.yaml").write_text(yaml.safe_dump(configuration(folder)))
    return folder


def write_clip(folder: Path, index: int) -> dict:
    """1 s, 16x16 at 8 fps with three tracks, the second clip with two speakers."""
    rng = np.random.default_rng(index)
    names = ["speech", "effects", "music"] if index == 0 else ["speech1", "speech2", "effects", "music"]
    tracks = {name: (0.2 * rng.standard_normal(RATE)).astype(np.float32) for name in names}
    for name, sound in tracks.items():
        soundfile.write(folder / f"{index}.{name}.wav", sound, RATE, subtype="FLOAT")
    frames = np.kron(rng.integers(0, 255, (FPS, 4, 4, 3)), np.ones((1, 4, 4, 1))).astype(np.uint8)
    write_video(folder / f"{index}.mp4", frames, FPS, sum(tracks.values())[None], RATE)
    files = {name: f"{index}.{name}.wav" for name in names}
    subsets = ["face"] if index == 0 else []
    return {
        "id": f"c{index}",
        "video": f"{index}.mp4",
        "caption": f"Clip {index}.",
        "tracks": files,
        "subsets": subsets,
    }


def configuration(folder: Path) -> dict:
    return {
        "output": str(folder / "whole"),
        "backbone": str(folder / "cogvideox"),
        "control": SMALL,
        "data": {"manifest": str(folder / "manifest.jsonl"), "fps": FPS, "size": [SIDE, SIDE]},
        "optimizer": {"warmup": 0, "lr": 1e-2},
        "keyframes": 0.5,
        "validation": {"every": 100, "clips": 1, "steps": 1},
        "train": {"micro_batch": 1, "checkpoint_every": 2, "log_every": 1, "ema": 0.5, "export_dtype": "fp32"},
        "stages": [
            {"name": "face", "subset": "face", "steps": 1, "trainable": ["control"]},
            {"name": "crowd", "steps": 3},
            {"name": "all", "steps": 30, "trainable": ["transformer", "control"]},
        ],
    }


@pytest.fixture(scope="module")
def runs(folder: Path) -> dict[str, tuple[int | str, str]]:
    """Exit code and stderr of each run."""

    def arguments(*overrides: str) -> list[str]:
        line = ["--config", str(folder / "mtv.yaml")]
        return line + [part for override in overrides for part in ("--set", override)]

    cut = (f"output={folder / 'cut'}", f"stages={json.dumps(configuration(folder)['stages'][:2])}")
    lines = [
        ("whole", "mtv", arguments(), None),
        ("again", "mtv", arguments(), None),
        ("cut", "mtv", arguments(*cut), ["2_crowd", 2]),
        ("resumed", "mtv", arguments(*cut), None),
        ("on", "mtv", arguments(f"output={folder / 'on'}", f"backbone={folder / 'whole/checkpoint'}",
                         "stages=[{name: more, steps: 1, trainable: [control]}]", "train.export_dtype=bf16"), None),
        ("nowhere", "mtv", arguments(f"output={folder / 'none'}", f"backbone={folder / 'nothing'}"), None),
        ("odd", "mtv", arguments(f"output={folder / 'none'}", "data.size=[16, 20]"), None),
        ("sizes", "mtv", arguments(f"output={folder / 'sizes'}", "control.tokens=0"), None),
    ]  # fmt: skip
    return driven(lines, "shared.training.state:RunState.save", "[self.folder.parent.name, given[1]] == kill")


def weights(checkpoint: Path, part: str) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / part / "diffusion_pytorch_model.safetensors")


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name].float(), after[name].float())}


def test_the_stages_train_a_cogvideox_folder_to_a_checkpoint(folder: Path, runs: dict) -> None:
    assert runs["whole"][0] == 0, runs["whole"][1]
    made = folder / "whole/checkpoint"
    index = json.loads((made / "model_index.json").read_text())
    assert index["transformer"] == ["diffusers", "CogVideoXTransformer3DModel"] and index["fps"] == FPS
    assert (made / "control/config.json").is_file() and (made / "audio_encoder/config.json").is_file()
    assert f"| made of | `{folder.name}/cogvideox` |" in (made / "README.md").read_text()
    first, second = folder / "whole/1_face/checkpoint", folder / "whole/2_crowd/checkpoint"
    start = weights(folder / "cogvideox", "transformer")
    assert not changed(start, weights(first, "transformer"))  # the first stage trains the control network alone
    learned = changed(start, weights(second, "transformer"))
    assert learned and all(".attn1." in name for name in learned)
    assert changed(weights(first, "control"), weights(second, "control"))
    for name in ("text_encoder/model.safetensors", "video_codec/diffusion_pytorch_model.safetensors"):
        kept = load_file(made / name)
        assert not changed(kept, load_file(folder / "cogvideox" / name.replace("video_codec", "vae")))
    assert len(list((folder / "whole").glob("*/samples/*_mtv_0.mp4"))) == 3


def test_a_run_tells_its_speed_in_tokens(folder: Path, runs: dict) -> None:
    rows = list(csv.DictReader((folder / "whole/3_all/throughput.csv").read_text().splitlines()))
    assert rows and all(int(row["tokens"]) > 0 and float(row["tokens_per_second"]) > 0 for row in rows)


def test_a_stage_is_exported_from_its_saved_state(folder: Path, runs: dict, tmp_path: Path) -> None:
    stage = folder / "whole/2_crowd"
    export.main(["--run", str(stage), "--output", str(tmp_path / "out")])
    for part in ("transformer", "control"):
        assert not changed(weights(stage / "checkpoint", part), weights(tmp_path / "out", part))
    assert load_checkpoint(MTVPipeline, tmp_path / "out").config.fps == FPS
    assert f"| made of | `{folder.name}/cogvideox` |" in (tmp_path / "out/README.md").read_text()
    with pytest.raises(UserError, match=r"no config.yaml there; it has the stages .*/1_face, .*/3_all; give one"):
        export.main(["--run", str(folder / "whole"), "--output", str(tmp_path / "none")])


def test_the_loss_falls(folder: Path, runs: dict) -> None:
    with open(folder / "whole/3_all/losses.csv") as file:
        rows = list(csv.DictReader(file))
    assert {(row["stream"], row["task"]) for row in rows} == {("video", "mtv")} and len(rows) == 30
    # where there is little noise: elsewhere a v-prediction's epsilon is right by itself
    losses = [(int(row["step"]), float(row["loss"])) for row in rows if row["sigma_bucket"] == "0.0-0.2"]
    early, late = ([loss for step, loss in losses if (step > 15) == half] for half in (False, True))
    assert len(early) > 2 and len(late) > 2 and np.mean(late) < 0.7 * np.mean(early)


def test_a_run_cut_in_the_middle_of_a_stage_resumes_to_the_bit(folder: Path, runs: dict) -> None:
    assert runs["again"][0] == 0 and runs["cut"][0] == 130 and runs["resumed"][0] == 0, runs["resumed"][1]
    for part in ("transformer", "control"):
        assert not changed(weights(folder / "whole/2_crowd/checkpoint", part), weights(folder / "cut/checkpoint", part))


def test_training_goes_on_from_its_own_checkpoint(folder: Path, runs: dict) -> None:
    assert runs["on"][0] == 0, runs["on"][1]
    last, on = (weights(folder / name / "checkpoint", "transformer") for name in ("whole", "on"))
    assert all(torch.equal(last[name].bfloat16(), weight) for name, weight in on.items())  # frozen, in half the size
    before, after = (weights(folder / name / "checkpoint", "control") for name in ("whole", "on"))
    learned = changed(before, after)
    assert learned and max((before[name] - after[name].float()).abs().max() for name in before) < 0.05


def test_what_cannot_be_trained_is_refused_before_any_work(folder: Path, runs: dict) -> None:
    assert runs["nowhere"][0] == 2 and "nothing: no such folder; a CogVideoX 1.0" in runs["nowhere"][1]
    assert runs["odd"][0] == 2 and "data.size: 16x20 does not fit" in runs["odd"][1]
    assert (
        runs["sizes"][0] == 2 and "control.tokens = 0: Input should be greater than or equal to 1" in runs["sizes"][1]
    )
    assert not (folder / "none").exists()


def test_the_checkpoint_is_sampled_in_windows_with_pictures(folder: Path, runs: dict, tmp_path: Path) -> None:
    """The command of the joint model's checkpoints; windows of 9 frames that share 5, even numbers of latents too."""
    Image.new("RGB", (20, 20), (200, 40, 60)).save(tmp_path / "red.png")
    line = ["--checkpoint", folder / "whole/checkpoint", "--prompt", "Clip 0.", "--output", tmp_path / "out.mp4"]
    line += [
        "--speech",
        folder / "0.speech.wav",
        "--speech2",
        folder / "1.speech1.wav",
        "--music",
        folder / "0.music.wav",
    ]
    line += ["--steps", 2, "--window", 1, "--keyframe", f"0.8={tmp_path / 'red.png'}", "--dtype", "bfloat16"]
    sample_mtv.main([str(part) for part in line])
    info = probe(tmp_path / "out.mp4")
    assert (info.width, info.height, info.fps, info.rate) == (SIDE, SIDE, FPS, RATE)
    assert len(read_video(tmp_path / "out.mp4", FPS)) == FPS


def test_a_folder_that_was_not_trained_is_not_sampled(folder: Path, tmp_path: Path) -> None:
    line = ["--checkpoint", folder / "cogvideox", "--prompt", "x", "--output", tmp_path / "out.mp4"]
    with pytest.raises(UserError, match=r"a pipeline of diffusers without audio control; train a CogVideoX first"):
        sample_mtv.main([str(part) for part in [*line, "--music", folder / "0.music.wav"]])


def load_transformer(folder: Path) -> CogVideoXTransformer3DModel:
    return load_library_model((CogVideoXTransformer3DModel,), folder / "cogvideox", ("transformer",)).eval()


def test_the_parts_are_those_that_were_saved(folder: Path) -> None:
    scheduler, text = load_scheduler(folder / "cogvideox"), LazyT5(str(folder / "cogvideox")).load()
    assert type(scheduler) is CogVideoXDPMScheduler and scheduler.config.prediction_type == "v_prediction"
    assert (text.dim, text.max_length) == (12, 8)  # the length is the transformer's
    assert CogVideoXVideoCodec.from_pretrained(codec_folder(folder / "cogvideox")).latent_channels == 4
    with pytest.raises(UserError, match=r"text_encoder/config\.json cannot be read"):
        LazyT5(str(folder))


def test_the_denoiser_is_the_folders_own_prediction(folder: Path) -> None:
    model = load_transformer(folder)
    latents, sigma = noise("latents", 2, 4, 3, 4, 4), torch.tensor([[0.5, 0, 0.5], [0.25, 0.25, 0.25]])
    with torch.no_grad():
        found = CogVideoXDenoiser(model).denoise_video(latents, sigma, noise("text", 2, 8, 12), None, lambda i, x: x)
    assert found.shape == latents.shape and found.std() > 0.01


def parts(folder: Path, scheduler: str = "dpm v", trained: bool = True, side: int = SIDE) -> MTVPipeline:
    """A pipeline of the folder and a new control network, with random values in its zeros if `trained`."""
    transformer, codec = load_transformer(folder), codec_folder(folder / "cogvideox")
    encoder = LogMel(parts_per_frame=2, n_mels=16)
    encoders = dict.fromkeys(("speech", "effects", "music"), encoder)
    control = build_control(transformer.config, encoders, 4, SMALL, 0).eval()
    for name, parameter in control.named_parameters() if trained else ():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3, generator=generator(0, "weights", name))
    made = MTVPipeline(
        transformer, CogVideoXVideoCodec.from_pretrained(codec), LazyT5(str(folder / "cogvideox")).load(),
        SCHEDULERS[scheduler], control, encoder, fps=FPS, height=side, width=side,
    )  # fmt: skip
    made.set_progress_bar_config(disable=True)
    return made


def tracks(name: str = "a", seconds: float = 9 / FPS) -> Tracks:
    given = [0.1 * noise(f"{name} {track}", 1, round(seconds * RATE)) for track in ("speech", "effects", "music")]
    return Tracks([given[0]], given[1], given[2])


def sample(pipe: MTVPipeline, prompt="Clip 1.", given=None, steps: int = 3, **options):
    """The frames, and the latents after each step."""
    latents = []
    made = pipe(
        prompt,
        tracks() if given is None else given,
        num_inference_steps=steps,
        callback_on_step_end=lambda _, step, u, now: latents.append(now["video"].clone()),
        **{"guidance": NONE, **options},
    )
    return made.video, latents


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_an_untrained_control_samples_as_diffusers_own_pipeline_to_the_bit(folder: Path, scheduler: str) -> None:
    pipe = parts(folder, scheduler, trained=False)
    text = pipe.text_encoder
    own = CogVideoXPipeline(text.tokenizer, text.model, pipe.video_codec.model, pipe.transformer, SCHEDULERS[scheduler])
    own.set_progress_bar_config(disable=True)
    drawn = noise_of(pipe, seed=4)
    expected = own(
        "Clip 1.", height=SIDE, width=SIDE, num_frames=9, num_inference_steps=3, guidance_scale=1.0,
        max_sequence_length=8, latents=drawn.transpose(1, 2), output_type="latent",
        generator=[generator(4, "sample", "video", "steps", 0)],
    ).frames  # fmt: skip
    found = sample(pipe, seed=4)[1][-1]
    assert expected.shape == (1, 3, 4, 4, 4) and expected.isfinite().all()
    assert torch.equal(found.transpose(1, 2), expected)
    trained = sample(parts(folder, scheduler), seed=4)[1][-1]
    assert not torch.allclose(trained, found, atol=1e-3)


def noise_of(pipe: MTVPipeline, seed: int) -> torch.Tensor:
    """[1, 4, 3, 4, 4], what the first window of a sample starts from."""
    return torch.randn((4, 3, 4, 4), generator=generator(seed, "sample", "video"))[None]


def test_a_batch_is_its_samples_alone_and_each_track_drives(folder: Path) -> None:
    pipe = parts(folder)
    given = [tracks("a", 12 / FPS), tracks("b", 12 / FPS)]
    more = {"window": 9, "seed": 5, "guidance": TrackGuidance(2.0, 3.0, 1.0, 1.0), "steps": 2}
    together = sample(pipe, ["Clip 1.", "Clip 2."], given, **more)[1]
    assert len(together) == 4  # two windows of two steps
    for row in range(2):
        alone = sample(pipe, f"Clip {row + 1}.", given[row], **{**more, "seed": 5 + row})[1]
        for a, b in zip(alone, together, strict=True):
            torch.testing.assert_close(a[0], b[row], rtol=0, atol=1e-4)
    base, other = tracks("a"), tracks("b")
    edits = [
        base,
        Tracks(other.speech, base.effects, base.music),
        Tracks(base.speech, other.effects, base.music),
        Tracks(base.speech, base.effects, other.music),
    ]
    latents = [sample(pipe, given=one, steps=1)[1][-1] for one in edits]
    assert all(not torch.equal(a, latents[0]) for a in latents[1:])


def test_clean_latents_stay_and_the_model_is_told_the_timestep_of_the_others(folder: Path) -> None:
    pipe, told, levels = parts(folder), [], []
    control = pipe.control.control
    pipe.control.control = lambda encoded, sigma: levels.append(sigma) or control(encoded, sigma)
    pipe.transformer.register_forward_pre_hook(
        lambda _, args, given: told.append(given["timestep"].tolist()), with_kwargs=True
    )
    picture = noise("picture", 3, 2, 2).clamp(-1, 1).repeat_interleave(8, 1).repeat_interleave(8, 2)
    _, latents = sample(pipe, image=picture, steps=2)
    clean = pipe.video_codec.encode(picture[None, :, None])[:, :, 0]
    assert all(torch.equal(now[:, :, 0], clean) for now in latents)
    assert told == [[999], [499]]
    assert torch.equal(levels[0], torch.tensor([[0, 0.999, 0.999]]))


def test_gradients_of_the_objective_are_those_without_checkpointing(folder: Path) -> None:
    """The backward pass comes after the forward pass has ended, and runs the blocks again."""
    gradients = []
    batch = Batch()
    for checkpointing in (True, False):
        pipe = parts(folder)
        objective = DiffusionObjective(
            pipe.transformer.train(), pipe.control.train(), pipe.scheduler, 0, DiffusionLoss()
        )
        if not checkpointing:
            pipe.transformer.disable_gradient_checkpointing()
        output = objective(batch)
        output.loss.backward()
        gradients.append({name: parameter.grad for name, parameter in objective.named_parameters()})
    assert gradients[0]["control.interval_injection.0.attentions.speech.to_out.weight"].any()
    for name, gradient in gradients[0].items():
        if gradient is not None:
            torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=1e-6)
    record = output.records[0]
    assert (record.stream, record.task) == ("video", "mtv") and output.loss == record.loss.sum() / batch.divisor
    assert torch.equal(record.sigma * 1000, draw_timesteps(0, 3, ["a", "b"], 1000).float())


class Batch:
    """Two samples, the first with a clean latent."""

    step, ids = 3, ["a", "b"]
    divisor = 3.0  # clips of a micro-batch of its step, on average
    video, text = noise("video", 2, 4, 3, 4, 4), noise("text", 2, 8, 12)
    clean_frames = torch.tensor([[True, False, False], [False, False, False]])
    size = (5, 1, 32)
    tracks = TrackFeatures(noise("s", 2, 1, 9, *size), noise("e", 2, 9, *size), noise("m", 2, 9, *size))


def test_a_scheduler_of_another_kind_and_too_many_steps_are_refused(folder: Path) -> None:
    pipe = parts(folder)
    with pytest.raises(UserError, match="1001 sampling steps; this model's scheduler has 1000 timesteps"):
        sample(pipe, steps=1001)
    with pytest.raises(UserError, match="with FlowMatchEulerDiscreteScheduler: a CogVideoX transformer needs one"):
        MTVPipeline.from_pipe(pipe, scheduler=FlowMatchEulerDiscreteScheduler())
    encoders = dict.fromkeys(("speech", "effects", "music"), pipe.audio_encoder)
    with pytest.raises(UserError, match="control: heads must divide their width: 2 of 32, 3 of 8"):
        build_control(pipe.transformer.config, encoders, 4, SMALL | {"heads": 3}, 0)
