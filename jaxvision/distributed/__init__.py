"""Devices and processes: the mesh, what compiles for it, and how several hosts agree."""
