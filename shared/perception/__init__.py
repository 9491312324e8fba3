"""Models that look and listen: features of pictures, sounds and texts, for scorers and for whoever builds data."""
