"""Provide a working `pulumi` for Python programs, and print the directory to put first on PATH.

Three ways, tried in this order:

    path      a pulumi on PATH that is new enough and has its Python language host
    download  the official release
    go        a build from the pinned Go module in this directory, with our language host

Downloads and builds are kept in the user's cache, which the next run uses. Uses only the standard library,
so that it runs before any virtual environment exists.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path

VERSION = "3.276.0"
OLDEST = "3.254.0"  # older ones cannot import dynamic resources
RELEASES = "https://get.pulumi.com/releases/sdk"
SECONDS_TO_CONNECT = 5

HERE = Path(__file__).resolve().parent
ENGINE_PACKAGE = "github.com/pulumi/pulumi/pkg/v3/cmd/pulumi"
SDK_MODULE = "github.com/pulumi/pulumi/sdk/v3"
LANGUAGE_HOST = "pulumi-language-python"
YAML_HOST = "pulumi-language-yaml"
LANGUAGES = HERE.parent / "languages"
# Each folder with a go.mod pins one version.
VERSIONS = sorted(file.parent.name for file in HERE.glob("*/go.mod"))


class Unavailable(Exception):
    """A source of the engine is not available; the message says why."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="install.py",
        description="Provide a working pulumi CLI for Python programs. "
        "Prints only the directory to put first on PATH; progress goes to stderr.",
        epilog="PULUMI_ENGINE=path|download|go forces one source instead of trying the three in "
        f"this order: a pulumi >= {OLDEST} on PATH; the official release {VERSION}; the same "
        "version built from its Go module (needs Go, about 4 minutes once).",
    )
    parser.add_argument(
        "--python",
        metavar="PATH",
        type=Path,
        help="a Python that has the Pulumi SDK; serves programs that have no .venv at or above "
        "them, and only with an engine built from Go",
    )
    parser.add_argument(
        "--version",
        choices=VERSIONS,
        help="exactly this version, and none on PATH; by default the newest, or a recent one on PATH",
    )
    parser.add_argument(
        "--yaml",
        action="store_true",
        help="with the language host of YAML; builds it if the engine has none (needs Go, about a minute)",
    )
    arguments = parser.parse_args(argv)

    forced = os.environ.get("PULUMI_ENGINE", "")
    if forced not in ("", *WAYS):
        parser.error(f"PULUMI_ENGINE must be one of {', '.join(WAYS)}, not {forced!r}")
    ways = [forced] if forced else [*MAKERS] if arguments.version else [*WAYS]
    if arguments.version and forced == "path":
        parser.error("PULUMI_ENGINE=path takes the version on PATH; unset it, or leave --version out")
    try:
        directory = provide(ways, arguments.version or VERSION)
        if arguments.yaml:
            add_yaml(directory)
        if arguments.python:
            remember_python(directory, arguments.python)
    except Unavailable as reasons:
        print(reasons, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; nothing was installed", file=sys.stderr)
        return 130
    print(directory)
    return 0


def provide(ways: list[str], pinned: str) -> Path:
    """The engine's directory by the first way that works; an earlier build beats a new download."""
    reasons: dict[str, str] = {}
    for attempt in (from_path, from_cache, make):
        for way in ways:
            try:
                if directory := attempt(way, pinned):
                    return directory
            except Unavailable as error:
                reasons[way] = str(error)
            except (OSError, HTTPException, tarfile.TarError) as error:
                reasons[way] = f"{type(error).__name__}: {error}"
            if attempt is make and way in reasons and way != ways[-1]:
                say(f"that did not work: {reasons[way]}")
    raise Unavailable(explanation(reasons))


def from_path(way: str, _pinned: str) -> Path | None:
    """The engine that the user has installed."""
    if way != "path":
        return None
    found = shutil.which("pulumi")
    if not found:
        raise Unavailable("pulumi is not on PATH")
    directory = Path(found).parent.absolute()
    if directory.is_relative_to(cache_root()):
        raise Unavailable(f"{found} was installed by this script and may be out of date")
    version = version_of(Path(found))
    if not at_least(version, OLDEST):
        raise Unavailable(f"{found} is {version}; the oldest supported version is {OLDEST}")
    beside = Path(found).resolve().with_name(LANGUAGE_HOST)
    if not os.access(beside, os.X_OK) and not shutil.which(LANGUAGE_HOST):
        raise Unavailable(f"{found} has no {LANGUAGE_HOST} beside it or on PATH")
    say(f"pulumi {version} on PATH, in {directory}")
    return directory


def from_cache(way: str, pinned: str) -> Path | None:
    """The engine that an earlier run downloaded or built."""
    if way not in MAKERS:
        return None
    directory = cached(way, pinned)
    if not (directory / "pulumi").is_file():
        return None
    say(f"pulumi {pinned} ({way}), in the cache at {directory}")
    return directory


def make(way: str, pinned: str) -> Path | None:
    """Download or build the engine, and put it into the cache as a whole or not at all."""
    if way not in MAKERS:
        return None
    final = cached(way, pinned)

    def fill(partial: Path) -> None:
        MAKERS[way](partial, pinned)
        version = version_of(partial / "pulumi")
        if not at_least(version, pinned):
            raise Unavailable(f"its pulumi reports the version {version!r}")

    if not into_cache(final, "pulumi", fill):
        return final  # made by another run in the meantime
    say(f"pulumi {pinned} ({way}) installed in {final}")
    return final


def into_cache(final: Path, program: str, fill: Callable[[Path], None]) -> bool:
    """Fill a folder of the cache that is to hold a program; false if it holds it already."""
    final.parent.mkdir(parents=True, exist_ok=True)
    with only_one_run(final.parent):
        # Only the holder of the lock creates these, so a killed run left them behind.
        for stale in final.parent.glob(".partial-*"):
            shutil.rmtree(stale, ignore_errors=True)
        if (final / program).is_file():
            return False
        partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=final.parent))
        try:
            fill(partial)
            partial.chmod(0o755)
            partial.rename(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return True


def download(target: Path, pinned: str) -> None:
    """Unpack the official release."""
    system = {"Linux": "linux", "Darwin": "darwin"}.get(platform.system())
    machine = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(
        platform.machine().lower()
    )
    if not system or not machine:
        raise Unavailable(f"there is no release for {platform.system()} {platform.machine()}")
    url = f"{RELEASES}/pulumi-v{pinned}-{system}-{machine}.tar.gz"
    say(f"downloading {url}")
    with (
        urllib.request.urlopen(url, timeout=SECONDS_TO_CONNECT) as response,
        tarfile.open(fileobj=response, mode="r|gz") as archive,
    ):
        for member in archive:
            # The release is flat: pulumi/NAME. Only the name is used, so nothing leaves `target`.
            content = archive.extractfile(member) if member.isfile() else None
            if content:
                file = target / Path(member.name).name
                with file.open("wb") as out:
                    shutil.copyfileobj(content, out)
                file.chmod(0o755)
    if not (target / LANGUAGE_HOST).is_file():
        raise Unavailable(f"{url} does not contain {LANGUAGE_HOST}")


def build(target: Path, pinned: str) -> None:
    """Compile the CLI, and add what a release contains for Python programs."""
    if not shutil.which("go"):
        raise Unavailable("go is not on PATH")
    say("building the Pulumi engine from its Go module, once, about 4 minutes")
    module = HERE / pinned
    go(
        module,
        "build",
        "-trimpath",
        "-tags=osusergo,grpcnotrace",
        f"-ldflags=-s -w -X {SDK_MODULE}/go/common/version.Version=v{pinned}",
        f"-o={target / 'pulumi'}",
        ENGINE_PACKAGE,
    )
    sdk = Path(go(module, "list", "-m", "-f", "{{.Dir}}", SDK_MODULE))
    for source in (
        sdk / "python" / "cmd" / "pulumi-language-python-exec",
        sdk / "python" / "dist" / "pulumi-resource-pulumi-python",
        HERE / LANGUAGE_HOST,
        HERE / "language_host.py",
    ):
        shutil.copyfile(source, target / source.name)
        (target / source.name).chmod(0o755)


def add_yaml(directory: Path) -> None:
    """Put the language host of YAML beside an engine that has none."""
    link = directory / YAML_HOST
    if link.is_file() and not link.is_symlink():
        return  # an official release
    if not directory.is_relative_to(cache_root()):
        beside = (directory / "pulumi").resolve().with_name(YAML_HOST)
        if os.access(beside, os.X_OK):
            return
        raise Unavailable(
            f"the pulumi in {directory} has no {YAML_HOST} beside it; PULUMI_ENGINE=go builds both"
        )
    made = cache_root() / f"yaml-{hashlib.sha256((LANGUAGES / 'go.sum').read_bytes()).hexdigest()[:12]}"
    if not (made / YAML_HOST).is_file():
        into_cache(made, YAML_HOST, build_yaml)
    with only_one_run(cache_root()), tempfile.TemporaryDirectory(dir=cache_root(), prefix=".partial-") as new:
        (Path(new) / YAML_HOST).symlink_to(Path("..") / made.name / YAML_HOST)
        (Path(new) / YAML_HOST).replace(link)


def build_yaml(target: Path) -> None:
    """Compile the language host of YAML."""
    if not shutil.which("go"):
        raise Unavailable(f"go is not on PATH, and the engine has no {YAML_HOST}")
    say(f"building {YAML_HOST} from its Go module, once, about a minute")
    go(
        LANGUAGES,
        "build",
        "-trimpath",
        "-tags=osusergo,grpcnotrace",
        "-ldflags=-s -w",
        f"-o={target / YAML_HOST}",
        f"github.com/pulumi/pulumi-yaml/cmd/{YAML_HOST}",
    )


MAKERS: dict[str, Callable[[Path, str], None]] = {"download": download, "go": build}
WAYS = ("path", *MAKERS)


def go(module: Path, *arguments: str) -> str:
    """The output of a go command in a module."""
    environment = {**os.environ, "CGO_ENABLED": "0"}
    result = subprocess.run(["go", *arguments], cwd=module, env=environment, capture_output=True, text=True)
    if result.returncode:
        reason = " | ".join(result.stderr.strip().splitlines()[-3:])
        raise Unavailable(f"`go {arguments[0]}` failed: {reason}")
    return result.stdout.strip()


def remember_python(directory: Path, python: Path) -> None:
    """Record the Python that the launcher falls back to."""
    if not (directory / "language_host.py").is_file():
        return  # an official host needs none
    file = directory / "host-python"
    # Not resolved: a virtual environment's Python is a link, and through it no longer the venv's.
    text = f"{python.absolute()}\n"
    with contextlib.suppress(OSError):  # a read-only cache; the launcher has other ways
        if file.exists() and file.read_text() == text:
            return
        with tempfile.NamedTemporaryFile("w", dir=directory, delete=False) as temporary:
            temporary.write(text)
        Path(temporary.name).chmod(0o644)
        Path(temporary.name).replace(file)


def version_of(pulumi: Path) -> str:
    """The output of `pulumi version`."""
    environment = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}
    try:
        result = subprocess.run(
            [pulumi, "version"], env=environment, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{pulumi} does not run: {error}") from None
    if result.returncode:
        raise Unavailable(f"{pulumi} does not run: {result.stderr.strip() or result.returncode}")
    return result.stdout.strip()


def at_least(version: str, oldest: str) -> bool:
    """Whether a version such as `v3.259.0` or `3.260.0-alpha.1` is `oldest` or newer."""
    numbers = [re.match(r"v?(\d+)\.(\d+)\.(\d+)", text) for text in (version, oldest)]
    parsed = [tuple(map(int, match.groups())) for match in numbers if match]
    return len(parsed) == 2 and parsed[0] >= parsed[1]


def cache_root() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "pulumi-coreweave-inference" / "engine"


def cached(way: str, pinned: str) -> Path:
    """The cache directory of one source; it changes when a source file changes."""
    if way == "download":
        return cache_root() / f"{pinned}-download"
    digest = hashlib.sha256()
    for name in (f"{pinned}/go.sum", LANGUAGE_HOST, "language_host.py"):
        digest.update((HERE / name).read_bytes())
    return cache_root() / f"{pinned}-{way}-{digest.hexdigest()[:12]}"


@contextlib.contextmanager
def only_one_run(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory. The system releases it when the process ends, even if it is killed."""
    with (directory / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another run that is installing the engine")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def explanation(reasons: dict[str, str]) -> str:
    lines = ["No Pulumi engine is available:"]
    lines += [f"  {way:<9} {reason}" for way, reason in reasons.items()]
    lines += [
        "Do one of the following:",
        f"  - install Pulumi {OLDEST} or newer: https://www.pulumi.com/docs/install/",
        "  - install Go 1.26 or newer: https://go.dev/dl/",
        "  - behind a proxy, set HTTPS_PROXY for the download and GOPROXY for the Go module",
    ]
    if len(reasons) < len(WAYS):
        lines.append("  - unset PULUMI_ENGINE, so that all three sources are tried")
    return "\n".join(lines)


def say(text: str) -> None:
    print(f"engine: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
