"""Public checkpoints into ours and back, tensor by tensor: `wan` and `ovi` know the names, `recipe` their uses."""
