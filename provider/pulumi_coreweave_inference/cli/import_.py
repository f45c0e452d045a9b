"""`capacity-claims import`: bring existing claims into a stack without changing them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from coreweave_inference import CapacityClaim, ClaimState, Client
from pulumi_coreweave_inference.foreign_text import in_lines

from .claims import claim_named, get_claim
from .console import (
    EXIT_FINDINGS,
    CommandError,
    FormatOption,
    OutputFormat,
    all_claims,
    connected,
    note,
    plural,
    read_text,
    report_errors,
    write_json,
)
from .import_file import (
    Candidate,
    ImportEntry,
    assign_names,
    candidate,
    import_file,
    import_problems,
    native_import_file,
    program,
)
from .pulumi_state import AllStacks, StackNames, StackState, StateFiles, managed_by, read_stacks
from .table import allocation
from .terraform_state import InvalidTerraformState, TerraformClaim, read_terraform_state


def import_(
    claim: Annotated[
        list[str] | None, typer.Argument(metavar="CLAIM", help="The ids or names of the claims.")
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Import all claims that none of the given stacks manages.")
    ] = False,
    terraform_state: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Import the claims of a Terraform or OpenTofu state (version 4); - reads stdin.",
        ),
    ] = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Skip claims that are not found at the API.")
    ] = False,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write for `pulumi import`.")] = Path(
        "claims.import.json"
    ),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the --out file.")] = False,
    native: Annotated[
        bool,
        typer.Option("--native", help="Import as the native resource, whose program may be in any language."),
    ] = False,
    state: StateFiles = None,
    stack: StackNames = None,
    all_stacks: AllStacks = False,
    format_: FormatOption = OutputFormat.TABLE,
) -> None:
    """Import existing claims into a stack.

    Writes the input of `pulumi import` to --out, a Python program that declares the claims to stdout, and
    the next steps to stderr. Nothing else changes: no claim, no stack, no Terraform state. After `pulumi
    import --file FILE --generate-code=false`, a preview of the program shows no change to the claims.
    Imported claims are protected.

    With --native, the file is for the resource type coreweave-inference:index:CapacityClaim, and `pulumi
    import --file FILE` writes the program, so stdout gets none. For one claim, `pulumi import
    coreweave-inference:index:CapacityClaim NAME ID` does the same without a file. Both need the plugin:
    `capacity-claims plugin install`.

    A claim that one of the given stacks already manages is refused, or skipped with --all. If exactly one
    stack is given, the names of its resources are not used again.

    JSON output: {"file", "claims": [{id, name, resourceName, address}], "skipped": [{claim, reason}],
    "program" or null, "terraform": [the commands that remove the claims from the Terraform state]}.

    Exit codes: 1 if nothing was written because claims are missing, already managed, or cannot be declared
    by a program; 2 if the API request fails or a file or stack cannot be read.

    Example: capacity-claims import training-4a975a7 --stack prod

    Example: capacity-claims import --all --native --all-stacks
    """
    with report_errors():
        sources = [source for source, given in (("CLAIM", claim), ("--all", all_),
                                                ("--terraform-state", terraform_state)) if given]  # fmt: skip
        if not sources:
            raise CommandError("specify claims by name or id, --all or --terraform-state")
        if len(sources) > 1:
            raise CommandError(f"{' and '.join(sources)} are mutually exclusive")
        if out.exists() and not force:
            raise CommandError(f"{out} already exists; use another --out, or --force to overwrite it")
        listed = _read_terraform(terraform_state) if terraform_state is not None else []
        stacks = read_stacks(state or (), stack or (), all_stacks)
        with connected() as (client, _):
            known = all_claims(client)
            if terraform_state is not None:
                selection = _select_terraform(listed, known, client)
            elif all_:
                selection = Selection([candidate(one) for one in known])
            else:
                selection = _select_named(claim or [], known, client)
        selection.resolve_missing(skip=skip_missing)
        selection.exclude(refusals(selection.candidates, stacks), skip=all_)
        if not selection.candidates:
            raise CommandError("there is nothing to import", code=EXIT_FINDINGS)
        taken = {entry.resource_name for entry in stacks[0].entries} if len(stacks) == 1 else set[str]()
        entries = assign_names(selection.candidates, taken)
        if not stacks:
            note(
                "warning: no stacks to compare with; use --stack, --state or --all-stacks to make sure that "
                "no claim gets a second owner"
            )
        _write(out, native_import_file(entries) if native else import_file(entries))
        _show(out, entries, selection, format_, native=native)


@dataclass
class Selection:
    """The claims to import, those not found at the API, and those skipped with the reason."""

    candidates: list[Candidate]
    missing: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def resolve_missing(self, *, skip: bool) -> None:
        """Skip the missing claims, or raise `CommandError`."""
        if self.missing and not skip:
            headline = "not found at the API (--skip-missing skips them):"
            raise CommandError(headline, *(f"  {what}" for what in self.missing), code=EXIT_FINDINGS)
        self.skipped += [(what, "not found at the API") for what in self.missing]

    def exclude(self, refused: Mapping[str, str], *, skip: bool) -> None:
        """Skip the refused claims, given by id with the reason, or raise `CommandError`."""
        reasons = [
            (f"{each.claim.name} ({each.claim.id})", refused[each.claim.id])
            for each in self.candidates
            if each.claim.id in refused
        ]
        if reasons and not skip:
            lines = (f"  {what}: {reason}" for what, reason in reasons)
            raise CommandError("these claims cannot be imported:", *lines, code=EXIT_FINDINGS)
        self.skipped += reasons
        self.candidates = [each for each in self.candidates if each.claim.id not in refused]


def refusals(candidates: Sequence[Candidate], stacks: Sequence[StackState]) -> dict[str, str]:
    """The claims that must not be imported, by id with the reason."""
    managed = managed_by(stacks)
    refused = {}
    for each in candidates:
        claim = each.claim
        if entry := managed.get(claim.id):
            refused[claim.id] = f"{entry.stack} manages it as '{entry.resource_name}'"
        elif problems := import_problems(claim):
            refused[claim.id] = f"{'; '.join(problems)} (CapacityClaim.get reads it without managing it)"
    return refused


def _select_named(given: Sequence[str], known: Sequence[CapacityClaim], client: Client) -> Selection:
    found: dict[str, Candidate] = {}
    missing = []
    for text in dict.fromkeys(given):
        claim = claim_named(text, known, client)
        if claim is None:
            missing.append(text)
        else:
            found[claim.id] = candidate(claim)
    return Selection(list(found.values()), missing)


def _select_terraform(
    listed: Sequence[TerraformClaim], known: Sequence[CapacityClaim], client: Client
) -> Selection:
    by_id = {claim.id: claim for claim in known}
    addresses: dict[str, str] = {}
    selection = Selection([])
    for one in listed:
        claim = by_id.get(one.claim_id) or get_claim(client, one.claim_id)
        what = f"{one.address} ({one.claim_id}, named '{one.name}')"
        if one.deposed:
            if claim is not None:
                reason = (
                    "it is deposed, which means that Terraform was about to delete it; run `terraform apply` "
                    "before `terraform state rm`, or it is never released"
                )
                selection.skipped.append((what, reason))
        elif claim is None:
            selection.missing.append(what)
        elif claim.id in addresses:
            raise CommandError(f"{one.address} and {addresses[claim.id]} are the same claim, {claim.id}")
        else:
            addresses[claim.id] = one.address
            selection.candidates.append(Candidate(claim, one.resource_name, one.address))
            if one.tainted:
                note(f"{one.address} is tainted: Terraform was about to replace it")
    return selection


def _read_terraform(path: Path) -> list[TerraformClaim]:
    what = "a readable Terraform state"
    text = read_text(path, what)
    try:
        return read_terraform_state(text)
    except InvalidTerraformState as error:
        source = "standard input" if str(path) == "-" else str(path)
        raise CommandError(f"{source} is not {what}: {error}") from None


def _write(out: Path, content: Mapping[str, object]) -> None:
    try:
        out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{out} cannot be written: {error.strerror}") from None


def _steps(file: str, *, native: bool) -> tuple[str, ...]:
    if native:
        return (
            "  1. Run `capacity-claims plugin install`, unless the plugin is installed.",
            f"  2. Run `pulumi import --file {file}`, and add what it prints to the program of the stack.",
            "  3. Run `pulumi preview`: no claim changes.",
        )
    return (
        f"  1. Run `pulumi import --file {file} --generate-code=false`.",
        "  2. Add the program from stdout to the program of the stack.",
        "  3. Run `pulumi preview`: no claim changes, and a ClaimNamespace (a random id) is new.",
    )


def removals(entries: Sequence[ImportEntry]) -> list[str]:
    """The commands that remove the claims from the Terraform state, for a POSIX shell."""
    return [f"terraform state rm {shlex.quote(entry.address)}" for entry in entries if entry.address]


def _show(
    out: Path, entries: Sequence[ImportEntry], selection: Selection, format_: OutputFormat, *, native: bool
) -> None:
    remove = removals(entries)
    if format_ is OutputFormat.JSON:
        write_json(
            {
                "file": str(out),
                "claims": [
                    {
                        "id": entry.claim.id,
                        "name": entry.claim.name,
                        "resourceName": entry.resource_name,
                        "address": entry.address,
                    }
                    for entry in entries
                ],
                "skipped": [{"claim": what, "reason": reason} for what, reason in selection.skipped],
                "program": None if native else program(entries),
                "terraform": remove,
            }
        )
        return
    if not native:
        sys.stdout.write(program(entries))
        sys.stdout.flush()
    for what, reason in selection.skipped:
        note(f"skipped {what}: {reason}")
    for entry in entries:
        name, state = entry.claim.name, entry.claim.state
        if state == ClaimState.FAILED:
            note(f"{name} is FAILED: `pulumi up` fails until the claim is replaced")
        elif state != ClaimState.READY:
            note(
                f"{name} is {state.short} with {allocation(entry.claim)} instances: `pulumi up` waits for it"
            )
    note(
        in_lines(
            "",
            f"{plural(len(entries), 'claim')} written to {out}. Next steps:",
            *_steps(shlex.quote(str(out)), native=native),
        )
    )
    if any(entry.zone_order_uncertain for entry in entries):
        note(
            in_lines(
                "",
                "Check the order of the zones. They are listed as the API holds them, but Terraform sends",
                "them sorted, which may not be your order of preference. A new order replaces the claim.",
            )
        )
    if remove:
        note(
            in_lines(
                "",
                "When `pulumi preview` shows no change, remove the claims from the Terraform state. "
                "Terraform",
                "then forgets them and releases nothing; until then, `terraform destroy` would release them.",
                "For OpenTofu, use `tofu` instead.",
                *(f"  {command}" for command in remove),
            )
        )
