"""Shows the life of a claim on this machine: the emulator, a local state, `pulumi preview` and `pulumi up`.

Everything is in `.demo`: the emulator's claims, Pulumi's state and home, and `env`, a file of variables for
your own shell. `--clean` stops the emulator and removes everything.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / ".demo"
STACK = "demo"
CONFIG = ROOT / f"Pulumi.{STACK}.yaml"
SECONDS_TO_START = 20


def main() -> int:
    parser = argparse.ArgumentParser(description="Show the life of a capacity claim, against the emulator.")
    parser.add_argument("--clean", action="store_true", help="stop the emulator and remove .demo")
    if parser.parse_args().clean:
        clean()
        return 0
    try:
        return show()
    except KeyboardInterrupt:
        print("\nInterrupted. `make demo` continues from here, and `make demo-clean` removes everything.")
        return 130


def show() -> int:
    environment = prepare()
    start_emulator(environment)
    say("Create a stack, with its state in .demo/state:")
    run(environment, "pulumi", "stack", "select", "--create", STACK)
    say("Preview what would happen:")
    run(environment, "pulumi", "preview")
    say("Create the claim. `created` means that it exists, not that it is ready.")
    print("# In a terminal of 100 columns or more, its row shows the progress:", flush=True)
    run(environment, "pulumi", "up", "--yes", "--skip-preview")
    print(NEXT)
    return 0


NEXT = f"""
Continue by hand. In this folder, set the environment of your shell first:

  . .demo/env

  pulumi config set instances 6 && pulumi up     # scale in place; nothing is released
  pulumi refresh                                 # compare the state with the API
  pulumi config set --path 'zones[0]' US-EAST-04A && pulumi config set --path 'zones[1]' US-WEST-04A
  pulumi preview --diff                          # a new order of zones replaces the claim, the new one first
  pulumi destroy                                 # release the claim
  capacity-claims emulator stock                 # what the emulator has left; a browser shows it as well

If you change nothing, a second `make demo` shows that nothing changes.
`make demo-clean` removes everything.
The program is __main__.py, the stack is '{STACK}', and the GPUs are not real."""


def prepare() -> dict[str, str]:
    """The environment of the demo; every run uses the same."""
    for folder in (DEMO, DEMO / "state", DEMO / "home"):
        folder.mkdir(mode=0o700, exist_ok=True)
    file = DEMO / "env"
    if not file.exists():
        write_environment(file)
    variables = dict(read_environment(file))
    engine = shutil.which("pulumi")
    if engine is None:
        sys.exit("pulumi is not on PATH; run `make demo`, which provides it.")
    return os.environ | variables


def write_environment(file: Path) -> None:
    engine = shutil.which("pulumi")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    variables = {
        "COREWEAVE_API_ENDPOINT": f"http://127.0.0.1:{port}",
        "COREWEAVE_API_TOKEN": f"demo-{secrets.token_urlsafe(12)}",
        "COREWEAVE_EMULATOR_CONTROL_TOKEN": f"demo-control-{secrets.token_urlsafe(12)}",
        "PULUMI_HOME": str(DEMO / "home"),
        "PULUMI_BACKEND_URL": (DEMO / "state").as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "demo",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    if engine:
        lines.append(f"export PATH={shlex.quote(str(Path(engine).parent))}:{ROOT / '.venv' / 'bin'}:$PATH")
    file.touch(mode=0o600)
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_environment(file: Path) -> list[tuple[str, str]]:
    words = [shlex.split(line)[1] for line in file.read_text(encoding="utf-8").splitlines()]
    pairs = [word.partition("=") for word in words]
    return [(name, value) for name, _, value in pairs if name != "PATH"]


def start_emulator(environment: dict[str, str]) -> None:
    url = environment["COREWEAVE_API_ENDPOINT"]
    port = int(url.rpartition(":")[2])
    if listens(port):
        say(f"The emulator is already running at {url}.")
        return
    say(f"Start the emulator at {url}. It allocates the first instance after 3 s, then one per second.")
    with (DEMO / "emulator.log").open("ab") as log:
        process = subprocess.Popen(
            [
                str(ROOT / ".venv" / "bin" / "capacity-claims"),
                *("emulator", "--port", str(port)),
                *("--allocation-delay", "3", "--allocation-spread", "1"),
                *("--state", str(DEMO / "claims.sqlite")),
            ],
            env=environment | {"COREWEAVE_EMULATOR_TOKEN": environment["COREWEAVE_API_TOKEN"]},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (DEMO / "emulator.pid").write_text(str(process.pid), encoding="utf-8")
    for _ in range(SECONDS_TO_START * 10):
        if listens(port):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    sys.exit(f"The emulator did not start; see {DEMO / 'emulator.log'}")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def run(environment: dict[str, str], *command: str) -> None:
    print(f"$ {shlex.join(command)}", flush=True)
    status = subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    if status:
        sys.exit(
            f"`{shlex.join(command)}` failed with exit code {status}; to start over, run `make demo-clean`"
        )


def say(line: str) -> None:
    print(f"\n# {line}", flush=True)


def clean() -> None:
    pid_file = DEMO / "emulator.pid"
    if pid_file.exists():
        pid = int(pid_file.read_text(encoding="utf-8"))
        if b"capacity-claims" in command_of(pid):
            os.kill(pid, signal.SIGTERM)
    shutil.rmtree(DEMO, ignore_errors=True)
    CONFIG.unlink(missing_ok=True)
    print("Removed the demo: its emulator, claims and state.")


def command_of(pid: int) -> bytes:
    """The command line of a process, empty if it has ended. Its id may belong to another process by now."""
    shown = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, check=False)
    return shown.stdout


if __name__ == "__main__":
    sys.exit(main())
