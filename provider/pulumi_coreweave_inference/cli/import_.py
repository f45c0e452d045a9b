"""`capacity-claims import`: bring claims that exist under a stack, without touching them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from coreweave_inference import CapacityClaim, ClaimState, Client, InvalidArgument, NotFound

from .console import (
    EXIT_FINDINGS,
    Failure,
    Format,
    FormatOption,
    all_claims,
    connected,
    note,
    printable,
    report_errors,
    write_json,
)
from .import_file import Adoption, Candidate, adopt, candidate, import_file, obstacles, program
from .list import instances
from .pulumi_state import AllStacks, Entry, StackNames, StackState, StateFiles, read_stacks
from .terraform_state import NoTerraformState, TerraformClaim, read


def import_(
    claim: Annotated[
        list[str] | None, typer.Argument(metavar="CLAIM", help="Ids or names of claims.")
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="All claims of the organization that no given stack manages.")
    ] = False,
    terraform_state: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The claims in a Terraform or OpenTofu state, version 4; - reads it from stdin.",
        ),
    ] = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out claims that the API does not know.")
    ] = False,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file for `pulumi import`.")] = Path(
        "claims.import.json"
    ),
    force: Annotated[bool, typer.Option("--force", help="Write over that file.")] = False,
    state: StateFiles = None,
    stack: StackNames = None,
    all_stacks: AllStacks = False,
    format_: FormatOption = Format.TABLE,
) -> None:
    """Bring existing claims under a stack.

    Writes what `pulumi import` needs to take claims over, and the program that declares them. Nothing is
    changed: not a claim, not a stack, not a Terraform state. The file for `pulumi import --file FILE
    --generate-code=false` goes to --out, the Python program to stdout, advice to stderr. `pulumi preview`
    of that program shows no change of a claim. The claims are protected.

    A claim that one of the given stacks manages is refused, with --all left out. With one stack given,
    names that it has already are not used again.

    JSON: {"file", "claims": [{id, name, resourceName, address}], "skipped": [{claim, reason}], "program",
    "terraform": [the commands that take them out of Terraform's state]}.

    Exit code: 1 when nothing was written, because claims are missing, managed already, or such that no
    program can declare them; 2 when the API, a file or a stack could not be read.
    """
    with report_errors():
        ways = [way for way, given in (("claims by name or id", claim), ("--all", all_),
                                       ("--terraform-state", terraform_state)) if given]  # fmt: skip
        if len(ways) != 1:
            both = f"{' and '.join(ways)} do not go together; " if ways else ""
            raise Failure(f"{both}name claims, or give either --all or --terraform-state")
        if out.exists() and not force:
            raise Failure(f"{out} exists; choose another --out, or write over it with --force")
        listed = _terraform(terraform_state) if terraform_state is not None else []
        stacks = read_stacks(state or (), stack or (), all_stacks)
        with connected() as (client, _):
            known = all_claims(client)
            if terraform_state is not None:
                plan = _of_terraform(listed, known, client)
            else:
                plan = Plan([candidate(one) for one in known]) if all_ else _named(claim or [], known, client)
        if plan.missing and not skip_missing:
            lines = "".join(f"\n  {what}" for what in plan.missing)
            raise Failure(
                f"the API does not know these, and --skip-missing was not given:{lines}", EXIT_FINDINGS
            )
        plan.skipped += [(what, "the API does not know it") for what in plan.missing]
        plan.leave_out(refusals(plan.candidates, stacks), allowed=all_)
        if not plan.candidates:
            raise Failure("there is nothing to import", EXIT_FINDINGS)
        taken = {e.resource_name for e in stacks[0].entries} if len(stacks) == 1 else set[str]()
        adoptions = adopt(plan.candidates, taken)
        if not stacks:
            note(
                "not compared with any stack: give --stack, --state or --all-stacks, and no claim gets a "
                "second owner"
            )
        _write(out, adoptions)
        _show(out, adoptions, plan, format_)


@dataclass
class Plan:
    """What is to be imported, what cannot be found, and what is left out, each with the reason."""

    candidates: list[Candidate]
    missing: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def leave_out(self, refused: Mapping[str, str], *, allowed: bool) -> None:
        """Take claims out, by id with the reason. Raises `Failure` where that is not allowed."""
        named = [(each, refused[each.claim.id]) for each in self.candidates if each.claim.id in refused]
        texts = [(f"{printable(each.claim.name)} ({each.claim.id})", reason) for each, reason in named]
        if texts and not allowed:
            lines = "".join(f"\n  {what}: {reason}" for what, reason in texts)
            raise Failure(f"these cannot be imported:{lines}", EXIT_FINDINGS)
        self.skipped += texts
        self.candidates = [each for each in self.candidates if each.claim.id not in refused]


def refusals(candidates: Sequence[Candidate], stacks: Sequence[StackState]) -> dict[str, str]:
    """Why claims are not to be imported, by id."""
    holders: dict[str, Entry] = {}
    for stack in stacks:
        for entry in stack.entries:
            holders.setdefault(entry.claim_id, entry)
    refused = {}
    for each in candidates:
        claim = each.claim
        if holder := holders.get(claim.id):
            refused[claim.id] = f"{holder.stack} manages it as '{holder.resource_name}'"
        elif reasons := obstacles(claim):
            refused[claim.id] = f"{'; '.join(reasons)} (CapacityClaim.get reads it without managing it)"
    return refused


def _named(given: Sequence[str], known: Sequence[CapacityClaim], client: Client) -> Plan:
    by_id = {claim.id: claim for claim in known}
    found: dict[str, Candidate] = {}
    missing = []
    for text in dict.fromkeys(given):
        named = [claim for claim in known if claim.name == text]
        if len(named) > 1 and text not in by_id:
            ids = ", ".join(claim.id for claim in named)
            raise Failure(f"{len(named)} claims are named '{text}'; give one of the ids {ids}")
        claim = by_id.get(text) or (named[0] if named else _get(client, text))
        if claim is None:
            missing.append(printable(text))
        else:
            found[claim.id] = candidate(claim)
    return Plan(list(found.values()), missing)


def _of_terraform(listed: Sequence[TerraformClaim], known: Sequence[CapacityClaim], client: Client) -> Plan:
    by_id = {claim.id: claim for claim in known}
    addresses: dict[str, str] = {}
    plan = Plan([])
    for one in listed:
        claim = by_id.get(one.claim_id) or _get(client, one.claim_id)
        what = printable(f"{one.address} ({one.claim_id}, named '{one.name}')")
        if one.deposed:
            if claim is not None:
                reason = (
                    "it is deposed, and Terraform was about to release it; run `terraform apply` before "
                    "`terraform state rm`, or nobody will"
                )
                plan.skipped.append((what, reason))
        elif claim is None:
            plan.missing.append(what)
        elif claim.id in addresses:
            raise Failure(f"{one.address} and {addresses[claim.id]} are one claim, {claim.id}")
        else:
            addresses[claim.id] = one.address
            plan.candidates.append(Candidate(claim, one.resource_name, one.address))
            if one.tainted:
                note(f"{printable(one.address)} is tainted: Terraform was about to replace it")
    return plan


def _get(client: Client, claim_id: str) -> CapacityClaim | None:
    """A claim that the list does not have, and may be too old to have."""
    try:
        return client.capacity_claims.get(claim_id)
    except (NotFound, InvalidArgument):
        return None


def _terraform(path: Path) -> list[TerraformClaim]:
    piped = str(path) == "-"
    source = "standard input" if piped else str(path)
    try:
        return read(sys.stdin.read() if piped else path.read_text(encoding="utf-8"))
    except NoTerraformState as error:
        raise Failure(f"{source} is no Terraform state that can be read: {error}") from None
    except OSError as error:
        raise Failure(f"{source} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Failure(f"{source} is no Terraform state that can be read: it is not text") from None


def _write(out: Path, adoptions: Sequence[Adoption]) -> None:
    try:
        out.write_text(json.dumps(import_file(adoptions), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise Failure(f"{out} cannot be written: {error.strerror}") from None


def removals(adoptions: Sequence[Adoption]) -> list[str]:
    """The commands that take the claims out of Terraform's state, for a POSIX shell."""
    return [f"terraform state rm {shlex.quote(each.address)}" for each in adoptions if each.address]


def _show(out: Path, adoptions: Sequence[Adoption], plan: Plan, format_: Format) -> None:
    remove = removals(adoptions)
    if format_ is Format.JSON:
        write_json(
            {
                "file": str(out),
                "claims": [
                    {
                        "id": each.claim.id,
                        "name": each.claim.name,
                        "resourceName": each.resource_name,
                        "address": each.address,
                    }
                    for each in adoptions
                ],
                "skipped": [{"claim": what, "reason": reason} for what, reason in plan.skipped],
                "program": program(adoptions),
                "terraform": remove,
            }
        )
        return
    sys.stdout.write(program(adoptions))
    sys.stdout.flush()
    for what, reason in plan.skipped:
        note(f"left out: {what}: {reason}")
    for each in adoptions:
        name, state = printable(each.claim.name), each.claim.state
        if state == ClaimState.FAILED:
            note(f"{name} has FAILED: `pulumi up` fails until it is replaced")
        elif state != ClaimState.READY:
            note(f"{name} is {state.short} with {instances(each.claim)} instances: `pulumi up` waits for it")
    count = f"{len(adoptions)} claim{'s' * (len(adoptions) != 1)}"
    note(
        f"\n{count} written to {out}. Next:\n"
        f"  1. pulumi import --file {shlex.quote(str(out))} --generate-code=false\n"
        "  2. put the program from stdout into the stack's program\n"
        "  3. pulumi preview: no claim changes; a ClaimNamespace is new, a random number in the state"
    )
    if any(each.order_matters for each in adoptions):
        note(
            "\nZones are in the order that the API holds. Terraform's provider sends a sorted set, so look "
            "whether\nthe order is the preference that was meant; a change of it replaces the claim."
        )
    if remove:
        note(
            "\nOnce `pulumi preview` shows no change, take the claims out of Terraform's state, which then "
            "forgets them\nand releases nothing. Until then `terraform destroy` would release them. For "
            "OpenTofu, write tofu.\n  " + "\n  ".join(remove)
        )
