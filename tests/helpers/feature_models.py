"""Networks of random weights in folders as users have them, tiny, of the real classes."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

TINY = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def clip_tokens() -> list[str]:
    """A vocabulary of single letters, and the two tokens around a text."""
    letters = [chr(code) for code in range(33, 127)]
    return [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]


def save_clip(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    vocabulary = {token: number for number, token in enumerate(clip_tokens())}
    text = TINY | {"vocab_size": len(vocabulary), "max_position_embeddings": 24, "eos_token_id": len(vocabulary) - 1}
    vision = TINY | {"image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    CLIPModel(config).save_pretrained(folder)
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    return folder
