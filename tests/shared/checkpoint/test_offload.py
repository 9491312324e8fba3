"""The levels of memory, as far as a CPU can show them: what is stored, that offloaded layers are back when they are
used, and what the output is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import small
import torch
from accelerate.hooks import CpuOffload
from diffusers.hooks.group_offloading import ModuleGroup
from small import sample
from torch import Tensor, nn

from ccl.pipeline import CCLPipeline
from ccl.transformer import DualStreamTransformer
from shared.checkpoint.lora import add_lora, save_lora
from shared.checkpoint.offload import MemoryMixin, keep_in_fp8, offload_components, offload_layers, offload_while_idle
from shared.utils.config import Lora
from shared.utils.errors import UserError
from shared.utils.rng import generator

CPU = torch.device("cpu")
FP8_ERROR = 0.1  # of the latents' RMS, what fp8 weights may change in two steps; docs/memory.md names it


def transformer() -> DualStreamTransformer:
    return small.transformer(std=0.2, skip=True)


def pipeline() -> CCLPipeline:
    return small.pipeline(transformer())


def given_sound() -> dict[str, Tensor]:
    """a2v: the sound's tower is run once, by another method than `forward`."""
    return {"audio": 0.1 * torch.randn(1, 1, 5000, generator=generator(0, "sound"))}


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean().sqrt() / b.square().mean().sqrt())


def test_low_keeps_linear_layers_in_fp8_and_stays_close() -> None:
    fast, low = pipeline(), pipeline()
    assert fast.set_memory("fast", CPU) == []
    (line,) = low.set_memory("low", "cpu")
    assert "nothing to offload from" in line and "fp8" in line
    model = low.transformer
    stored = {name for name, weight in model.named_parameters() if weight.dtype == torch.float8_e4m3fn}
    for part in (
        "blocks.0.video.attn1.to_q.weight",
        "blocks.1.audio.ffn.net.2.bias",
        "blocks.1.fusion.video.to_v.weight",
    ):
        assert part in stored
    kept = ("norm", "condition_embedder", "patch_embedding", "proj_out", "skip", "scale_shift_table", "context_tokens")
    assert not [name for name in stored if any(part in name for part in kept)]
    assert model.dtype == torch.float32
    ours, theirs = sample(low), sample(fast)
    assert 1e-4 < relative(ours, theirs) < FP8_ERROR
    assert {name for name, weight in model.named_parameters() if weight.dtype == torch.float8_e4m3fn} == stored


def test_balanced_is_fast_to_the_bit() -> None:
    fast, balanced = pipeline(), pipeline()
    balanced.set_memory("balanced", CPU)
    offload_components(balanced, CPU)  # as a GPU would have it; the embedded components have no parameters
    assert torch.equal(sample(balanced), sample(fast))
    assert torch.equal(sample(balanced), sample(fast))  # a second time: diffusers has made its hooks anew


def test_balanced_fetches_every_component_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, balanced = pipeline(), pipeline()
    for name in ("text_encoder", "video_codec", "audio_codec"):
        balanced.components[name].register_parameter("anchor", nn.Parameter(torch.zeros(1)))
    parts = {id(part): name for name, part in balanced.components.items()}
    offload_components(balanced, CPU)
    fetched: list[str] = []
    before = CpuOffload.pre_forward

    def recorded(hook: CpuOffload, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        fetched.append(parts[id(module)])
        return before(hook, module, *args, **kwargs)

    monkeypatch.setattr(CpuOffload, "pre_forward", recorded)
    assert torch.equal(sample(balanced), sample(fast))
    assert list(dict.fromkeys(fetched)) == ["text_encoder", "transformer", "video_codec", "audio_codec"]
    fetched.clear()
    assert torch.equal(sample(balanced, **given_sound()), sample(fast, **given_sound()))
    assert list(dict.fromkeys(fetched)) == ["audio_codec", "text_encoder", "transformer", "video_codec"]


def poisoned(group: ModuleGroup, away: dict[int, Tensor]) -> None:
    for tensor in tensors(group):
        away.setdefault(id(tensor), tensor.data)
        tensor.data = torch.full_like(tensor.data.float(), float("nan")).to(tensor.dtype)


def tensors(group: ModuleGroup) -> list[Tensor]:
    inner = [tensor for module in group.modules for tensor in (*module.parameters(), *module.buffers())]
    return [*inner, *group.parameters, *group.buffers]


def hook_of(module: nn.Module) -> Any:
    registry = getattr(module, "_diffusers_hook", None)
    return None if registry is None else registry.get_hook("group_offloading")


@pytest.mark.parametrize("fp8", [False, True])
def test_an_offloaded_layer_is_back_whenever_it_is_used(monkeypatch: pytest.MonkeyPatch, fp8: bool) -> None:
    """What is away is NaN here: one layer used without being fetched would spoil the output."""
    plain, pipe = pipeline(), pipeline()
    if fp8:
        keep_in_fp8(plain.transformer)
        keep_in_fp8(pipe.transformer)
    expected = [sample(plain), sample(plain, **given_sound())]
    offload_layers(pipe.transformer, CPU)
    away: dict[int, Tensor] = {}

    def fetch(group: ModuleGroup) -> None:
        for tensor in tensors(group):
            tensor.data = away.pop(id(tensor))

    monkeypatch.setattr(ModuleGroup, "_offload_to_memory", lambda group: poisoned(group, away))
    monkeypatch.setattr(ModuleGroup, "_onload_from_memory", fetch)
    hooks = {name: hook_of(module) for name, module in pipe.transformer.named_modules()}
    layers = {name for name, part in pipe.transformer.named_modules() if isinstance(part, nn.Linear | nn.Conv3d)}
    assert all(hooks[name] is not None for name in layers)
    groups = [hook.group for hook in hooks.values() if hook is not None]
    for group in groups:
        poisoned(group, away)
    for ours, theirs in zip((sample(pipe), sample(pipe, **given_sound())), expected, strict=True):
        assert torch.equal(ours, theirs)
    assert len(away) == sum(len(tensors(group)) for group in groups)  # and away again


def test_adapters_stay_as_they_are_in_low(tmp_path: Path) -> None:
    settings, model = Lora(rank=2, targets=["attention"]), transformer()
    add_lora(model, None, settings, seed=0)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(weight, std=0.3, generator=generator(0, "lora", name))
    save_lora({f"transformer.{name}": v for name, v in model.state_dict().items()}, tmp_path / "lora", "", settings)
    base, fast, low = pipeline(), pipeline(), pipeline()
    for pipe in (fast, low):
        pipe.load_lora_weights(tmp_path / "lora")
    low.set_memory("low", CPU)
    layer = low.transformer.blocks[0].video.attn1.to_q
    assert layer.get_base_layer().weight.dtype == torch.float8_e4m3fn
    assert layer.lora_A["default_0"].weight.dtype == torch.float32
    with_lora = sample(fast)
    assert relative(sample(low), with_lora) < FP8_ERROR < relative(sample(base), with_lora)


class Codec(nn.Module):
    """What a codec of a library shows of itself."""

    def __init__(self, on: Callable[[str], None]) -> None:
        super().__init__()
        self.model = nn.Module()
        self.model.use_slicing = self.model.use_tiling = False
        self.on = on

    def low_memory(self) -> None:
        self.model.use_slicing = self.model.use_tiling = True

    def to(self, device: Any) -> Codec:
        self.on(str(device))
        return self

    def decode(self, latents: int) -> int:
        self.on("decode")
        if latents < 0:
            raise ValueError("no latents")
        return latents + 1


@pytest.mark.parametrize(("level", "slicing", "tiling"), [("balanced", True, False), ("low", True, True)])
def test_codecs_are_sliced_and_tiled(level: str, slicing: bool, tiling: bool) -> None:
    class Pipe(SimpleNamespace, MemoryMixin):
        _denoisers = ()

    codec = Codec(lambda said: None)
    lines = Pipe(components={"video_codec": codec, "audio_codec": None}).set_memory(level, "cpu")
    assert (codec.model.use_slicing, codec.model.use_tiling) == (slicing, tiling) and len(lines) == 1


def test_a_codec_is_on_the_device_while_it_works() -> None:
    said: list[str] = []
    codec = Codec(said.append)
    offload_while_idle(codec, torch.device("cuda", 1))
    assert codec.decode(1) == 2 and said == ["cuda:1", "decode", "cpu"]
    with pytest.raises(ValueError, match="no latents"):
        codec.decode(-1)
    assert said[3:] == ["cuda:1", "decode", "cpu"]


def test_another_level_needs_another_pipeline() -> None:
    pipe = pipeline()
    with pytest.raises(UserError, match="choose one of fast, balanced, low"):
        pipe.set_memory("tiny", "cpu")
    pipe.set_memory("balanced", "cpu")
    with pytest.raises(UserError, match="set to balanced already; load it again"):
        pipe.set_memory("fast", "cpu")
