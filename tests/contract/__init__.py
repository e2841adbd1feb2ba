"""The predictor contract, seen through a real daemon."""
