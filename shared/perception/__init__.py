"""Models that look and listen, small and of public weights: faces, voices, words, quality of speech, kinds of sound."""
