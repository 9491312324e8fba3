"""Joint audio-video generation by Cross-Modal Context Learning (arXiv 2603.18600)."""
