"""The predictor contract (DESIGN.md, section 1), seen through a real daemon."""
