"""What keeps people from using a page, as axe-core finds it: contrast, names, roles, order.

`axe/` has axe-core 4.10.3 from npm, unchanged (Mozilla Public License 2.0, beside it); later
versions are larger than 600 KB. Only tests load it.
"""

from pathlib import Path

from browser.chromium import Tab

_AXE = Path(__file__).parent / "axe" / "axe.min.js"
_RUN = """axe.run({resultTypes: ["violations"]}).then((found) => found.violations
    .filter((one) => ["serious", "critical"].includes(one.impact))
    .map((one) => one.id + ": " + one.nodes.map((node) => node.html).join(" ")))"""
_PASSES = "axe.run().then((found) => found.passes.length)"


def violations(tab: Tab) -> list[str]:
    """Return the serious and critical violations of the page that is shown, light and dark."""
    tab.run(_AXE.read_text(encoding="utf-8") + "; typeof axe")
    tab.page.emulate_media(color_scheme="light")
    found = [f"light: {one}" for one in tab.run(_RUN)]
    tab.page.emulate_media(color_scheme="dark")
    found += [f"dark: {one}" for one in tab.run(_RUN)]
    assert tab.run(_PASSES) > 0, "axe-core has not looked at the page"
    return found
