"""Renews the golden reports: python tests/report/renew_golden.py"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def main() -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
    from tests.report.golden_studies import GOLDEN, STUDIES, comparison_text, moments_text, write

    for study in STUDIES:
        write(study, GOLDEN / study)
    (GOLDEN / "moments.md").write_text(moments_text(), encoding="utf-8")
    (GOLDEN / "comparison.md").write_text(comparison_text(), encoding="utf-8")


if __name__ == "__main__":
    main()
