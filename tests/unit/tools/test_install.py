"""Providing the engine: which way is taken, and what stays behind, with fakes on PATH."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "tools" / "engine" / "install.py"

# Builds a pulumi that prints the pinned version, and counts how often it was asked to.
FAKE_GO = f"""#!{sys.executable}
import os, pathlib, sys, time
here = pathlib.Path(__file__).parent
version = next((a.split("=")[-1] for word in sys.argv for a in word.split() if "version.Version=" in a), "")
if sys.argv[1] == "list":
    print(here / "sdk")
elif sys.argv[-1].endswith("pulumi-language-yaml"):
    target = next(a[3:] for a in sys.argv if a.startswith("-o="))
    with open(here / "hosts", "a") as log:
        log.write(target + "\\n")
    pathlib.Path(target).write_text("#!/bin/sh\\n")
elif sys.argv[1] == "build":
    with open(here / "builds", "a") as log:
        log.write(os.environ["CGO_ENABLED"] + "\\n")
    target = next(a[3:] for a in sys.argv if a.startswith("-o="))
    (here / "building").write_text(target)
    time.sleep(float(os.environ.get("FAKE_GO_SECONDS", "0")))
    if os.environ.get("FAKE_GO_FAILS"):
        sys.exit("go: no such module")
    with open(target, "w") as file:
        file.write("#!/bin/sh\\necho " + os.environ.get("FAKE_GO_VERSION", version) + "\\n")
    os.chmod(target, 0o755)
"""

RELEASE = {
    "pulumi/pulumi": "#!/bin/sh\necho v3.276.0\n",
    "pulumi/pulumi-language-python": "#!/bin/sh\n",
}


class Machine:
    """What is on PATH, and an empty cache."""

    def __init__(self, directory: Path, install: ModuleType) -> None:
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.cache = directory / "cache" / "pulumi-coreweave-inference" / "engine"
        self.releases = directory / "releases"
        self.releases.mkdir()
        self.install = install

    def executable(self, name: str, text: str) -> Path:
        path = self.bin / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def pulumi(self, version: str, *, language_host: bool = True) -> None:
        self.executable("pulumi", f"#!/bin/sh\necho {version}\n")
        if language_host:
            self.executable("pulumi-language-python", "#!/bin/sh\n")

    def go(self) -> None:
        self.executable("go", FAKE_GO)
        python = self.bin / "sdk" / "python"
        for name in ("cmd/pulumi-language-python-exec", "dist/pulumi-resource-pulumi-python"):
            (python / name).parent.mkdir(parents=True)
            (python / name).write_text("#!/bin/sh\n")

    def release(self, files: dict[str, str]) -> None:
        """Publish the official release for every platform."""
        for system in ("linux", "darwin"):
            for machine in ("x64", "arm64"):
                name = f"pulumi-v{self.install.VERSION}-{system}-{machine}.tar.gz"
                with tarfile.open(self.releases / name, "w:gz") as archive:
                    for path, text in files.items():
                        member = tarfile.TarInfo(path)
                        member.size = len(text)
                        archive.addfile(member, io.BytesIO(text.encode()))

    @property
    def builds(self) -> int:
        log = self.bin / "builds"
        return len(log.read_text().splitlines()) if log.exists() else 0

    def in_cache(self) -> list[str]:
        return sorted(p.name for p in self.cache.glob("*")) if self.cache.exists() else []


@pytest.fixture
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("engine_install", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, install: ModuleType) -> Machine:
    machine = Machine(tmp_path, install)
    monkeypatch.setenv("PATH", str(machine.bin))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("PULUMI_ENGINE", raising=False)
    monkeypatch.setattr(install, "RELEASES", machine.releases.as_uri())
    return machine


@pytest.fixture
def run(machine: Machine, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the installer; gives its exit code, stdout and stderr."""

    def run_once(*arguments: str) -> tuple[int, str, str]:
        code: int = machine.install.main(list(arguments))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_once


Run = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("v3.254.0", True),
        ("3.254.0", True),
        ("v3.300.1-alpha.2+dirty", True),
        ("v4.0.0", True),
        ("v3.253.9", False),
        ("v3.99.0", False),
        ("v2.999.0", False),
        ("", False),
        ("unknown", False),
    ],
)
def test_versions_are_compared_by_number(install: ModuleType, version: str, enough: bool) -> None:
    assert install.at_least(version, "3.254.0") is enough


def test_a_pulumi_on_path_is_taken_before_anything_is_built(machine: Machine, run: Run) -> None:
    machine.pulumi("v3.300.0")
    machine.go()
    code, out, err = run()
    assert (code, out) == (0, f"{machine.bin}\n")
    assert "v3.300.0 on PATH" in err
    assert machine.builds == 0


@pytest.mark.parametrize(("version", "language_host"), [("v3.200.0", True), ("v3.300.0", False), ("", True)])
def test_an_unsuitable_pulumi_on_path_is_passed_over(
    machine: Machine, run: Run, version: str, language_host: bool
) -> None:
    machine.pulumi(version, language_host=language_host)
    machine.go()
    code, out, _ = run()
    assert code == 0
    assert Path(out.strip()).parent == machine.cache
    assert machine.builds == 1


def test_the_release_is_taken_before_a_build(machine: Machine, run: Run) -> None:
    machine.go()
    machine.release({**RELEASE, "pulumi/../../escaped": "no"})
    code, out, _ = run()
    assert (code, out) == (0, f"{machine.cache}/3.276.0-download\n")
    directory = Path(out.strip())
    assert sorted(file.name for file in directory.iterdir()) == [
        "escaped",  # by its name only, inside
        "pulumi",
        "pulumi-language-python",
    ]
    assert machine.builds == 0


def test_a_release_that_does_not_run_is_not_kept(machine: Machine, run: Run) -> None:
    machine.go()
    machine.release({"pulumi/pulumi": "#!/bin/sh\nexit 3\n", "pulumi/pulumi-language-python": "#!/bin/sh\n"})
    code, out, _ = run()
    assert code == 0
    assert "-go-" in out
    assert "3.276.0-download" not in machine.in_cache()


def test_a_build_has_everything_a_python_program_needs(machine: Machine, run: Run) -> None:
    machine.go()
    code, out, err = run("--python", sys.executable)
    assert code == 0
    assert "building the Pulumi engine from its Go module, once, about 4 minutes" in err
    directory = Path(out.strip())
    executables = [f.name for f in directory.iterdir() if os.access(f, os.X_OK)]
    assert sorted(executables) == [
        "language_host.py",
        "pulumi",
        "pulumi-language-python",
        "pulumi-language-python-exec",
        "pulumi-resource-pulumi-python",
    ]
    assert (directory / "host-python").read_text() == f"{sys.executable}\n"
    assert (machine.bin / "builds").read_text() == "0\n"  # without cgo


def test_the_second_run_uses_the_first_ones_build_and_downloads_nothing(machine: Machine, run: Run) -> None:
    machine.go()
    first = run()[1]
    (machine.bin / "go").unlink()
    machine.release(RELEASE)
    code, out, _ = run()
    assert (code, out) == (0, first)
    assert machine.builds == 1


@pytest.mark.parametrize("name", ["3.276.0/go.sum", "language_host.py", "pulumi-language-python"])
def test_a_changed_source_is_built_again(
    machine: Machine, run: Run, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.go()
    sources = tmp_path / "sources"
    shutil.copytree(SCRIPT.parent, sources)
    monkeypatch.setattr(machine.install, "HERE", sources)
    first = run()[1]
    with (sources / name).open("a") as file:
        file.write("\n")
    assert run()[1] != first
    assert machine.builds == 2


def test_a_cached_engine_on_path_is_not_mistaken_for_the_users_own(
    machine: Machine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.go()
    outdated = machine.cache / "3.276.0-go-outdated"
    outdated.mkdir(parents=True)
    for name, text in (("pulumi", "echo v3.276.0"), ("pulumi-language-python", "")):
        (outdated / name).write_text(f"#!/bin/sh\n{text}\n")
        (outdated / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{outdated}{os.pathsep}{machine.bin}")
    assert run()[1] != f"{outdated}\n"


@pytest.mark.parametrize("way", ["path", "download", "go"])
def test_a_forced_way_is_the_only_one_tried(
    machine: Machine, run: Run, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.pulumi("v3.300.0")
    machine.release(RELEASE)
    machine.go()
    monkeypatch.setenv("PULUMI_ENGINE", way)
    directory = Path(run()[1].strip())
    if way == "path":
        assert directory == machine.bin
    else:
        assert directory.name.startswith(f"3.276.0-{way}")

    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine.bin / "elsewhere"))
    monkeypatch.setattr(machine.install, "RELEASES", "file:///nonexistent")
    code, out, err = run()
    assert (code, out) == (1, "")
    assert f"  {way} " in err
    assert "unset PULUMI_ENGINE" in err


def test_one_version_is_built_beside_the_newest_and_the_one_on_path(machine: Machine, run: Run) -> None:
    machine.pulumi("v3.300.0")
    machine.go()
    first = Path(run("--version", "3.259.0")[1].strip())
    newest = Path(run("--version", machine.install.VERSION)[1].strip())
    assert [path.name.partition("-")[0] for path in (first, newest)] == ["3.259.0", machine.install.VERSION]
    assert subprocess.run([first / "pulumi"], capture_output=True, text=True).stdout == "v3.259.0\n"
    assert machine.builds == 2


def test_the_default_version_is_the_newest_that_is_pinned(install: ModuleType) -> None:
    assert all(install.at_least(install.VERSION, version) for version in install.VERSIONS)
    for version in install.VERSIONS:
        assert f"{install.ENGINE_PACKAGE.partition('/v3/')[0]}/v3 v{version}" in (
            SCRIPT.parent / version / "go.mod"
        ).read_text(encoding="utf-8")


def test_a_version_on_path_cannot_be_asked_for(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PULUMI_ENGINE", "path")
    with pytest.raises(SystemExit):
        run("--version", "3.259.0")
    assert "PULUMI_ENGINE=path takes the version on PATH" in capsys.readouterr().err


def test_yaml_brings_its_host_beside_a_built_engine_once(machine: Machine, run: Run) -> None:
    machine.go()
    for _ in range(2):
        code, out, _ = run("--yaml")
        assert code == 0
        assert (Path(out.strip()) / "pulumi-language-yaml").read_text() == "#!/bin/sh\n"
    older = Path(run("--yaml", "--version", "3.259.0")[1].strip())
    assert (older / "pulumi-language-yaml").is_file()
    assert len((machine.bin / "hosts").read_text().splitlines()) == 1, "one host serves every engine"
    assert not [name for name in machine.in_cache() if name.startswith(".partial-")]


def test_the_yaml_host_of_a_release_is_kept(machine: Machine, run: Run) -> None:
    machine.release({**RELEASE, "pulumi/pulumi-language-yaml": "official"})
    code, out, _ = run("--yaml")
    assert code == 0
    assert (Path(out.strip()) / "pulumi-language-yaml").read_text() == "official"


def test_an_engine_on_path_without_a_yaml_host_is_named(
    machine: Machine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.pulumi("v3.300.0")
    monkeypatch.setenv("PULUMI_ENGINE", "path")
    code, out, err = run("--yaml")
    assert (code, out) == (1, "")
    assert f"{machine.bin} has no pulumi-language-yaml" in err
    machine.executable("pulumi-language-yaml", "#!/bin/sh\n")
    assert run("--yaml")[0] == 0


def test_an_unknown_way_is_refused(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PULUMI_ENGINE", "magic")
    with pytest.raises(SystemExit):
        run()
    assert "PULUMI_ENGINE must be one of path, download, go, not 'magic'" in capsys.readouterr().err


def test_when_no_way_works_the_error_names_all_three_and_what_helps(run: Run) -> None:
    code, out, err = run()
    assert (code, out) == (1, "")
    assert "path      pulumi is not on PATH" in err
    assert "download  URLError" in err
    assert "go        go is not on PATH" in err
    assert "https://www.pulumi.com/docs/install/" in err
    assert "install Go 1.26 or newer" in err
    assert "Traceback" not in err


def test_a_build_that_fails_leaves_nothing_and_says_why(
    machine: Machine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.go()
    monkeypatch.setenv("FAKE_GO_FAILS", "1")
    code, out, err = run()
    assert (code, out) == (1, "")
    assert "`go build` failed: go: no such module" in err
    assert machine.in_cache() == [".lock"]


def test_a_build_of_another_version_is_not_kept(
    machine: Machine, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.go()
    monkeypatch.setenv("FAKE_GO_VERSION", "v3.0.0")
    code, _, err = run()
    assert code == 1
    assert "reports the version 'v3.0.0'" in err
    assert machine.in_cache() == [".lock"]


def start(**variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, SCRIPT],
        env={**os.environ, "PULUMI_ENGINE": "go", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_build_is_cleaned_up_by_the_next_run(machine: Machine, run: Run) -> None:
    machine.go()
    killed = start(FAKE_GO_SECONDS="1")
    wait_for(machine.bin / "building")
    killed.kill()
    killed.communicate()
    assert any(name.startswith(".partial-") for name in machine.in_cache())
    code, out, _ = run()
    assert code == 0
    assert machine.in_cache() == [".lock", Path(out.strip()).name]


def test_an_interrupted_build_leaves_nothing_and_shows_no_traceback(machine: Machine) -> None:
    machine.go()
    interrupted = start(FAKE_GO_SECONDS="5")
    wait_for(machine.bin / "building")
    interrupted.send_signal(signal.SIGINT)
    out, err = interrupted.communicate()
    assert (interrupted.returncode, out) == (130, "")
    assert err.endswith("interrupted; nothing was installed\n")
    assert machine.in_cache() == [".lock"]


def test_two_runs_at_once_build_once_and_agree(machine: Machine) -> None:
    machine.go()
    runs = [start(FAKE_GO_SECONDS="0.3") for _ in range(2)]
    outputs = [run.communicate() for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert len({out for out, _ in outputs}) == 1
    assert machine.builds == 1
    assert sum("waiting for another run" in err for _, err in outputs) == 1


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 10
    while not file.exists() or not file.read_text():
        assert time.monotonic() < deadline, f"{file} did not appear"
        time.sleep(0.02)
