"""Opens a gallery of `bpo inspect` in headless Chromium and checks what the page shows.

    python tools/check_gallery.py gallery.html [--chromium chromium]

The page is loaded from disk, without filter, by kind of answer and of error, and with a search, in light and dark.
"""

import argparse
import json
import pathlib
import re
import subprocess
import urllib.parse


def calls(path):
    """The JSON value of a file that calls a function of the page."""
    text = path.read_text(encoding="utf-8")
    start = re.match(r"gallery\.\w+\((\d+,)?", text).end()
    return json.loads(text[start : text.rindex(");")])


def dump(chromium, page, fragment="", dark=False):
    """The page's HTML after its scripts ran."""
    url = page.resolve().as_uri() + "#" + fragment
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    if dark:
        flags.append("--blink-settings=preferredColorScheme=0")
    return subprocess.run([chromium, *flags, url], capture_output=True, text=True, check=True, timeout=120).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=pathlib.Path)
    parser.add_argument("--chromium", default="chromium")
    parser.add_argument("--screenshot", type=pathlib.Path, help="also write a picture of the page")
    arguments = parser.parse_args()
    page, chromium = arguments.page, arguments.chromium
    files = page.with_name(page.stem + "_files")
    index = calls(files / "index.js")
    first = calls(files / "pairs-0.js")
    total = len(index["kind"]["of"])

    html = dump(chromium, page)
    assert html.count("<article") == min(20, total), html.count("<article")
    assert f"1 to {min(20, total)} of {total}" in html
    assert html.count("<section class=\"chosen\">") == min(20, total)
    pictures = sum("Ok" in picture for pair in first[:20] for picture in pair["clean"] + pair["weakened"])
    assert html.count("<img ") == pictures, (html.count("<img "), pictures)
    marks = sum(not common for pair in first[:20] for common, _ in pair["chosen"] + pair["rejected"])
    assert html.count("<mark>") == marks, (html.count("<mark>"), marks)

    for key in ["kind", "error"]:
        for number, name in enumerate(index[key]["names"]):
            named = index[key]["of"].count(number)
            html = dump(chromium, page, urllib.parse.urlencode({key: name}))
            assert f"of {named}" in html, (name, named)
    has_errors = 'id="of-error" hidden' not in html
    assert has_errors == bool(index["error"]["names"])

    wanted = first[-1]["id"]
    html = dump(chromium, page, urllib.parse.urlencode({"search": wanted}), dark=True)
    assert "<article" in html and ", searching</span>" not in html
    html = dump(chromium, page, urllib.parse.urlencode({"search": "no pair has these words: qxzv"}))
    assert "No pair" in html and "<article" not in html
    if arguments.screenshot:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--window-size=1100,1400"]
        subprocess.run([chromium, *flags, f"--screenshot={arguments.screenshot}", page.resolve().as_uri()], check=True)
    print(f"{page}: {total} pairs, {pictures} pictures on the first page, all checks passed")


main()
