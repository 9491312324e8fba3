"""Text embeddings kept on the disk, so that each text is encoded once: UMT5-XXL is larger than many a video model."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from shared.encoders.base import TextEncoder
from shared.utils.errors import UserError


class CachedText:
    """A `TextEncoder` that looks into `folder` first; several processes may share the folder.

    One file per text: FOLDER/<encoder's fingerprint>/<SHA-256 of the text>.safetensors, with the embedding up to its
    last token and the text as metadata. A file appears whole or not at all; a damaged one is written anew. A hit runs
    no encoder and equals the encoder's own output to the bit. Texts are encoded one at a time, so an embedding does
    not depend on those it was asked for with.
    """

    def __init__(self, encoder: TextEncoder, folder: str | Path) -> None:
        """Hashes the encoder's weights, once. UserError if the folder cannot be made."""
        self.encoder, self.dim, self.max_length = encoder, encoder.dim, encoder.max_length
        self.folder = Path(folder) / fingerprint(encoder)[:32]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"text cache {folder}: cannot be made ({error.strerror}); give a folder that can be written"
            ) from error

    def encode(self, prompts: list[str]) -> Tensor:
        """See `TextEncoder.encode`; on the encoder's device."""
        kept: dict[str, Tensor] = {}
        for prompt in dict.fromkeys(prompts):
            path = self.folder / f"{hashlib.sha256(_bytes(prompt)).hexdigest()}.safetensors"
            rows = _read(path)
            if rows is None:
                rows = self._encode(path, prompt)
            kept[prompt] = rows
        out = torch.zeros(len(prompts), self.max_length, self.dim)
        for row, prompt in zip(out, prompts, strict=True):
            row[: len(kept[prompt])] = kept[prompt]
        return out.to(getattr(self.encoder, "device", "cpu"))

    def _encode(self, path: Path, prompt: str) -> Tensor:
        rows = self.encoder.encode([prompt])[0].detach().float().cpu()
        count = int(rows.any(-1).nonzero().max()) + 1
        rows = rows[:count].contiguous()
        half = rows.bfloat16()
        if torch.equal(half.float(), rows):  # an encoder in bfloat16: half the size, nothing lost
            rows = half
        temporary = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")
        try:
            save_file({"embedding": rows}, temporary, metadata={"text": _bytes(prompt).decode()})
            os.replace(temporary, path)
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            raise UserError(
                f"text cache {self.folder}: cannot be written ({error}); make room, or give another folder"
            ) from error
        return rows


def fingerprint(encoder: TextEncoder) -> str:
    """Hash of what decides an embedding: the class, its length, its settings (a tokenizer), its weights and dtype."""
    kind = type(encoder)
    parts = [f"{kind.__module__}.{kind.__qualname__}", str(encoder.dim), str(encoder.max_length)]
    digest = hashlib.sha256("\n".join([*parts, getattr(encoder, "settings", "")]).encode())
    if isinstance(encoder, nn.Module):
        for name, tensor in sorted(encoder.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _read(path: Path) -> Tensor | None:
    """The embedding in a file; None if there is none, or a damaged one."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.get_tensor("embedding")
    except (OSError, SafetensorError):
        return None


def _bytes(text: str) -> bytes:
    """UTF-8; half a surrogate pair, which JSON can hold, is spelt out."""
    return text.encode("utf-8", "backslashreplace")
