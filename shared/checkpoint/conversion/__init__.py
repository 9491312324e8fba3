"""Public checkpoints into ours and back, tensor by tensor: `wan` and `ovi` know the names, `weight_map` their uses."""
