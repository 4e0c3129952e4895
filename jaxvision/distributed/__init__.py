"""Devices and processes: the mesh, compilation for it, and communication between hosts."""
