"""Measures predictord beside a server written by hand, on your machine: `scripts/bench --help`."""
