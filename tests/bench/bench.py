"""Measures what operations cost: claims against as many empty dynamic resources, on the real engine, in one run.

Claims are measured as dynamic and as native resources; the latter in Python, and in YAML if its language host lies
beside the engine.

    python tests/bench/bench.py [--sizes 1,10,100,400,1000] [--latencies 0,50] [--out docs]
    python tests/bench/bench.py --imports

Prints the report, and writes it to `reference/benchmarks.md` and `images/benchmarks.svg`. Compare the ratios; the
seconds are those of the machine that the report names. `--imports` measures only the cost of the import.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.native import PLUGIN_AT, write_plugin

from coreweave_inference.emulator import Emulator, EmulatorSettings

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
OPERATIONS: Final = ("preview", "up", "no-change up", "refresh", "scale all", "destroy")
CHANGE_NOTHING: Final = ("preview", "no-change up", "refresh")  # so they can be measured again
CLAIMS: Final = """
import pulumi

import pulumi_coreweave_inference as inference

config = pulumi.Config()
for index in range(config.require_int("size")):
    inference.CapacityClaim(
        f"claim-{index}",
        resources={"instance_id": "gb200-4x", "instance_count": config.require_int("count"), "zones": ["RNO2A"]},
    )
"""
NATIVE_TYPE: Final = "coreweave-inference:index:CapacityClaim"
NATIVE: Final = f"""
import pulumi

config = pulumi.Config()
outputs = ("name", "organizationId", "status", "allocatedInstances", "createdAt", "updatedAt")
for index in range(config.require_int("size")):
    resources = {{"instanceId": "gb200-4x", "instanceCount": config.require_int("count"), "zones": ["RNO2A"]}}
    pulumi.CustomResource(
        "{NATIVE_TYPE}", f"claim-{{index}}", {{**dict.fromkeys(outputs), "resources": resources}}
    )
"""
YAML_HOST: Final = "pulumi-language-yaml"
PYTHON_PROJECT: Final = f"name: bench\nruntime: {{name: python, options: {{virtualenv: {sys.prefix}}}}}\n"
PLUGIN: Final = PLUGIN_AT.format("./plugin")
WRITES_SPARED: Final = {  # the state is written at the end alone
    "PULUMI_SKIP_CHECKPOINTS": "true",
    "COREWEAVE_SKIPPED_CHECKPOINTS": "allow",
}
EMPTY: Final = """
import pulumi
from empty_resource import Empty

config = pulumi.Config()
for index in range(config.require_int("size")):
    Empty(
        f"claim-{index}",
        {"instanceId": "gb200-4x", "instanceCount": config.require_int("count"), "zones": ["RNO2A"]},
    )
"""


@dataclass
class Measured:
    """One operation: seconds, calls to the API by method, and the most memory of a process, in MB."""

    seconds: float
    calls: Counter[str] = field(default_factory=Counter)
    program: float = 0.0
    provider: float = 0.0
    processor: float = 0.0
    """Seconds of processor time, user and system, of the CLI and all its processes."""


Series = dict[str, Measured]
Pulumi = Callable[..., Measured]
Native = dict[str, dict[int, dict[int, Series]]]
"""By language of the program, latency and size."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sizes", default="1,10,100,400,1000", help="how many resources, by comma")
    parser.add_argument("--latencies", default="0,50", help="milliseconds that the API takes, by comma")
    parser.add_argument(
        "--out", type=Path, help="folder of the pages: gets reference/benchmarks.md and the chart"
    )
    parser.add_argument("--imports", action="store_true", help="measure the import of the package alone")
    arguments = parser.parse_args()
    # Where Python writes no bytecode, each process compiles what it imports: a cost no user has.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # The stacks lie outside of this folder, and the engine's cache remembers the Python of another clone.
    os.environ.setdefault("PULUMI_COREWEAVE_HOST_PYTHON", sys.executable)
    if arguments.imports:
        print("\n".join(report_imports()))
        return 0
    sizes = [int(size) for size in arguments.sizes.split(",")]
    latencies = [int(latency) for latency in arguments.latencies.split(",")]
    put_engine_on_path()
    empty: dict[int, Series] = {}
    claims: dict[int, dict[int, Series]] = {latency: {} for latency in latencies}
    languages = ("Python", "YAML") if shutil.which(YAML_HOST) else ("Python",)
    native: Native = {language: {latency: {} for latency in latencies} for language in languages}
    for size in sizes:
        # What is compared is measured close together, in turns: a machine may get busier.
        for _ in range(rounds(size)):
            empty[size] = quickest(empty.get(size), measure_empty(size))
            for latency in latencies:
                claims[latency][size] = quickest(claims[latency].get(size), measure_claims(size, latency))
                for language, by_latency in native.items():
                    measured = measure_native(language, size, latency)
                    by_latency[latency][size] = quickest(by_latency[latency].get(size), measured)
    text = report(empty, claims, native, growth(sizes, latencies[0], empty, claims[latencies[0]]))
    print(text)
    if arguments.out:
        for folder in ("images", "reference"):
            (arguments.out / folder).mkdir(parents=True, exist_ok=True)
        (arguments.out / "reference" / "benchmarks.md").write_text(text, encoding="utf-8")
        chart = draw(
            sizes,
            {
                "empty resources": empty,
                **{f"claims, {ms} ms": claims[ms] for ms in latencies},
                f"native claims, {latencies[0]} ms": native["Python"][latencies[0]],
            },
        )
        (arguments.out / "images" / "benchmarks.svg").write_text(chart, encoding="utf-8")
    return 0


def rounds(size: int) -> int:
    """How often a size is measured: where an operation is short, what else the machine does weighs more."""
    return 2 if size <= 400 else 1


def quickest(before: Series | None, series: Series) -> Series:
    """Of each operation the quickest measurement."""
    return {name: quicker(before[name], each) if before else each for name, each in series.items()}


def quicker(one: Measured, other: Measured) -> Measured:
    """The measurement that took less time."""
    return min(one, other, key=lambda each: each.seconds)


def few_and_many(sizes: list[int]) -> tuple[int, int]:
    """The sizes between which growth is told: at fewer than 100 the start is most of the time."""
    many = max(sizes)
    return min((size for size in sizes if 100 <= size < many), default=min(sizes)), many


def put_engine_on_path() -> None:
    directory = os.environ.get("PULUMI_ENGINE_DIR")
    if not directory:
        sys.exit("set PULUMI_ENGINE_DIR to what `make engine` prints, or run `make bench`")
    os.environ["PATH"] = f"{directory}{os.pathsep}{os.environ['PATH']}"


def measure_empty(size: int, environment: Mapping[str, str] = MappingProxyType({})) -> Series:
    with stack(EMPTY, {"PYTHONPATH": str(HERE), **environment}) as run:
        return life(f"{size} empty resources", run, size, Counter)


def measure_claims(size: int, latency: int, environment: Mapping[str, str] = MappingProxyType({})) -> Series:
    return measure_with_api(f"{size} claims", size, latency, lambda more: stack(CLAIMS, more | environment))


def measure_native(language: str, size: int, latency: int) -> Series:
    title = f"{size} native claims in {language}"
    if language == "YAML":
        return measure_with_api(title, size, latency, lambda more: stack("", more, yaml_program(size)))
    return measure_with_api(title, size, latency, lambda more: stack(NATIVE, more, PYTHON_PROJECT + PLUGIN))


def yaml_program(size: int) -> str:
    """A project in YAML, which has no loops: a program is its list of claims."""
    lines = [
        "name: bench",
        "runtime: yaml",
        PLUGIN + "config: {count: {type: integer}, size: {type: integer}}",
    ]
    lines.append("resources:")
    for index in range(size):
        resources = "{instanceId: gb200-4x, instanceCount: '${count}', zones: [RNO2A]}"
        lines.append(
            f"  claim-{index}: {{type: {NATIVE_TYPE.replace(':index:', ':')}, properties: {{resources: {resources}}}}}"
        )
    return "\n".join(lines) + "\n"


def measure_with_api(
    title: str, size: int, latency: int, start: Callable[[dict[str, str]], AbstractContextManager[Pulumi]]
) -> Series:
    """The life of a stack whose claims an emulator holds."""
    settings = EmulatorSettings(inventory={"RNO2A": {"gb200-4x": 10 * size}})
    faults = [{"delay": latency / 1000}] if latency else []
    with (
        Emulator(settings, faults=faults) as emulator,
        start(emulator.environment()) as run,
    ):

        def calls() -> Counter[str]:
            counted = Counter(record.operation or record.method for record in emulator.requests())
            emulator.clear_requests()
            return counted

        return life(f"{title}, API {latency} ms", run, size, calls)


def life(title: str, pulumi: Pulumi, size: int, calls: Callable[[], Counter[str]]) -> Series:
    """Run all operations once, and say so as they come in."""
    print(f"{title}:", end="", file=sys.stderr, flush=True)
    pulumi("config", "set", "size", str(size))
    pulumi("config", "set", "count", "1")
    measured: Series = {}
    for operation in OPERATIONS:
        if operation == "scale all":
            pulumi("config", "set", "count", "2")
        command = {
            "preview": ("preview",),
            "refresh": ("refresh", "--yes", "--skip-preview"),
            "destroy": ("destroy", "--yes", "--skip-preview"),
        }.get(operation, ("up", "--yes", "--skip-preview"))
        calls()
        measured[operation] = pulumi(*command)
        measured[operation].calls = calls()
        for _ in range(2 if operation in CHANGE_NOTHING else 0):
            again = pulumi(*command)
            again.calls = calls()
            measured[operation] = quicker(measured[operation], again)
        print(f" {operation} {measured[operation].seconds:.1f}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return measured


@contextmanager
def stack(program: str, environment: dict[str, str], project: str = "") -> Iterator[Pulumi]:
    """A stack of its own with the given program; answers a function that runs the CLI in it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "state").mkdir()
        (folder / "__main__.py").write_text(program, encoding="utf-8")
        (folder / "Pulumi.yaml").write_text(project or PYTHON_PROJECT, encoding="utf-8")
        write_plugin(folder / "plugin")
        variables = (
            os.environ
            | environment
            | {
                "PULUMI_HOME": str(folder / "home"),
                "PULUMI_BACKEND_URL": (folder / "state").as_uri(),
                "PULUMI_CONFIG_PASSPHRASE": "bench",
                "PULUMI_SKIP_UPDATE_CHECK": "true",
                "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            }
        )

        def pulumi(*arguments: str) -> Measured:
            return run(("pulumi", *arguments), folder, variables)

        pulumi("stack", "init", "bench")
        yield pulumi


def run(command: tuple[str, ...], folder: Path, environment: dict[str, str]) -> Measured:
    started, spent = time.perf_counter(), processor_seconds()
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    measured = Measured(0.0)
    ended = threading.Event()
    watcher = threading.Thread(target=watch_memory, args=(process.pid, measured, ended))
    watcher.start()
    output, _ = process.communicate()
    measured.seconds = time.perf_counter() - started
    measured.processor = processor_seconds() - spent
    ended.set()
    watcher.join()
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{output}")
    return measured


def processor_seconds() -> float:
    """Of all processes that this one, or one of them, has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def watch_memory(root: int, measured: Measured, ended: threading.Event) -> None:
    """Keep the highest peak memory of the program and of the provider among the CLI's descendants."""
    while not ended.wait(0.1):
        for command, peak in descendants(root):
            if "pulumi-language-python-exec" in command:
                measured.program = max(measured.program, peak)
            elif "pulumi.dynamic" in command or "pulumi_coreweave_inference.native" in command:
                measured.provider = max(measured.provider, peak)


def descendants(root: int) -> Iterator[tuple[str, float]]:
    """Command line and peak memory (MB) of all processes below one; Linux only, nothing elsewhere."""
    try:
        children = Path(f"/proc/{root}/task/{root}/children").read_text(encoding="utf-8").split()
        for thread in Path(f"/proc/{root}/task").iterdir():
            if thread.name != str(root):
                children += (thread / "children").read_text(encoding="utf-8").split()
    except OSError:
        return
    for child in children:
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            status = Path(f"/proc/{child}/status").read_text(encoding="utf-8")
        except OSError:
            continue
        peak = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")), "0")
        yield command, int(peak) / 1024
        yield from descendants(int(child))


def report(
    empty: dict[int, Series], claims: dict[int, dict[int, Series]], native: Native, grown: list[str]
) -> str:
    """The tables, as Markdown; `grown` are the lines about growth."""
    sizes = list(empty)
    lines = [
        "# Benchmarks",
        "",
        "How long whole commands take on the real engine against the local emulator: for claims, and for as many *empty*",
        "dynamic resources of Pulumi (create returns at once, no API). Compare the ratios; the seconds depend on the",
        "machine. Operations that change nothing run three times in a row, and everything up to N = 400 runs twice. The",
        "fastest run counts.",
        "",
        f"Written by `make bench` on {datetime.now(UTC):%Y-%m-%d}: {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {engine_version()}.",
        "",
        "![Seconds per operation, by number of resources](../images/benchmarks.svg)",
    ]
    for latency, by_size in claims.items():
        lines += ["", f"## API latency {latency} ms", ""]
        lines += ["| operation | " + " | ".join(f"N = {size}" for size in sizes) + " |"]
        lines += ["|---|" + "---|" * len(sizes)]
        for operation in OPERATIONS:
            cells = [seconds_and_ratio(by_size[size][operation], empty[size][operation]) for size in sizes]
            lines.append(f"| {operation} | " + " | ".join(cells) + " |")
        lines += [
            "",
            "CPU time of all processes, and its ratio, which depends less on how busy the machine is:",
            "",
        ]
        lines += ["| operation | " + " | ".join(f"N = {size}" for size in sizes) + " |"]
        lines += ["|---|" + "---|" * len(sizes)]
        for operation in OPERATIONS:
            cells = []
            for size in sizes:
                mine, least = by_size[size][operation].processor, empty[size][operation].processor
                cells.append(f"{mine:.1f} s / {least:.1f} s = **{mine / least:.2f}**")
            lines.append(f"| {operation} | " + " | ".join(cells) + " |")
        lines += ["", "API calls:", ""]
        lines += ["| operation | " + " | ".join(f"N = {size}" for size in sizes) + " |"]
        lines += ["|---|" + "---|" * len(sizes)]
        for operation in OPERATIONS:
            cells = [calls_of(by_size[size][operation]) for size in sizes]
            lines.append(f"| {operation} | " + " | ".join(cells) + " |")
        lines += report_native({language: each[latency] for language, each in native.items()}, empty)
    first = next(iter(claims.values()))
    lines += grown
    lines += [
        "",
        "## Memory",
        "",
        "Peak memory of the program and of the provider process, over all operations (a YAML program runs in its",
        "language host, which is not measured):",
        "",
    ]
    lines += ["| | " + " | ".join(f"N = {size}" for size in sizes) + " |", "|---|" + "---|" * len(sizes)]
    natives = {f"native claims, {language}": next(iter(each.values())) for language, each in native.items()}
    for title, by_size in {"claims": first, **natives, "empty resources": empty}.items():
        cells = [memory_of(by_size[size]) for size in sizes]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    lines += ["", "## Import", "", *report_imports()]
    lines += [
        "",
        f"On this machine the emulator itself answers {emulator_speed():,.0f} GET requests per second.",
        "",
    ]
    return "\n".join(lines)


def report_native(native: dict[str, dict[int, Series]], empty: dict[int, Series]) -> list[str]:
    """The same tables for native claims, one for each language; the calls are the same in all."""
    lines = []
    head = [
        "| operation | " + " | ".join(f"N = {size}" for size in empty) + " |",
        "|---|" + "---|" * len(empty),
    ]
    for language, by_size in native.items():
        lines += [
            "",
            f"Native claims, declared in {language}, against the same empty dynamic resources:",
            "",
            *head,
        ]
        for operation in OPERATIONS:
            cells = [seconds_and_ratio(by_size[size][operation], empty[size][operation]) for size in empty]
            lines.append(f"| {operation} | " + " | ".join(cells) + " |")
    lines += ["", "API calls of native claims:", "", *head]
    for operation in OPERATIONS:
        cells = [calls_of(native["Python"][size][operation]) for size in empty]
        lines.append(f"| {operation} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "A native claim occupies one of the engine's slots (4 for each core) until it is ready, so many claims need a",
        "list for each group that fills the slots; dynamic claims, which wait in the program, share fewer. The list of",
        "a single native claim looks for a twin that another id of the provider has made. A refresh loads the HTTP",
        "client, which empty resources never need.",
    ]
    return lines


def memory_of(series: Series) -> str:
    program, provider = (
        max(getattr(measured, process) for measured in series.values()) for process in ("program", "provider")
    )
    return f"{f'{program:.0f} MB' if program else '–'}, {provider:.0f} MB"


def calls_of(measured: Measured) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(measured.calls.items())) or "none"


def growth(sizes: list[int], latency: int, empty: dict[int, Series], claims: dict[int, Series]) -> list[str]:
    """What a resource costs where there are many, over what it costs where there are few.

    Both are measured once more without the backend's writes between steps.
    """
    few, many = few_and_many(sizes)
    if few == many:
        return []
    empty_spared = {size: measure_empty(size, WRITES_SPARED) for size in (few, many)}
    claims_spared = {size: measure_claims(size, latency, WRITES_SPARED) for size in (few, many)}

    def grown(by_size: dict[int, Series], operation: str) -> float:
        return (by_size[many][operation].seconds / many) / (by_size[few][operation].seconds / few)

    lines = ["", "## Growth", ""]
    lines += [
        f"Seconds per resource at N = {many}, divided by seconds per resource at N = {few}. With a file backend the engine",
        "writes the whole state at every step, so the cost per resource grows with their number, for empty resources too.",
        "The ratio shows what claims add. The last two columns are measured without these writes",
        "(`PULUMI_SKIP_CHECKPOINTS=true`, for this measurement only).",
        "",
    ]
    titles = ("claims", "empty resources", "ratio", "claims, no writes", "empty resources, no writes")
    lines += [f"| operation | {' | '.join(titles)} |", "|---" * (len(titles) + 1) + "|"]
    for operation in OPERATIONS:
        ours, theirs = grown(claims, operation), grown(empty, operation)
        lines.append(
            f"| {operation} | {ours:.2f} | {theirs:.2f} | **{ours / theirs:.2f}** "
            f"| **{grown(claims_spared, operation):.2f}** | {grown(empty_spared, operation):.2f} |"
        )
    lines += ["", "The same operations without these writes, where API calls weigh more:", ""]
    lines += [f"| operation | N = {few} | N = {many} |", "|---|---|---|"]
    for operation in OPERATIONS:
        cells = [
            seconds_and_ratio(claims_spared[size][operation], empty_spared[size][operation])
            for size in (few, many)
        ]
        lines.append(f"| {operation} | {' | '.join(cells)} |")
    return lines


def seconds_and_ratio(ours: Measured, theirs: Measured) -> str:
    return f"{ours.seconds:.1f} s / {theirs.seconds:.1f} s = **{ours.seconds / theirs.seconds:.2f}**"


def report_imports(rounds: int = 9) -> list[str]:
    """What importing the package costs over importing `pulumi`: whole processes, and `-X importtime`."""
    modules = ("pulumi", "pulumi_coreweave_inference")
    spent: dict[str, list[float]] = {module: [] for module in modules}
    told: dict[str, list[float]] = {module: [] for module in modules}
    for round_ in range(rounds + 1):
        for module in modules:
            before = processor_seconds()
            subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
            after = processor_seconds()
            command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
            shown = subprocess.run(command, capture_output=True, text=True, check=True).stderr
            if round_:  # the first one may still write bytecode
                spent[module].append(after - before)
                told[module].append(import_seconds(shown, module))
    base, ours = (statistics.median(spent[module]) for module in modules)
    base_told, ours_told = (statistics.median(told[module]) for module in modules)
    return [
        f"`import {modules[1]}` takes **{ours / base:.2f}** times as long as `import {modules[0]}`: "
        f"{ours:.3f} s of CPU time against {base:.3f} s for the whole process, and by `-X importtime` "
        f"{ours_told:.3f} s against {base_told:.3f} s = **{ours_told / base_told:.2f}**. "
        f"Medians of {rounds}."
    ]


def import_seconds(shown: str, module: str) -> float:
    """The cumulative time of a module in what `-X importtime` shows."""
    for line in shown.splitlines():
        _, microseconds, name = line.removeprefix("import time:").split("|")
        if name.strip() == module:
            return int(microseconds) / 1e6
    raise ValueError(f"{module} was not imported")


def engine_version() -> str:
    shown = subprocess.run(["pulumi", "version"], capture_output=True, text=True, check=True).stdout
    return f"Pulumi {shown.strip()}"


def emulator_speed(requests: int = 2000) -> float:
    """GETs a second over one connection, so that the emulator is known not to be what is measured."""
    import http.client

    with Emulator() as emulator:
        host = emulator.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host)
        headers = {"Authorization": f"Bearer {emulator.token}"}
        body = {
            "name": "a",
            "resources": {"instanceId": "gb200-4x", "instanceCount": 1, "zones": ["US-WEST-04A"],
                          "capacityType": "CAPACITY_TYPE_MANAGED"},
        }  # fmt: skip
        path = "/v1alpha1/inference/capacityclaims"
        connection.request("POST", path, json.dumps(body), headers | {"Content-Type": "application/json"})
        claim_id = json.loads(connection.getresponse().read())["capacityClaim"]["spec"]["id"]
        rounds = []
        for _ in range(3):
            started = time.perf_counter()
            for _ in range(requests // 3):
                connection.request("GET", f"{path}/{claim_id}", headers=headers)
                connection.getresponse().read()
            rounds.append((requests // 3) / (time.perf_counter() - started))
        connection.close()
        return statistics.median(rounds)


COLOURS: Final = ("#8a8f98", "#1f6feb", "#d1543f", "#2da44e", "#8250df")


def draw(sizes: list[int], series: dict[str, dict[int, Series]]) -> str:
    """A chart of small multiples: seconds over the number of resources, one panel an operation."""
    width, height, columns = 300, 190, 3
    rows = -(-len(OPERATIONS) // columns)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width * columns} {height * rows + 30}" '
        'font-family="system-ui, sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for position, operation in enumerate(OPERATIONS):
        left, top = width * (position % columns), height * (position // columns)
        most = max(by_size[size][operation].seconds for by_size in series.values() for size in sizes)
        digits = 1 if most < 10 else 0
        parts.append(f'<g transform="translate({left + 40},{top + 30})">')
        parts.append(f'<text x="0" y="-12" font-weight="600" fill="#24292f">{operation}</text>')
        for share in (0, 0.5, 1):
            y = 120 - 120 * share
            parts.append(f'<line x1="0" x2="240" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e7eb"/>')
            parts.append(
                f'<text x="-6" y="{y + 4:.1f}" text-anchor="end" fill="#57606a">{most * share:.{digits}f} s</text>'
            )
        for size in sizes:
            x = 240 * size / max(sizes)
            parts.append(f'<text x="{x:.1f}" y="136" text-anchor="middle" fill="#57606a">'
                         f'{size if size in (min(sizes), max(sizes)) or size >= 100 else ""}</text>')  # fmt: skip
        for colour, by_size in zip(COLOURS, series.values(), strict=False):
            points = [
                (240 * size / max(sizes), 120 - 120 * by_size[size][operation].seconds / most)
                for size in sizes
            ]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points]
        parts.append("</g>")
    for index, (colour, name) in enumerate(zip(COLOURS, series, strict=False)):
        x, y = 40 + index * 180, height * rows + 14
        parts.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 16}" y="{y}" fill="#24292f">{name}</text>')
    parts.append("</svg>\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.exit(main())
