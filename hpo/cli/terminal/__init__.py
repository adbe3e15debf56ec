"""What a person sees in a terminal: progress, status, listings and messages."""
