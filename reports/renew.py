"""Keeps finished reports in reports/reference, and writes the pages whose numbers come from their results.json.

python reports/renew.py                      # writes every PAGE.md from its template PAGE.md.in, see pages.py
python reports/renew.py keep reports/gnvr    # takes a finished report into reports/reference, then writes the pages
python reports/renew.py drop gnvr            # deletes it there, then writes the pages
"""

import argparse
import gzip
import json
import re
import shutil
import sys
from pathlib import Path

from pages import OLD, REPORTS, WrongTemplateError, old, write

KEPT = ("README.md", "results.json", "results.tex", "reruns.csv")  # and trials.csv.gz, and the pictures
COLOURS = 256  # of a kept picture, which makes it a third as large
LINK = re.compile(r"\[([^\[\]]*)\]\(([\w./-]+)\)")


def keep(folder: Path, reports: Path = REPORTS) -> Path:
    """Takes a finished report into reports/reference, without what can be made again, and returns its place."""
    if not (folder / "results.json").is_file():
        raise SystemExit(f"{folder} has no results.json; give a folder that hpo run or hpo report wrote")
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    if unfinished := [text for text in results.get("warnings", ()) if text.startswith("Interim")]:
        raise SystemExit(f"{folder} is not finished: {unfinished[0]}")
    place = reports / "reference" / folder.resolve().name
    if folder.resolve() == place.resolve():
        raise SystemExit(f"{folder} is kept already; give the folder that hpo run or hpo report wrote")
    shutil.rmtree(place, ignore_errors=True)
    (place / "figures").mkdir(parents=True)
    for name in KEPT:
        if (folder / name).exists():
            shutil.copy(folder / name, place / name)
    if (folder / "trials.csv").exists():
        (place / "trials.csv.gz").write_bytes(gzip.compress((folder / "trials.csv").read_bytes(), mtime=0))
    for picture in folder.glob("figures/*.png"):
        _keep_picture(picture, place / "figures" / picture.name)
    readme = place / "README.md"
    text = readme.read_text(encoding="utf-8").replace("`trial_curves.csv`", "`trial_curves.csv` (not kept)")
    readme.write_text(LINK.sub(lambda found: _kept_link(found, place), text), "utf-8")
    _forget_old(place.name, reports)
    return place


def drop(name: str, reports: Path = REPORTS) -> None:
    """Deletes a kept report that another one supersedes."""
    if not (reports / "reference" / name).is_dir():
        raise SystemExit(f"there is no report {name} in {reports / 'reference'}")
    shutil.rmtree(reports / "reference" / name)
    _forget_old(name, reports)


def _keep_picture(picture: Path, place: Path) -> None:
    from PIL import Image

    with Image.open(picture) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(place, optimize=True)


def _kept_link(link: re.Match[str], place: Path) -> str:
    """A link to a file that is kept compressed or not at all as a link to that or as plain text."""
    text, target = link.groups()
    if (place / target).exists() or not target.endswith(".csv"):
        return link[0]
    return f"[{text}.gz]({target}.gz)" if (place / f"{target}.gz").exists() else f"`{text}` (not kept)"


def _forget_old(name: str, reports: Path) -> None:
    if name in (names := old(reports)):
        names.remove(name)
        path = reports / "reference" / OLD
        path.write_text("\n".join([*names, ""]), encoding="utf-8") if names else path.unlink()


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("keep").add_argument("folders", nargs="+", type=Path)
    commands.add_parser("drop").add_argument("names", nargs="+")
    options = parser.parse_args(arguments)
    for folder in options.folders if options.command == "keep" else ():
        print(keep(folder))
    for name in options.names if options.command == "drop" else ():
        drop(name)
    try:
        write()
    except WrongTemplateError as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main(sys.argv[1:])
