"""Figures: each is computed first (a `Chart`) and drawn second, by plotly (HTML) and by matplotlib (PNG)."""
