"""Figures: each is computed first (a `Chart`) and drawn second, by plotly (HTML) and some by matplotlib (PNG) as well.

Figures 1 to 4 of a report and those of a comparison of studies are drawn both ways, 5 to 8 by plotly only.
"""
