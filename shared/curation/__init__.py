"""DEMIX, the data builder: films in, clips with captions, three tracks, speakers and subsets out (docs/curation.md)."""
