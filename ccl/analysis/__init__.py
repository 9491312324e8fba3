"""What is looked at in a joint model: losses by probe, leakage, attention maps, operations, activation memory."""
