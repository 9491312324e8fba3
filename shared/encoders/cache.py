"""Text embeddings kept on the disk, so that each text is encoded once: UMT5-XXL is larger than many a video model."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from shared.encoders.text import TextEncoder
from shared.utils.errors import UserError
from shared.utils.files import replacing
from shared.utils.fingerprint import fingerprint


class CachedText:
    """A `TextEncoder` that looks into `folder` first; several processes may share the folder.
    A text's file, FOLDER/<encoder's fingerprint>/<SHA-256 of the text>.safetensors, has its embedding up to the last
    token, to the bit, and the text as metadata; a damaged one is written anew. Texts are encoded one at a time."""

    def __init__(self, encoder: TextEncoder, folder: str | Path) -> None:
        """Hashes the encoder's weights, once. UserError if the folder cannot be made."""
        self.encoder, self.dim, self.max_length = encoder, encoder.dim, encoder.max_length
        self.folder = Path(folder) / fingerprint(encoder)[:32]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"text cache {folder}: cannot be made ({error.strerror})"
            raise UserError(f"{what}; give a folder that can be written") from error

    def encode(self, prompts: list[str]) -> Tensor:
        """See `TextEncoder.encode`; on the encoder's device."""
        embeddings: dict[str, Tensor] = {}
        for prompt in dict.fromkeys(prompts):
            # half a surrogate pair, which JSON can hold, is spelt out
            text = prompt.encode("utf-8", "backslashreplace")
            path = self.folder / f"{hashlib.sha256(text).hexdigest()}.safetensors"
            try:
                with safe_open(path, framework="pt") as file:
                    embeddings[prompt] = file.get_tensor("embedding")
            except (OSError, SafetensorError):  # there is none, or a damaged one
                embeddings[prompt] = self._encode(path, prompt, text.decode())
        out = unpack_texts([embeddings[prompt] for prompt in prompts], self.max_length, self.dim)
        return out.to(getattr(self.encoder, "device", "cpu"))

    def _encode(self, path: Path, prompt: str, text: str) -> Tensor:
        rows = pack_text(self.encoder.encode([prompt])[0])
        try:
            with replacing(path) as part:
                save_file({"embedding": rows}, part, metadata={"text": text})
        except (OSError, SafetensorError) as error:
            advice = "make room, or give another folder"
            raise UserError(f"text cache {self.folder}: cannot be written ({error}); {advice}") from error
        return rows


def pack_text(rows: Tensor) -> Tensor:
    """[max_length, dim] -> [tokens, dim] without the zeros at the end; bfloat16 where that loses nothing."""
    rows = rows.detach().float().cpu()
    rows = rows[: int(rows.any(-1).nonzero().max()) + 1].contiguous()
    half = rows.bfloat16()
    return half if torch.equal(half.float(), rows) else rows


def unpack_texts(packed: Sequence[Tensor], max_length: int, dim: int) -> Tensor:
    """Embeddings as `pack_text` makes them -> float32 [B, max_length, dim] on the CPU."""
    out = torch.zeros(len(packed), max_length, dim)
    for row, tokens in zip(out, packed, strict=True):
        row[: len(tokens)] = tokens
    return out
