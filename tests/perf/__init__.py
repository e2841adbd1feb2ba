"""What requests cost, counted and not timed."""
