"""Draws `pulumi up` at work as SVG, from a real run of the quickstart against the emulator in a terminal.

PATH="$(make -s engine):$PWD/.venv/bin:$PATH" python docs/images/up.py    # needs `pip install pyte`

The first screen is taken while the claim waits, the second at the end.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pyte
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text

from coreweave_inference.emulator import Emulator, EmulatorSettings

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COLUMNS, ROWS = 120, 30
FEW = {"US-WEST-04A": {"gb200-4x": 2}, "US-EAST-04A": {"gb200-4x": 0}}
ENOUGH = {"US-WEST-04A": {"gb200-4x": 2}, "US-EAST-04A": {"gb200-4x": 2}}
COMMAND = "pulumi up --yes --skip-preview"


def main() -> None:
    settings = EmulatorSettings(inventory=FEW, allocation_delay=1)
    with Emulator(settings) as emulator, tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state"
        state.mkdir()
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("COREWEAVE_", "CW_", "PULUMI_")) and name not in ("CI", "NO_COLOR")
        } | {
            "PULUMI_HOME": f"{folder}/home",
            "PULUMI_BACKEND_URL": state.as_uri(),
            "PULUMI_CONFIG_PASSPHRASE": "picture",
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "TERM": "xterm-256color",
            **emulator.environment(),
        }
        config = Path(folder) / "Pulumi.demo.yaml"
        stack = ["--stack", "demo", "--config-file", str(config)]
        quiet = {"cwd": ROOT, "env": environment, "check": True, "capture_output": True}
        subprocess.run(["pulumi", "stack", "init", "demo"], **quiet)  # noqa: S607
        terminal = Terminal([*COMMAND.split(), *stack], environment)
        terminal.until(lambda: "2/4" in terminal.text, 60)
        time.sleep(2)  # the display has then drawn the whole row
        terminal.until(lambda: "2/4" in terminal.text, 60)
        waiting = terminal.lines()
        emulator.set_inventory(ENOUGH)
        terminal.until(lambda: terminal.ended, 60)
        ready = terminal.lines()
    draw(waiting, ready)


class Terminal:
    """A command in a terminal of its own, and what its screen shows."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self._screen)
        child, self._master = pty.fork()  # the terminal is the one that the command's session has
        if child == 0:
            os.chdir(ROOT)
            os.execvpe(command[0], command, environment)  # noqa: S606
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.ended = False

    @property
    def text(self) -> str:
        """The screen without colours."""
        return "\n".join(self._screen.display)

    def until(self, condition: Callable[[], bool], seconds: float) -> None:
        """Read what the command prints until a condition holds."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                sys.exit(f"not within {seconds:g} s; the screen shows:\n{self.text}")
            self._read()

    def lines(self) -> list[Text]:
        """The screen with its colours, without empty lines at its end."""
        shown = [self._line(row) for row in range(ROWS)]
        while shown and not shown[-1].plain.strip():
            shown.pop()
        return shown

    def _read(self) -> None:
        if not select.select([self._master], [], [], 0.1)[0]:
            return
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the command has ended
            data = b""
        self._stream.feed(data)
        self.ended = not data

    def _line(self, row: int) -> Text:
        line = Text(no_wrap=True)
        for column in range(COLUMNS):
            cell = self._screen.buffer[row][column]
            line.append(cell.data, Style(color=_colour(cell.fg), bold=cell.bold, underline=cell.underscore))
        line.rstrip()
        return line


def _colour(name: str) -> Color | None:
    if name == "default":
        return None
    name = {"brown": "yellow"}.get(name, name)
    return Color.parse(f"#{name}" if re.fullmatch("[0-9a-f]{6}", name) else name.replace("bright", "bright_"))


def draw(waiting: list[Text], ready: list[Text]) -> None:
    """Write both screens into one picture, the second from its diagnostics on."""
    end = next(index for index, line in enumerate(ready) if line.plain.startswith("Diagnostics"))
    lines = [
        Text.assemble(("$ ", "dim"), COMMAND),
        *waiting,
        Text(),
        Text("A few seconds later, when US-EAST-04A has free instances:", Style(dim=True, italic=True)),
        Text(),
        *ready[end:],
    ]
    width = max(line.cell_len for line in lines)
    console = Console(record=True, width=width, file=io.StringIO(), highlight=False, emoji=False)
    for line in lines:
        console.print(line, overflow="crop", no_wrap=True, crop=False)
    drawn = console.export_svg(title="pulumi up", theme=MONOKAI, unique_id="up")
    # A picture loads no font from another host.
    drawn = re.sub(r"\s*@font-face \{.*?\}", "", drawn, flags=re.DOTALL)
    (HERE / "up.svg").write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
