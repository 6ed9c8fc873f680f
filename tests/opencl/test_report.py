"""``mace-cl report`` on a device: what the page says, and how a browser shows it."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from mace_cl.cli import main
from mace_cl.demo import models
from mace_cl.device import Device
from mace_cl.errors import InputError, ProgramError
from mace_cl.program.format import read, write
from mace_cl.tools.report import ReportArgs, Step, run
from pages import read_page
from support import case, model_of

HOSTILE = """</title><script>document.title="run"</script><img/src=x>'&"""
NET = case(
    "net",
    "a = Conv<pads=[1,1,1,1]>(x, w) b = Tanh(a) y = Det(b)",
    x=(1, 3, 6, 6), w=(3, 3, 3, 3),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, device: Device) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def found(folder: Path, device: Device) -> Any:
    """A model whose every name would do harm, with a part on the host; its program is kept."""
    model = model_of(NET)
    for node in model.graph.node:
        node.name = f"{node.op_type}{HOSTILE}"
    for port in (model.graph.input[0], model.graph.output[0]):
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [f"{name}{HOSTILE}" if name == port.name else name for name in names]
        port.name += HOSTILE
    onnx.save(model, folder / "<b>&.onnx")
    args = ReportArgs(
        folder / "<b>&.onnx", folder / "report.html", program=folder / "net.bin", runs=9, warm_starts=2,
        device=device.runtime, before=(Step("convert", "mace-cl convert net.pb -o .", 1.5, "written"),),
    )  # fmt: skip
    return run(args)


def test_a_report(found: Any, folder: Path, device: Device) -> None:
    assert found.device.name == device.name
    assert found.cold.code == "no-file"
    assert {"compiler", "read", "optimise", "plan", "compile"} <= found.cold.steps.keys()
    assert (found.first, len(found.warm), {one.code for one in found.warm}) == (None, 2, {"hit"})
    assert 0 < found.warm[0].seconds < found.cold.seconds
    assert found.benchmark.latency.runs == len(found.benchmark.times) == 9
    assert found.accuracy.passed
    assert {one.op: one.on for one in found.places} == {"Conv": "OpenCL", "Tanh": "OpenCL", "Det": "host"}
    assert found.steps[0].name == "convert"
    assert len(found.steps) == 5
    assert found.passes[0].before == 3
    assert found.absent == {}
    assert any("run on the host" in note.means for note in found.notes)
    reader = read_page((folder / "report.html").read_text(encoding="utf-8"))
    assert "<b>&.onnx" in reader.said
    assert any(text.startswith(f"Det{HOSTILE}") for text in reader.said)


def test_a_program_alone(found: Any, folder: Path, device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    program, page = folder / "net.bin", folder / "program.html"
    before = program.read_bytes()
    argv = ["report", str(program), "-o", str(page), "--runs", "5", "--device", device.runtime, "--json", "-q"]
    assert main(argv) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["model"] is None
    assert said["accuracy"] is None
    assert "compile" in said["cold"]["steps"], "from the sources inside"
    assert "proof" in said["first"]["steps"], "a file that was given"
    assert said["absent"].keys() == {"accuracy", "passes"}
    assert "Not compared with another engine: no source model was given" in page.read_text(encoding="utf-8")
    assert program.read_bytes() == before
    read_page(page.read_text(encoding="utf-8"))


def test_a_program_of_another_model_or_of_other_options(found: Any, folder: Path, device: Device) -> None:
    page, program = folder / "x.html", folder / "net.bin"
    with pytest.raises(InputError, match="compiled from another model"):
        run(ReportArgs(models.DIGITS, page, program=program, device=device.runtime))
    with pytest.raises(InputError, match="options none, but those given are runtime=cpu"):
        run(ReportArgs(folder / "<b>&.onnx", page, program=program, device=device.runtime, runtime="cpu"))
    (target,) = (opened := read(program)).targets
    other = replace(target, signature=replace(target.signature, driver="another"))
    write(replace(opened, targets=(other,)), folder / "other.bin")
    with pytest.raises(ProgramError, match=r"driver.* A report is on a program that is used as it is"):
        run(ReportArgs(folder / "other.bin", page, device=device.runtime))
    small = folder / "small.bin"
    assert main(["compile", str(models.DIGITS), "-o", str(small), "--device", device.runtime, "-q"]) == 0
    with pytest.raises(InputError, match="holds no weights"):
        run(ReportArgs(small, page, device=device.runtime))
    assert not page.exists()


@pytest.fixture(scope="module")
def browser() -> Any:
    """A headless browser, driven by Selenium."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium") or shutil.which("google-chrome")
    if not (driver and chromium):
        pytest.skip("no chromium and chromedriver on PATH: apt install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with webdriver.Chrome(options, webdriver.ChromeService(driver)) as opened:
        yield opened


@pytest.fixture(scope="module")
def benchmark_page(folder: Path, device: Device) -> Path:
    page = folder / "benchmark.html"
    argv = ["benchmark", str(models.DIGITS), "--runs", "9", "--device", device.runtime, "--html", str(page), "-q"]
    assert main(argv) == 0
    return page


_LOOK = """
const shown = element => { const box = element.getBoundingClientRect(); return box.width > 40 && box.height > 15 };
return {
  title: document.title,
  sections: [...document.querySelectorAll('section')].map(
    one => [one.id, shown(one) && shown(one.querySelector('h2'))]),
  links: [...document.querySelectorAll('nav a')].map(one => document.querySelector(one.hash) !== null),
  plots: [...document.querySelectorAll('svg')].map(one => {
    const box = one.getBoundingClientRect();
    return [box.width, box.height, one.querySelectorAll('rect,circle').length];
  }),
  wide: document.documentElement.scrollWidth - window.innerWidth,
  headings: document.querySelectorAll('h1').length,
  scripts: document.scripts.length + document.images.length,
  unnamed: [...document.querySelectorAll('svg')].filter(one => !one.getAttribute('aria-label')).length,
  bare: [...document.querySelectorAll('table')].filter(one => !one.querySelector('th[scope=col]')).length,
  ink: getComputedStyle(document.body).color, paper: getComputedStyle(document.body).backgroundColor,
}
"""


def show(browser: Any, page: Path, width: int, scheme: str = "light") -> Any:
    """What a reader gets to see; asserts that nothing was asked for and the browser had nothing to say."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(page.as_uri())
    seen = browser.execute_script(_LOOK)
    assert browser.get_log("browser") == []
    events = [json.loads(one["message"])["message"] for one in browser.get_log("performance")]
    asked = [one["params"]["request"]["url"] for one in events if one["method"] == "Network.requestWillBeSent"]
    assert asked == [page.as_uri()]
    return seen


@pytest.mark.browser
def test_the_browser_would_tell(browser: Any, tmp_path: Path) -> None:
    """The checks below can fail."""
    page = tmp_path / "bad.html"
    page.write_text("<title>a</title><img src=absent.png><script>console.error('x')</script>", encoding="utf-8")
    with pytest.raises(AssertionError):
        show(browser, page, 400)
    page.write_text("<!doctype html><title>a</title><div style='width:3000px'>wide</div>", encoding="utf-8")
    assert show(browser, page, 400)["wide"] > 0


@pytest.mark.browser
@pytest.mark.parametrize("kind", ["report", "benchmark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_in_a_browser(browser: Any, found: Any, benchmark_page: Path, folder: Path, kind: str, width: int) -> None:
    page = folder / f"{kind}.html"
    seen = show(browser, page, width)
    if kind == "report":
        assert seen["title"] == "mace-cl report: <b>&.onnx"
        assert [name for name, _ in seen["sections"]] == [
            "overview", "program", "workflow", "placement", "start", "latency", "operations", "roofline", "memory",
            "accuracy", "notes",
        ]  # fmt: skip
    else:
        assert {name for name, _ in seen["sections"]} == {"start", "latency", "operations", "roofline", "memory"}
    assert all(shown for _, shown in seen["sections"]), seen["sections"]
    assert len(seen["links"]) == len(seen["sections"])
    assert all(seen["links"])
    assert len(seen["plots"]) == (9 if kind == "report" else 5)
    for wide, high, marks in seen["plots"]:
        assert wide > 300
        assert high > 50
        assert marks > 0
    assert seen["wide"] <= 0, "nothing sticks out"
    assert (seen["headings"], seen["scripts"], seen["unnamed"], seen["bare"]) == (1, 0, 0, 0)


@pytest.mark.browser
def test_light_and_dark(browser: Any, found: Any, folder: Path) -> None:
    light, dark = (show(browser, folder / "report.html", 1280, scheme) for scheme in ("light", "dark"))
    assert contrast(light) > 7
    assert contrast(dark) > 7
    assert light["paper"] != dark["paper"]


def contrast(seen: Any) -> float:
    """Of text on the page, by WCAG 2.1 (https://www.w3.org/TR/WCAG21/#dfn-contrast-ratio): 7 is its strictest level."""

    def luminance(color: str) -> float:
        parts = [int(one) / 255 for one in color.removeprefix("rgb(").removesuffix(")").split(",")]
        linear = [one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
        return sum(share * one for share, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(seen["ink"]), luminance(seen["paper"])))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.browser
def test_as_pdf(found: Any, folder: Path) -> None:
    from mace_cl.errors import HostError
    from mace_cl.tools import browser

    try:
        browser.find()
    except HostError as error:
        pytest.skip(str(error))
    browser.print_pdf(folder / "report.html", folder / "report.pdf")
    data = (folder / "report.pdf").read_bytes()
    assert data.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", data)) > 1, "pages"
