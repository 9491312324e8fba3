"""Audio-driven video by multi-stream temporal control (arXiv 2506.08003)."""
