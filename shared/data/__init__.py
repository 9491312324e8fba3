"""Clips on disk and in memory: manifests, media, datasets, and shards of latents."""
