"""`hpo doctor`: what would fail, said before it does. It looks, tries and takes back; nothing is left behind."""

from hpo.cli.doctor.check import Check, as_text
from hpo.cli.doctor.examine import examine

__all__ = ["Check", "as_text", "examine"]
