"""Weights from elsewhere: their files, and how their names map to ours."""
