"""Runs: started, followed, and what is known of them."""
