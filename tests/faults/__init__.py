"""Faults and abuse that the service survives (real processes, real sockets, real signals)."""
