"""Take the pictures of a report that the documents show: `python docs/make_report_pictures.py CORPUS OUT`.

CORPUS is a folder that `pdid ingest` made (the documents' are of `pdid demo`'s corpus); its report is written anew.
OUT gets report-light.png, report-dark.png, report-funnel.png and report-lanes.png. Needs chromium.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # tests/browser.py is no part of the package

from tests.browser import find_browser, start_browser

PICTURES = (  # name, scheme, the section it shows or the top of the page
    ("report-light", "light", None),
    ("report-dark", "dark", "#scores"),
    ("report-funnel", "light", "#funnel"),
    ("report-lanes", "dark", "#lanes"),
)


def main(corpus: Path, out: Path) -> None:
    program = find_browser()
    if program is None:
        sys.exit("there is no chromium: apt-get install chromium")
    pdid = Path(sys.executable).with_name("pdid")
    subprocess.run([pdid, "report", "--corpus", corpus], check=True)
    with tempfile.TemporaryDirectory() as profile, start_browser(program, Path(profile)) as browser:
        for name, scheme, selector in PICTURES:
            browser.prefer(scheme)
            browser.size(1180, 820)
            browser.open(corpus / "report.html")
            if selector:  # a margin around the section; the sounds' lengths are known a moment after the page is
                browser.run("new Promise((done) => setTimeout(done, 1000))")
                browser.run(f"document.querySelector({selector!r}).style.padding = '20px'")
            (out / f"{name}.png").write_bytes(browser.picture(selector))
            print(f"{out / name}.png: {(out / name).with_suffix('.png').stat().st_size // 1000} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
