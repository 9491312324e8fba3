"""Training of the joint model: objective, batches, the model and the data of a configuration, the run."""
