"""Pretrained weights from other sources: their files, and the mapping of their names to ours."""
