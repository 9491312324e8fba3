"""What is measured of samples: scores with ceiling and floor, leakage, comparisons of runs, figures and the report."""
