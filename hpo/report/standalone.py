"""Where a page finds plotly.js and its data: in a file next to it that all reports share, or in the page itself."""

import base64
import gzip
import re
from pathlib import Path

PLOTLY = "plotly.min.js"
SCRIPT = f'<script src="../{PLOTLY}"></script>'
LINK = re.compile(r'(src|href)="([^":#?]+)"')
TYPES = {
    ".csv": "text/csv", ".json": "application/json", ".tex": "text/x-tex", ".gz": "application/gzip",
    ".png": "image/png", ".md": "text/markdown",
}  # fmt: skip
LARGE = 1 << 20  # bytes from which a file is compressed before it goes into a page


def write_page(page: str, folder: Path, standalone: bool) -> None:
    """Writes report.html, with everything in it or using the plotly.js that all reports share."""
    if standalone:
        page = inline(page, folder)
    else:
        share_plotly(folder.parent)
    (folder / "report.html").write_text(page, encoding="utf-8", newline="\n")


def share_plotly(folder: Path) -> None:
    """Puts plotly.js into the folder of all reports, where their pages look for it; 5 MB once, not in every page."""
    from plotly.offline import get_plotlyjs

    path, script = folder / PLOTLY, get_plotlyjs().encode()
    if path.is_file() and path.stat().st_size == len(script) and path.read_bytes() == script:
        return
    part = path.with_name(f".{PLOTLY}.part")
    part.write_bytes(script)
    part.replace(path)  # in one step: another report's page may be reading it


def inline(page: str, folder: Path) -> str:
    """The page as one file that needs no other: with plotly.js, pictures and data in it.

    Args:
        page: HTML that was written for `folder`; links to files there become data, large ones compressed (gzip).
    """
    from plotly.offline import get_plotlyjs

    head, script, tail = page.partition(SCRIPT)
    head = LINK.sub(lambda link: _data_link(link, folder), head)
    return head + (f"<script>{get_plotlyjs()}</script>{tail}" if script else "")


def _data_link(link: re.Match[str], folder: Path) -> str:
    path = folder / link[2]
    if path.suffix not in TYPES or not path.is_file():
        return link[0]
    content, name = path.read_bytes(), path.name
    if link[1] == "href" and len(content) > LARGE:
        content, name = gzip.compress(content, mtime=0), f"{name}.gz"
    data = f"data:{TYPES[Path(name).suffix]};base64,{base64.b64encode(content).decode()}"
    return f'{link[1]}="{data}"' + (f' download="{name}"' if link[1] == "href" else "")
