"""Checkpoint folders and what is loaded from them: registry, LoRA, offload, conversion of public weights."""
