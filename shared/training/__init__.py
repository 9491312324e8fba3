"""Training on DeepSpeed: trainer, optimizer with EMA, checkpoints, logs, batch plan and latent store."""
