"""Metrics of clips that any model made, a file each; `registry` knows them by name."""
