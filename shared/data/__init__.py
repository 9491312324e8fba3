"""Clips on disk and in memory: the embedded world, manifests, datasets."""
