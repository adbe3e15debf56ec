"""`hpo doctor`: what would fail, said before it does. It looks, tries and takes back; nothing is left behind."""

from hpo.doctor.check import Check, as_text
from hpo.doctor.examine import examine

__all__ = ["Check", "as_text", "examine"]
