"""What a component is, as one hash: the same class, settings and weights give the same latents or features."""

import hashlib
import json
from typing import Any

import torch
from torch import nn


def fingerprint(component: Any) -> str:
    """Hash of the class, of what its `config` or `settings` say and of all weights with their types.
    What diffusers adds to a config (names with an underscore) does not count: paths, and sets without order; nor does
    the vocabulary of a text encoder, which changes no embedding."""
    kind, config = type(component), dict(getattr(component, "config", None) or {})
    own = {name: value for name, value in config.items() if not name.startswith("_") and name != "vocabulary"}
    said = [kind.__module__, kind.__qualname__, json.dumps(own, sort_keys=True, default=str)]
    said += [str(getattr(component, name, "")) for name in ("dim", "max_length", "settings")]
    digest = hashlib.sha256("\n".join(said).encode())
    if isinstance(component, nn.Module):
        _add_weights(digest, component)
    return digest.hexdigest()


def weights_fingerprint(*modules: nn.Module) -> str:
    """Hash of the classes and all weights of networks, whatever their configs say besides."""
    digest = hashlib.sha256()
    for module in modules:
        digest.update(type(module).__qualname__.encode())
        _add_weights(digest, module)
    return digest.hexdigest()


def _add_weights(digest: Any, module: nn.Module) -> None:
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
