"""User code: which code it is, what it reaches and changes, how it is called, and its errors in one sentence."""
