"""Tests of the plan: which edits a living worker may take in place."""
