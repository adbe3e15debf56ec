"""Code of users: whose it is, what it reaches and remembers, how it is called, and what it returns."""
