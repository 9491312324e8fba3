"""Training on DeepSpeed: trainer, optimizer with EMA, checkpoints, logs, weights, components and what a run is told."""
