"""A tab of the kit's Chromium at any URL, used as a person uses it: clicks, keys, what is shown.

Selectors are playwright's: CSS, `text=...`, `role=button[name="Add"]`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.swarm.child import JsonChild


class Tab:
    """Made by `Browser.visit`; `status` is that of the first answer."""

    def __init__(self, child: JsonChild, number: int) -> None:
        self._child = child
        self.number = number
        self.status = 0

    def _ask(self, do: str, timeout: float = 20.0, **more: Any) -> dict[str, Any]:
        return self._child.ask({"do": do, "tab": self.number, **more}, timeout)

    def locate(self, selector: str, method: str, *given: Any) -> Any:
        """A method of playwright's locator, as `count` or `isVisible`; it waits for the element."""
        return self._ask("locate", selector=selector, method=method, given=given)["value"]

    def click(self, selector: str) -> None:
        """Click, once it is there, still and not covered."""
        self.locate(selector, "click")

    def fill(self, selector: str, text: str) -> None:
        """Type into a field, in place of what was there."""
        self.locate(selector, "fill", text)

    def text(self, selector: str) -> str:
        """The text of the first element, as it is shown."""
        return str(self.locate(f"{selector} >> nth=0", "innerText"))

    def press(self, keys: str) -> None:
        """A key or a chord at the keyboard: `Escape`, `Control+V`."""
        self._ask("press", keys=keys)

    def evaluate(self, script: str, given: Any = None) -> Any:
        """What the function `script` gives for `given` in the page (JSON both)."""
        return self._ask("evaluate", script=script, given=given)["value"]

    def paste(self, text: str) -> None:
        """Copy `text` elsewhere, and press Ctrl+V where the focus is."""
        self.evaluate("text => navigator.clipboard.writeText(text)", text)
        self.press("Control+V")

    def drop(self, name: str, data: bytes) -> None:
        """Drop a file from a file manager onto the page."""
        script = """([name, bytes]) => {
          const dataTransfer = new DataTransfer()
          dataTransfer.items.add(new File([new Uint8Array(bytes)], name))
          for (const kind of ['dragover', 'drop']) {
            const event = new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true })
            document.body.dispatchEvent(event)
          }
        }"""
        self.evaluate(script, [name, list(data)])

    def wait(self, selector: str, timeout: float = 15.0) -> None:
        """Until something like that is visible."""
        self.locate(f"{selector} >> nth=0", "waitFor", {"timeout": timeout * 1000})

    def wait_gone(self, selector: str, timeout: float = 15.0) -> None:
        """Until nothing like that is visible."""
        self.locate(
            f"{selector} >> nth=0", "waitFor", {"state": "hidden", "timeout": timeout * 1000}
        )

    def wait_value(
        self, script: str, condition: Callable[[Any], object], timeout: float = 15.0
    ) -> Any:
        """What `evaluate` of `script` gives, once `condition` of it is true."""
        deadline = time.monotonic() + timeout
        while not condition(value := self.evaluate(script)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the page did not get there in {timeout:g} s: {value!r}")
            time.sleep(0.05)
        return value

    def look(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        """Another size of the window, in light or dark."""
        self._ask("look", width=width, height=height, dark=dark)

    def screenshot(self, path: Path, *, whole: bool = False) -> Path:
        """A PNG of what is seen, or of the whole page."""
        self._ask("screenshot", path=str(path), whole=whole)
        return path

    def audit(self) -> list[dict[str, Any]]:
        """Faults that axe-core finds: `id`, `impact` (minor to critical), `help`, `nodes`."""
        return list(self._ask("audit", 60.0)["found"])

    def said(self) -> list[str]:
        """Errors and warnings of the console since the tab was opened."""
        return list(self._ask("said")["said"])

    def close(self) -> None:
        """Close the tab."""
        self._ask("close")
