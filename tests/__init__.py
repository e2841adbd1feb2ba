"""Tests; they mirror the package, and `contract/` and `faults/` go through a real daemon."""
