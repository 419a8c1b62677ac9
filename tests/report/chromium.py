"""Headless Chromium, driven over a pipe by its DevTools protocol: the standard library is enough for that."""

import json
import os
import select
import shutil
import subprocess
import time

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--remote-debugging-pipe"),
)
_SECONDS = 240  # on a machine that does much else

_MIDDLE = """async (selector) => {
  let last = "";
  for (;;) {
    const one = document.querySelector(selector);
    one.scrollIntoView({block: "center", inline: "center", behavior: "instant"});
    const box = one.getBoundingClientRect();
    const at = [box.x + box.width / 2, box.y + box.height / 2];
    const met = document.elementFromPoint(...at);
    if (last === String(at) && met && (one.contains(met) || met.contains(one))) return at;
    last = String(at);
    await new Promise((done) => setTimeout(done, 50));
  }
}"""


class Browser:
    """A browser with one page; what goes wrong in it is kept.

    Attributes:
      errors: texts of console errors and of exceptions.
      requests: addresses that were asked for, but for data: and about:.
    """

    def __init__(self, profile):
        """Start it with an empty profile, a directory."""
        to_read, our_writing = os.pipe()
        our_reading, to_write = os.pipe()
        redirect = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        command = [
            "bash",
            "-c",
            redirect,
            "bash",
            PROGRAM,
            *_FLAGS,
            f"--user-data-dir={profile}",
            "about:blank",
        ]
        self._process = subprocess.Popen(
            command, pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(to_write)
        self._in, self._out, self._buffer = our_reading, our_writing, b""
        self._last, self._session = 0, None
        self.errors, self.requests = [], []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)

    def call(self, method, **params):
        """A command of the protocol; returns its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._last:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self._note(answer)

    def _read(self):
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], _SECONDS)
            assert ready, "the browser does not answer"
            more = os.read(self._in, 1 << 20)
            assert more, "the browser has gone"
            self._buffer += more
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def _note(self, event):
        params = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            self.errors.append(params["exceptionDetails"]["exception"].get("description", "an exception"))
        if event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert", "warning"):
            self.errors.append(str([arg.get("value", arg.get("description")) for arg in params["args"]]))
        if event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.errors.append(params["entry"]["text"])
        if event["method"] == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if not url.startswith(("data:", "about:")):
                self.requests.append(url)

    def run(self, script):
        """The value of a JavaScript expression, awaited."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, condition):
        """Wait until a JavaScript expression is true."""
        end = time.time() + _SECONDS
        while not self.run(condition):
            assert time.time() < end, f"never true: {condition}"
            time.sleep(0.05)

    def look(self, width, height=900, scheme="light"):
        """The size of the screen, and whether the reader prefers it light or dark."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)  # fmt: skip
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, path):
        """Open a file."""
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.readyState === 'complete'")

    def click(self, selector):
        """Click what a selector finds first, as a mouse does."""
        x, y = self._middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def hover(self, selector):
        """Move the mouse over what a selector finds first."""
        x, y = self._middle(selector)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x - 3, y=y)
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def _middle(self, selector):
        # Figures drawn meanwhile push the page down: only what is met there twice in turn stays there.
        return self.run(f"({_MIDDLE})({json.dumps(selector)})")
