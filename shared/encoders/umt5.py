"""UMT5 as Wan uses it: prompts -> the embeddings that a Wan transformer was trained on."""

import html
import re
import warnings
from pathlib import Path
from typing import Any, ClassVar, Self

import ftfy
import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoTokenizer, UMT5EncoderModel

from shared.utils import hub
from shared.utils.errors import UserError
from shared.utils.folder_check import check_folder
from shared.utils.portable import settle

WANTED = "a folder with config.json, safetensors and a tokenizer, as transformers or Wan has it, or a hub id, is needed"
TOKENIZERS = ("tokenizer.json", "spiece.model")


class UMT5Text(ModelMixin):
    """`transformers.UMT5EncoderModel` with its tokenizer; implements `shared.encoders.text.TextEncoder`.
    Wan's recipe: the prompt is cleaned (`clean`), cut to `max_length` tokens with the end token, encoded, and followed
    by zeros. The empty text is its end token. Each prompt is run alone, unpadded: none depends on another. Frozen."""

    kind: ClassVar[Any] = UMT5EncoderModel
    name: ClassVar[str] = "UMT5"

    def __init__(self, model: Any, tokenizer: Any, max_length: int = 512) -> None:
        super().__init__()
        if len(tokenizer) > model.config.vocab_size:
            sizes = f"the tokenizer has {len(tokenizer)} tokens, the model {model.config.vocab_size}"
            raise UserError(f"{sizes}: these two do not belong together")
        if not tokenizer("").input_ids:
            what = "the tokenizer ends a text with no token, so that the empty one has none"
            raise UserError(f"{what}; {self.name}'s adds </s>")
        self.model, self.tokenizer = model, tokenizer
        self.dim, self.max_length = model.config.d_model, max_length
        tokenizer.model_max_length = max_length
        self.requires_grad_(False).eval()

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> Self:
        """Load the encoder in a folder, or of a name on the hub; safetensors only.
        The model lies there or in text_encoder/, the tokenizer beside it or in tokenizer/. `options`: torch_dtype
        (float32), max_length (its own, or 512), device_map, revision ... UserError: no such model, or no tokenizer."""
        where, what = hub.hub_options(options), f"{cls.name} encoder"
        dtype = options.get("torch_dtype") or options.get("dtype") or torch.float32
        placed = {name: options[name] for name in ("device_map", "max_memory", "offload_folder") if options.get(name)}
        place, config = next(iter(hub.find_configs(source, what, ("", "text_encoder"), WANTED, **where).items()))
        if (found := config.get("model_type")) != (wanted := cls.kind.config_class.model_type):
            raise UserError(f"{source}: holds a model of type {found!r}, not {wanted!r}; {WANTED}")
        names = [f"{part}/{file}".lstrip("/") for part in (place, "tokenizer") for file in TOKENIZERS]
        beside = next(iter(hub.find_files(source, "tokenizer", names, WANTED, **where))).rpartition("/")[0]
        folder = hub.local_folder(source, dict.fromkeys((place, beside)), **where)
        check_folder(cls.kind, folder / place, f"{source}: ")
        try:
            placed |= {"dtype": dtype, "use_safetensors": True}
            model = cls.kind.from_pretrained(folder / place, **placed)  # a decoder beside it is left out
            tokenizer = _tokenizer(folder / beside)
            limit = tokenizer.model_max_length
            # transformers writes 10^30 where nobody set one
            return cls(model, tokenizer, options.get("max_length") or (limit if limit < 10**6 else 512))
        except UserError as error:
            raise UserError(f"{source}: {error}") from None
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            raise UserError(f"{source}: no {what} ({hub.first_line(error)}); {WANTED}") from error

    def save_pretrained(self, folder: str | Path, max_shard_size: int | str = "10GB", **_: Any) -> None:
        """Model and tokenizer in one folder; the model's own class and `AutoTokenizer` read it."""
        self.model.save_pretrained(str(folder), max_shard_size=max_shard_size)
        self.tokenizer.save_pretrained(str(folder))
        settle(Path(folder))

    @classmethod
    def library_models(cls, folder: Path) -> list[tuple[Any, Path]]:
        """Name the library's model in a folder that `save_pretrained` wrote, and where (for `check_folder`)."""
        return [(cls.kind, folder)]

    @property
    def settings(self) -> str:
        """What besides the weights decides an embedding (for `shared.utils.fingerprint`)."""
        return f"{self.tokenizer.backend_tokenizer.to_str()} ftfy {ftfy.__version__}"

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, whatever `mode`: the model has dropout."""
        return super().train(False)

    @apply_forward_hook
    @torch.no_grad()
    def encode(self, prompts: list[str]) -> Tensor:
        """float32 [B, max_length, dim], zeros after the last token. Longer prompts are cut, with a warning."""
        out = torch.zeros(len(prompts), self.max_length, self.dim, device=self.device)
        with torch.autocast(self.device.type, enabled=False):
            for row, prompt in zip(out, prompts, strict=True):
                tokens = torch.tensor(self._tokens(prompt), device=self.device)
                row[: len(tokens)] = self.model(tokens[None]).last_hidden_state[0].float()
        return out

    def _tokens(self, prompt: str) -> list[int]:
        return self._cut(clean(prompt))

    def _cut(self, text: str) -> list[int]:
        ids = self.tokenizer(text, verbose=False).input_ids
        if len(ids) <= self.max_length:
            return ids
        warnings.warn(f"a prompt of {len(ids)} tokens is cut to {self.max_length}: {text[:60]!r} ...", stacklevel=4)
        return self.tokenizer(text, truncation=True, max_length=self.max_length).input_ids


def _tokenizer(folder: Path) -> Any:
    """Load a tokenizer without code of its own. ValueError if it cannot be read."""
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # what tokenizers raises has no class of its own
        raise ValueError(f"its tokenizer cannot be read: {error}") from error


def clean(text: str) -> str:
    """Wan's cleaning: broken encodings mended (ftfy), HTML entities resolved, twice, spaces joined."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip()
