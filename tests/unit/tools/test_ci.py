"""The GitHub action and the GitLab component, run with a stub pulumi and a stub of the comment API.

`CI_TEMPLATE=write pytest tests/unit/tools/test_ci.py` copies the scripts of `tools/ci` into the component,
which cannot bring files of its own into a pipeline.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[3]
SCRIPTS: Final = ROOT / "tools" / "ci"
TEMPLATE: Final = ROOT / "templates" / "review.yml"
ACTION: Final = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
DATA: Final = ROOT / "tests" / "unit" / "provider" / "review" / "data"
TOKEN: Final = "a-token-that-must-not-appear"
MARKER: Final = "<!-- capacity-claims review claims/prod -->"
BOT: Final = "github-actions[bot]"


class StubApi(ThreadingHTTPServer):
    """The comments of one pull request, as GitHub and GitLab serve them."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.comments: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.tokens: set[str] = set()
        self.refuse: tuple[int, str] | None = None
        self.location = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, body: str, login: str = BOT, author: int = 7) -> None:
        number = len(self.comments) + 1
        user = {"login": login, "id": author}
        self.comments.append({"id": number, "body": body, "user": user, "author": user})


class _Handler(BaseHTTPRequestHandler):
    server: StubApi

    def do_GET(self) -> None:
        query = dict(re.findall(r"(\w+)=(\w+)", self.path))
        size, page = int(query.get("per_page", 30)), int(query.get("page", 1))
        self._answer(
            {"id": 7} if self.path == "/user" else self.server.comments[size * (page - 1) : size * page]
        )

    def do_POST(self) -> None:
        if not self.server.refuse:
            self.server.add(self._body()["body"])
        self._answer({}, 201)

    def do_PATCH(self) -> None:
        number = int(self.path.rsplit("/", 1)[1])
        self.server.comments[number - 1]["body"] = self._body()["body"]
        self._answer({})

    def do_PUT(self) -> None:
        self.do_PATCH()

    def _body(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        return body

    def _answer(self, value: object, status: int = 200) -> None:
        self.server.calls.append(f"{self.command} {self.path.partition('?')[0]}")
        self.server.tokens.add(self.headers.get("Authorization") or self.headers.get("PRIVATE-TOKEN") or "")
        if self.server.refuse:
            status, message = self.server.refuse
            value = {"message": message}
        self.send_response(status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[StubApi]:
    with StubApi() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@dataclass
class Ran:
    """A run of the action or of a job."""

    code: int
    output: str
    outputs: dict[str, str] = field(default_factory=dict)


@dataclass
class Machine:
    """A machine of CI, with a pulumi that prints a recorded preview."""

    folder: Path
    api: StubApi
    steps: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "bin").mkdir()
        (self.folder / "program").mkdir()
        self.preview((DATA / "scale-up.json").read_text(encoding="utf-8"))
        repository = {"repo": {"full_name": "team/claims"}}
        self.event({"pull_request": {"number": 12, "head": repository, "base": repository}})

    def preview(self, text: str, code: int = 0, messages: str = "") -> None:
        (self.folder / "preview.json").write_text(text, encoding="utf-8")
        self.stub(
            "pulumi",
            f"printf '%s\\n' \"$@\" > {self.folder}/arguments; env > {self.folder}/environment\n"
            f"printf '%s' '{messages}' >&2; cat {self.folder}/preview.json; exit {code}",
        )

    def stub(self, name: str, script: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)

    def event(self, event: object) -> None:
        (self.folder / "event.json").write_text(json.dumps(event), encoding="utf-8")

    def arguments(self) -> list[str]:
        return (self.folder / "arguments").read_text(encoding="utf-8").splitlines()

    def run(self, script: str, cwd: Path, more: dict[str, str]) -> Ran:
        kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
        path = {"PATH": f"{self.folder / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=cwd,
            env=kept | path | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert TOKEN not in done.stdout
        return Ran(done.returncode, done.stdout)

    def action(self, **inputs: str) -> Ran:
        """Run the steps of the composite action, as GitHub's runner does."""
        given = {name: each["default"] for name, each in ACTION["inputs"].items()}
        given |= {
            "command": str(Path(sys.executable).parent / "capacity-claims"),
            "working-directory": "program",
        }
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        values = {f"inputs.{name}": value for name, value in given.items()} | {"github.token": TOKEN}
        values["inputs.token"] = evaluate(given["token"], values)
        shared = {
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_API_URL": self.api.url,
            "GITHUB_EVENT_PATH": str(self.folder / "event.json"),
            "GITHUB_OUTPUT": str(self.folder / "outputs"),
            "GITHUB_REPOSITORY": "team/claims",
            "GITHUB_STEP_SUMMARY": str(self.folder / "summary"),
            "RUNNER_TEMP": str(self.folder),
        }
        code, output = 0, ""
        self.steps.clear()
        for step in ACTION["runs"]["steps"]:
            condition = step.get("if", "success()")
            if (code and "cancelled()" not in condition) or not truth(condition, values):
                continue
            self.steps.append(step["name"])
            (self.folder / "outputs").write_text("", encoding="utf-8")
            environment = {name: evaluate(value, values) for name, value in step["env"].items()}
            cwd = self.folder / evaluate(step.get("working-directory", "."), values)
            done = self.run(step["run"], cwd, shared | environment)
            code, output = code or done.code, output + done.output
            for name, _, value in re.findall(
                r"^(\w+)<<(\w+)\n(.*?)\n\2$",
                (self.folder / "outputs").read_text("utf-8"),
                re.DOTALL | re.MULTILINE,
            ):
                values[f"steps.{step['id']}.outputs.{name}"] = value
        outputs = {name: evaluate(each["value"], values) for name, each in ACTION["outputs"].items()}
        return Ran(code, output, outputs)

    def summary(self) -> str:
        return (self.folder / "summary").read_text(encoding="utf-8")


def evaluate(text: str, values: dict[str, str]) -> str:
    """A value with the expressions that the action uses: names and `||`."""

    def value(found: re.Match[str]) -> str:
        return next((values[name] for name in found[1].split(" || ") if values.get(name)), "")

    return re.sub(r"\$\{\{ (.*?) \}\}", value, text)


def truth(condition: str, values: dict[str, str]) -> bool:
    """Whether a condition of the action holds."""
    text = re.sub(r"(inputs|steps)(\.[\w-]+)+", lambda found: repr(values.get(found[0], "")), condition)
    for theirs, ours in (("!cancelled()", "True"), ("success()", "True"), ("&&", "and"), ("||", "or")):
        text = text.replace(theirs, ours)
    return bool(eval(text, {"__builtins__": {}}))


@pytest.fixture
def machine(tmp_path: Path, api: StubApi) -> Machine:
    return Machine(tmp_path, api)


def test_the_action_writes_a_comment_and_later_updates_it(machine: Machine) -> None:
    first = machine.action(stack="prod")
    assert (first.code, machine.steps) == (0, ["Review", "Comment"])
    machine.preview((DATA / "reorder-zones.json").read_text(encoding="utf-8"))
    second = machine.action(stack="prod")
    assert second.code == 0
    (comment,) = machine.api.comments
    assert comment["body"] == second.outputs["review"] != first.outputs["review"]
    assert "**1 replaced**" in comment["body"]
    assert machine.api.tokens == {f"Bearer {TOKEN}"}
    assert machine.summary().count(MARKER) == 2


def test_the_action_asks_for_the_whole_preview_with_arguments_as_given(machine: Machine) -> None:
    machine.action(stack="prod", preview_arguments="--target 'urn:a b' --parallel 4")
    assert machine.arguments() == [
        *("preview", "--json", "--non-interactive", "--refresh", "--show-sames", "--show-replacement-steps"),
        *("--stack", "prod", "--target", "urn:a b", "--parallel", "4"),
    ]


def test_the_program_of_a_pull_request_does_not_get_the_token(machine: Machine) -> None:
    machine.action(stack="prod")
    assert TOKEN not in (machine.folder / "environment").read_text(encoding="utf-8")


def test_the_outputs_of_the_action_describe_the_review(machine: Machine) -> None:
    outputs = machine.action(stack="prod").outputs
    report = json.loads(Path(outputs["report"]).read_text(encoding="utf-8"))
    assert outputs["fingerprint"] == report["fingerprint"]
    assert outputs["objection"] == "false"
    assert outputs["review"].startswith(MARKER)
    assert not list(Path(outputs["report"]).parent.glob("preview*"))


def test_an_objection_fails_the_action_and_is_commented_on(machine: Machine) -> None:
    (machine.folder / "program" / "rules.toml").write_text("[max_instances]\nclaim = 5\n", encoding="utf-8")
    done = machine.action(stack="prod", rules="rules.toml")
    assert (done.code, done.outputs["objection"]) == (1, "true")
    assert "1 rule violation" in machine.api.comments[0]["body"]


def test_another_plan_than_the_approved_one_fails_the_action(machine: Machine) -> None:
    approved = machine.action(stack="prod").outputs["fingerprint"]
    assert machine.action(stack="prod", expect_fingerprint=approved).code == 0
    assert machine.action(stack="prod", expect_fingerprint="0" * 64).code == 1


def test_a_preview_with_errors_is_shown_in_the_comment(machine: Machine) -> None:
    machine.preview((DATA / "protect.json").read_text(encoding="utf-8"), code=255)
    done = machine.action(stack="prod")
    assert (done.code, done.outputs["objection"]) == (2, "true")
    assert "The preview failed" in machine.api.comments[0]["body"]


@pytest.mark.parametrize(
    ("inputs", "preview", "error"),
    [
        ({}, ("", 255, "error: no stack selected"), "pulumi preview exited with 255 and printed no plan"),
        ({}, ("{}", 0, ""), "capacity-claims review exited with 2; its message is above"),
        ({"command": "absent"}, None, "absent was not found"),
        ({"preview-arguments": "'"}, None, "preview-arguments cannot be read: No closing quotation"),
        ({"rules": "absent.toml"}, None, "capacity-claims review exited with 2"),
    ],
)
def test_a_run_without_a_review_is_one_error(
    machine: Machine, inputs: dict[str, str], preview: tuple[str, int, str] | None, error: str
) -> None:
    if preview:
        machine.preview(*preview)
    done = machine.action(stack="prod", **inputs)
    assert (done.code, machine.steps) == (2, ["Review"])
    errors = [line for line in done.output.splitlines() if line.startswith("::error")]
    assert [line.partition("::error title=Capacity review::")[2][: len(error)] for line in errors] == [error]
    assert preview is None or preview[2] in done.output
    assert "Traceback" not in done.output


def test_a_failed_preview_whose_plan_shows_no_error_fails_the_action(machine: Machine) -> None:
    machine.preview((DATA / "scale-up.json").read_text(encoding="utf-8"), code=3)
    done = machine.action(stack="prod")
    assert (done.code, done.outputs["objection"]) == (2, "true")
    assert "pulumi preview exited with 3, although its plan shows no error" in done.output


def test_what_pulumi_prints_is_no_command_to_github(machine: Machine) -> None:
    machine.preview((DATA / "scale-up.json").read_text(encoding="utf-8"), messages="::error::hello")
    lines = machine.action(stack="prod").output.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("::stop-commands::"))
    end = lines.index(f"::{lines[start].rpartition('::')[2]}::")
    assert start < next(index for index, line in enumerate(lines) if "::error::hello" in line) < end


def test_without_a_comment_only_the_summary_is_written(machine: Machine) -> None:
    assert machine.action(stack="prod", comment="false").code == 0
    assert machine.api.calls == []
    assert machine.summary().startswith(MARKER)


def test_the_review_of_another_job_is_commented_on_without_a_preview(machine: Machine) -> None:
    review = machine.action(stack="prod", comment="false").outputs["review"]
    (machine.folder / "arguments").unlink()
    assert machine.action(review=review, command="").code == 0
    assert (machine.steps, [each["body"] for each in machine.api.comments]) == (["Comment"], [review])
    assert not (machine.folder / "arguments").exists()


def test_a_comment_of_somebody_else_is_never_updated(machine: Machine) -> None:
    machine.api.add(f"{MARKER}\nmine", login="mallory")
    machine.api.add(f"{MARKER}\nof a deleted account")
    machine.api.comments[-1]["user"] = None
    for number in range(150):
        machine.api.add(f"comment {number}")
    machine.action(stack="prod")
    machine.action(stack="prod")
    assert machine.api.comments[0]["body"] == f"{MARKER}\nmine"
    assert [each["body"].startswith(MARKER) for each in machine.api.comments].count(True) == 3
    assert machine.api.calls[-1].startswith("PATCH ")


def test_two_stacks_have_two_comments(machine: Machine) -> None:
    machine.action(stack="prod")
    text = (DATA / "scale-up.json").read_text(encoding="utf-8")
    machine.preview(text.replace("urn:pulumi:prod::", "urn:pulumi:dev::"))
    machine.action(stack="dev")
    assert len(machine.api.comments) == 2


def test_a_fork_gets_a_notice_and_the_summary(machine: Machine) -> None:
    machine.event({"pull_request": {
        "number": 12, "head": {"repo": {"full_name": "fork/claims"}}, "base": {"repo": {"full_name": "team/claims"}},
    }})  # fmt: skip
    machine.api.refuse = (403, "Resource not accessible by integration")
    done = machine.action(stack="prod")
    assert done.code == 0
    assert "::notice title=Capacity review::A pull request from a fork cannot be commented on" in done.output
    assert machine.summary().startswith(MARKER)


def test_a_push_gets_a_notice_and_the_summary(machine: Machine) -> None:
    machine.event({"ref": "refs/heads/main"})
    done = machine.action(stack="prod")
    assert done.code == 0
    assert "::notice title=Capacity review::This run belongs to no pull request" in done.output
    assert machine.api.calls == []


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (
            (403, "Resource not accessible by integration"),
            "give the job the permission `pull-requests: write`",
        ),
        ((401, "Bad credentials"), "responded with 401 Bad credentials"),
        ((500, "line 1\n::error::line 2"), "responded with 500 line 1 ::error::line 2"),
    ],
)
def test_a_refused_comment_is_one_error(machine: Machine, refusal: tuple[int, str], error: str) -> None:
    machine.api.refuse = refusal
    done = machine.action(stack="prod")
    assert done.code == 1
    (line,) = [line for line in done.output.splitlines() if line.startswith("::error")]
    assert line.endswith(error)
    assert "Traceback" not in done.output


def test_an_api_that_is_not_there_is_one_error(machine: Machine) -> None:
    machine.api.server_close()
    done = machine.action(stack="prod")
    assert done.code == 1
    assert "the review was not written: " in done.output
    assert "Traceback" not in done.output


def test_a_comment_outside_of_ci_is_one_error(machine: Machine) -> None:
    script = f"python3 -I {SCRIPTS / 'comment.py'}"
    for more, error in (
        ({"REVIEW": f"{MARKER}\n", "REVIEW_TOKEN": TOKEN}, "'GITHUB_EVENT_PATH' is missing"),
        ({"REVIEW": f"{MARKER}\n"}, "there is no token to comment with"),
        ({"REVIEW": "hello", "REVIEW_TOKEN": TOKEN}, "the text is not a review"),
    ):
        done = machine.run(script, machine.folder, more)
        assert done.code == 1
        assert done.output.startswith("error: ")
        assert error in done.output
        assert done.output.count("\n") == 1


def test_a_redirect_does_not_take_the_token_elsewhere(machine: Machine) -> None:
    with StubApi() as other:
        machine.api.refuse = (302, "moved")
        machine.api.location = f"{other.url}/user"
        done = machine.action(stack="prod")
    assert done.code == 1
    assert "responded with 302" in done.output
    assert other.calls == []


def test_the_action_installs_its_own_source_or_the_given_package(machine: Machine) -> None:
    log = machine.folder / "installed"
    machine.stub(
        "python3",
        f'if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; else echo "$@" >> {log}; fi',
    )
    machine.action(command="")
    machine.action(command="", package="-e x; touch pwned")
    first, second = [line for line in log.read_text(encoding="utf-8").splitlines() if "pip install" in line]
    assert first.endswith(f"-- {ROOT}/sdk[emulator] {ROOT}/provider[cli]")
    assert second.endswith("-- -e x; touch pwned")
    assert not list(machine.folder.rglob("pwned"))


def test_no_script_of_the_action_holds_an_expression() -> None:
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step["run"], step["name"]
    assert [step["uses"] for step in ACTION["runs"]["steps"] if "uses" in step] == []


def test_the_reference_lists_the_inputs_and_outputs_of_the_action() -> None:
    page = (ROOT / "docs" / "reference" / "review.md").read_text(encoding="utf-8")
    inputs, outputs = page.partition("## GitHub action")[2].partition("## Size")[0].split("| output |")
    for names, table in ((ACTION["inputs"], inputs), (ACTION["outputs"], outputs)):
        first = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
        assert sorted(re.findall("`([^`]+)`", "".join(first))) == sorted(names)


def component(**inputs: str) -> dict[str, Any]:
    """The jobs of the component, with its inputs filled in as GitLab does."""
    head, _, body = TEMPLATE.read_text(encoding="utf-8").partition("\n---\n")
    spec = yaml.safe_load(head)["spec"]["inputs"]
    given = {name: each.get("default") for name, each in spec.items()} | inputs
    assert given.keys() == spec.keys()

    def value(found: re.Match[str]) -> str:
        chosen = given[found[1]]
        return {True: "true", False: "false"}.get(chosen, chosen) if isinstance(chosen, bool) else str(chosen)

    jobs: dict[str, Any] = yaml.safe_load(re.sub(r"\$\[\[ inputs\.([\w-]+) \]\]", value, body))
    return jobs


def with_script(text: str, name: str) -> str:
    """The component with a script as it is in `tools/ci`."""
    code = textwrap.indent((SCRIPTS / name).read_text(encoding="utf-8"), " " * 6)
    start, end = f"      # tools/ci/{name}\n", "      END\n"
    before, _, after = text.partition(start)
    return f"{before}{start}{code}{end}{after.partition(end)[2]}"


def test_the_component_holds_the_scripts_of_tools_ci() -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    filled = with_script(with_script(text, "review.py"), "comment.py")
    if os.environ.get("CI_TEMPLATE") == "write":
        TEMPLATE.write_text(filled, encoding="utf-8")
        text = filled
    assert text == filled, "run CI_TEMPLATE=write pytest tests/unit/tools/test_ci.py"


def gitlab(machine: Machine, job: str, **inputs: str) -> Ran:
    """Run the script of a job of the component."""
    jobs = component(stack="prod", **inputs)
    variables = {
        name: value.replace("$CI_PROJECT_DIR", str(machine.folder))
        for name, value in jobs[job]["variables"].items()
    }
    known = {
        "GITLAB_CI": "true",
        "CI_API_V4_URL": machine.api.url,
        "CI_PROJECT_ID": "3",
        "CI_MERGE_REQUEST_IID": "12",
    }
    known |= {"REVIEW_TOKEN": TOKEN} if job == "capacity-note" else {}
    return machine.run("\n".join(jobs[job]["script"]), machine.folder, known | variables)


def test_the_component_writes_a_note_and_later_updates_it(machine: Machine) -> None:
    machine.api.add(f"{MARKER}\nmine", author=8)
    for name in ("scale-up", "reorder-zones"):
        machine.preview((DATA / f"{name}.json").read_text(encoding="utf-8"))
        assert gitlab(machine, "capacity-review").code == 0
        assert gitlab(machine, "capacity-note").code == 0
    theirs, ours = machine.api.comments
    assert theirs["body"] == f"{MARKER}\nmine"
    assert ours["body"] == (machine.folder / "capacity-review" / "review.md").read_text(encoding="utf-8")
    assert "**1 replaced**" in ours["body"]
    assert machine.api.calls[-1] == "PUT /projects/3/merge_requests/12/notes/2"
    assert machine.api.tokens == {TOKEN}


def test_the_job_of_the_component_fails_as_the_review_does(machine: Machine) -> None:
    (machine.folder / "rules.toml").write_text("[max_instances]\nclaim = 5\n", encoding="utf-8")
    assert gitlab(machine, "capacity-review", rules="rules.toml").code == 1
    machine.preview("", code=255, messages="error: no stack selected")
    done = gitlab(machine, "capacity-review")
    assert done.code == 2
    assert "error: pulumi preview exited with 255 and printed no plan; its messages are above" in done.output
    note = gitlab(machine, "capacity-note")
    assert note.code == 1
    assert note.output == "error: there is no review to write: No such file or directory\n"


def test_the_note_can_be_switched_off() -> None:
    assert component(stack="prod", comment="false")["capacity-note"]["rules"][0]["if"].startswith(
        '"false" == "true" &&'
    )


def test_the_examples_use_inputs_and_outputs_that_exist() -> None:
    folder = ROOT / "examples" / "ci-review"
    workflow = yaml.safe_load((folder / ".github" / "workflows" / "review.yml").read_text(encoding="utf-8"))
    used = [
        step
        for job in workflow["jobs"].values()
        for step in job["steps"]
        if step.get("uses", "").startswith("OWNER/pulumi-coreweave-inference@")
    ]
    assert len(used) == 2
    for step in used:
        assert set(step["with"]) <= set(ACTION["inputs"])
    (output,) = workflow["jobs"]["preview"]["outputs"].values()
    assert output == "${{ steps.review.outputs.review }}"
    assert "review" in ACTION["outputs"]
    (include,) = yaml.safe_load((folder / ".gitlab-ci.yml").read_text(encoding="utf-8"))["include"]
    assert component(**include["inputs"])["capacity-review"]["variables"]["STACK"] == "prod"


def test_every_other_action_in_the_workflows_is_pinned_by_a_commit() -> None:
    files = [*ROOT.glob(".github/workflows/*.yml"), *ROOT.glob("examples/ci-review/.github/workflows/*.yml")]
    assert len(files) >= 4
    for file in files:
        for used in re.findall(r"uses: (\S+)", file.read_text(encoding="utf-8")):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}|OWNER/[\w-]+@COMMIT", used), f"{file.name}: {used}"
