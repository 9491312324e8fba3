"""The toy world: a procedural puppet theatre with exact ground truth, and readers of its pictures and sounds."""
