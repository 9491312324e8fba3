"""What is measured: readers of the stage's pictures and sounds, scores with ceiling and floor, and the
report."""
