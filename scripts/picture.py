"""The README's picture: the listing's page in a browser, at the lines of attention.

    python scripts/picture.py          writes .github/listing.png

Run it again after a change of model.py or of the page: the picture shows line numbers and tensors. It needs the extra
`test`, and Debian's chromium and chromium-driver.
"""

import tempfile
from pathlib import Path

from minibert.command.exit_status import Parser, run_and_exit
from minibert.learn import explain

PICTURE = Path(__file__).resolve().parent.parent / ".github" / "listing.png"
VIEW = {"width": 1280, "height": 757, "deviceScaleFactor": 1, "mobile": False}  # of the page alone, without the window's frame
FLAGS = "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND"
SHOW = """
const row = [...document.querySelectorAll(".listing .row")].find(one => one.textContent.includes(arguments[0]));
if (!row) return false;
row.scrollIntoView();
return true;
"""


def run() -> int:
    parser = Parser(description="Make the README's picture of the listing.")
    parser.add_argument("--at", default="scores = queries @", metavar="LINE", help="a part of the source line to begin with")
    args = parser.parse_args()
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ModuleNotFoundError as error:
        raise ValueError("selenium is missing; run pip install -e '.[test]'.") from error

    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for flag in FLAGS:
        options.add_argument(flag)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        explain("I hate this so much!", "mini-sst2").save(page)
        driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        try:
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", VIEW)
            driver.get(page.as_uri())
            if not driver.execute_script(SHOW, args.at):
                raise ValueError(f"no line of the page has {args.at!r}; give a part of a line of model.py.")
            PICTURE.parent.mkdir(exist_ok=True)
            PICTURE.write_bytes(driver.get_screenshot_as_png())
        finally:
            driver.quit()
    print(f"{PICTURE} ({PICTURE.stat().st_size / 1e3:.0f} kB)")
    return 0


def main() -> None:
    run_and_exit("picture", run)


if __name__ == "__main__":
    main()
