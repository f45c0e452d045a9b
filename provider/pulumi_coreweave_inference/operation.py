"""What one run of the engine needs: settings, clock, client, and what it has seen of the claims so far.

The two provider classes have no state of their own. Their process keeps one `Operation`, from `configure` to
its end. The program has its counterpart in capacity_claim.py (`_Program`).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from coreweave_inference.errors import CoreweaveError, Unauthenticated

from .delete_guard import DeleteGuard
from .errors import ClaimError, labelled, lookup_failure, text
from .orphans import claims_of_stack, recently_listed
from .reads import BulkReader, DeletionWaiter, Once
from .rounds import Clock
from .settings import Settings

if TYPE_CHECKING:
    from coreweave_inference import (
        CapacityClaim,
        CapacityClaimParameters,
        CapacityClaims,
        Client,
    )
    from coreweave_inference.retry import RetryPolicy

BRIEF: Final = 5.0  # seconds of retries for calls whose failure is only a warning


class WrongOrganization(ClaimError):
    """The token belongs to another organization than the claims in the state."""


def show(line: str) -> None:
    """Show a line to the user: the engine displays what its plugins print."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


class Operation:
    """One run of the engine: preview, up, refresh or destroy. Safe between threads.

    `connect` opens the client of the API, `say` shows a line to the user.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock = Clock(),  # noqa: B008 - frozen
        connect: Callable[[Settings], Client] = Settings.client,
        say: Callable[[str], None] = show,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.say = say
        self.began: float = clock.now()
        self.guard: DeleteGuard = DeleteGuard()
        self.reads: BulkReader = BulkReader(self._get, self._list, clock, settings.read_grace)
        self.deletions: DeletionWaiter = DeletionWaiter(self._get, self._list, clock)
        self.offered: Once[CapacityClaimParameters | None] = Once(self._ask_what_is_offered, clock)
        """What the API offers; None if it does not say. Raises `ClaimError` if the settings insist."""
        self.state_organization: str = ""
        """The organization of a claim in the state; empty until the operation meets one."""
        self.token_organization: str = ""
        """The organization of the token; empty until a list of this object has shown one of its claims."""
        self._any_organization = Once(self._ask_for_organization, clock)
        self._recent: dict[str, Once[list[CapacityClaim]]] = {}
        self._connect = connect
        self._client: Client | None = None
        self._closed = False
        self._said: set[str] = set()
        self._lock = threading.RLock()  # for the client, and what is asked or said once

    @property
    def claims(self) -> CapacityClaims:
        """The API. It is connected to when it is first needed: most previews never do."""
        with self._lock:
            if self._client is None:
                self._client = self._connect(self.settings)
                if self._closed:
                    self._client.close()
            return self._client.capacity_claims

    @property
    def brief(self) -> RetryPolicy:
        """The retry policy of calls whose failure is only a warning."""
        return replace(self.settings.retry, deadline=BRIEF)

    def close(self) -> None:
        """Let every further call to the API fail: nobody is there to receive the answer."""
        with self._lock:
            self._closed = True
            if self._client is not None:
                self._client.close()

    def warn(self, text: str) -> None:
        """Show a warning, the same one only once."""
        with self._lock:
            if text in self._said:
                return
            self._said.add(text)
        self.say(f"warning: {text}")

    def namespace_created(self, namespace: str) -> None:
        """A namespace is new, so no claim can have been made with it before."""
        with self._lock:
            self._recent[namespace] = Once(list, self.clock)

    def recently_created(self, namespace: str) -> list[CapacityClaim]:
        """The living claims that the stack made shortly before this operation; asked for once.

        Empty if the API does not say, which is a warning, or if orphans are meant to stay alive.
        """
        if self.settings.orphans == "leave":
            return []
        with self._lock:
            once = Once(partial(self._ask_for_recent, namespace), self.clock)
            ask = self._recent.setdefault(namespace, once)
        return ask()

    def refuse_wrong_organization(
        self, doing: str, resource_name: str, claim_id: str, props: Mapping[str, Any]
    ) -> None:
        """Raise `WrongOrganization` if a claim is not found because the token is another organization's."""
        expected = props.get("organizationId")
        actual = (self.token_organization or self._any_organization()) if expected else ""
        if actual and expected != actual:
            raise WrongOrganization(
                text(
                    f"{doing} {labelled(resource_name, claim_id)} failed: the token belongs to another "
                    "organization.",
                    said=[f"the claim belongs to the organization {expected}, the token to {actual}"],
                    held="the claim, as far as we know; it stays in the state.",
                    then=[_use_token_of(expected)],
                )
            )

    def refuse_second_organization(self, resource_name: str) -> None:
        """Raise `WrongOrganization` if a new claim would not be where the stack's other claims are."""
        expected, actual = self.state_organization, self.token_organization
        if expected and actual and expected != actual:
            raise WrongOrganization(
                text(
                    f"creating {labelled(resource_name, None)} failed: the token belongs to another "
                    "organization.",
                    said=[f"the stack's claims belong to the organization {expected}, the token to {actual}"],
                    held="nothing new.",
                    then=[_use_token_of(expected)],
                )
            )

    def _get(self, claim_id: str) -> CapacityClaim:
        return self.claims.get(claim_id)

    def _list(self, since: datetime | None) -> list[CapacityClaim]:
        return self.claims.list(updated_after=since)

    def _ask_what_is_offered(self) -> CapacityClaimParameters | None:
        try:
            return self.claims.parameters(retry=self.brief)
        except CoreweaveError as error:
            failure = lookup_failure("looking up what the API offers", error)
            refused = self.settings.catalogue is None and isinstance(error, Unauthenticated)
            if self.settings.catalogue == "error" or refused:
                raise failure from None
            self.warn(f"zones and instance types are not checked: {failure}")
            return None

    def _ask_for_organization(self) -> str:
        claim = self.reads.any_claim() or next(iter(self.claims.list()), None)
        self.token_organization = claim.spec.organization_id if claim is not None else ""
        return self.token_organization

    def _ask_for_recent(self, namespace: str) -> list[CapacityClaim]:
        try:
            claims = recently_listed(self)
        except CoreweaveError as error:
            failure = lookup_failure("looking for claims that a cut-off create has left", error)
            self.warn(str(failure))
            return []
        if claims:
            self.token_organization = claims[0].spec.organization_id
        return claims_of_stack(namespace, claims)


def _use_token_of(organization: object) -> str:
    return (
        f"use a token of the organization {organization} (COREWEAVE_API_TOKEN comes before the stack's "
        "coreweave:token)"
    )


_current: Operation | None = None


def begin(operation: Operation) -> None:
    """Make an operation the one that the providers of this process work for."""
    global _current
    _current = operation


def current() -> Operation:
    """The operation that the providers of this process work for."""
    if _current is None:
        raise ClaimError("the provider was called before it was configured")
    return _current


def configure(settings: Settings) -> None:
    """Begin an operation, unless one with these settings runs: each provider class is configured."""
    if _current is None or _current.settings != settings:
        abandon()
        begin(Operation(settings))


def abandon() -> None:
    """End all calls of this process: its engine is gone."""
    if _current is not None:
        _current.close()
