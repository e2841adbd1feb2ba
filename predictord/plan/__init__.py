"""What changed between two generations, and whether living workers may take the new code in place."""
