"""Ablations: a plan of variants and seeds, the runs it needs, statistics over them, and a report."""
