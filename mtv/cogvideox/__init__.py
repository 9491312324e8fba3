"""Audio-driven video on CogVideoX, the backbone of the MTV paper."""
