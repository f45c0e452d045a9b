"""The state of one run of the engine: settings, clock, client, and what it has seen of the claims so far.

The two provider classes have no state of their own. Their process keeps one `Operation` from `configure`
until it exits. The program's counterpart is `_Program` in capacity_claim.py.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from coreweave_inference.errors import (
    CoreweaveError,
    InvalidSetting,
    Unauthenticated,
    UntrustedCertificate,
)

from .delete_guard import DeleteGuard
from .errors import ClaimError, api_failure, labelled, lookup_failure, text
from .foreign_text import Lines, led_by, shown
from .orphans import claims_of_stack, recently_listed
from .reads import FEW, BulkReader, DeletionWaiter, ExistingClaims, Once
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
    """The token belongs to a different organization than the claims in the state."""


def show(text: Lines) -> None:
    """Show a text to the user: the engine displays what its plugins print."""
    # A locale without a character must not fail a create that has made its claim.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    sys.stdout.flush()


class Operation:
    """One run of the engine: preview, up, refresh or destroy. Safe between threads.

    `connect` opens the client of the API, `show` shows a text to the user, `warn` a warning. `lists_all`: to
    find out what exists, list all claims once, because the namespace of the stack may have changed.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock = Clock(),  # noqa: B008 - frozen
        connect: Callable[[Settings], Client] = Settings.client,
        show: Callable[[Lines], None] = show,
        *,
        warn: Callable[[Lines], None] | None = None,
        lists_all: bool = False,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self._show = show
        self._warn = warn or (lambda text: show(led_by("warning: ", text)))
        self.began: float = clock.now()
        self.guard: DeleteGuard = DeleteGuard()
        self.reads: BulkReader = BulkReader(self._get, self._list, clock, settings.read_grace)
        self.listed: Once[list[CapacityClaim]] = Once(lambda: self.claims.list(), clock)
        """All claims of the organization, before this operation has changed any."""
        self._lists_all = lists_all
        self.existing: ExistingClaims = ExistingClaims(
            lambda claim_id: self.claims.get(claim_id, retry=self.brief),
            self.listed if lists_all else lambda: self.claims.list(retry=self.brief),
            few=0 if lists_all else FEW,
        )
        self.deletions: DeletionWaiter = DeletionWaiter(self._get, self._list, clock)
        self.offered: Once[CapacityClaimParameters | None] = Once(self._ask_what_is_offered, clock)
        """What the API offers; None if it cannot be read. Raises `ClaimError` if the settings forbid that."""
        self.state_organization: str = ""
        """The organization of a claim in the state; empty until the operation has seen one."""
        self.token_organization: str = ""
        """The organization of the token; empty until a list has shown one of its claims."""
        self.misspelt: list[str] = []
        """What is wrong with keys of the config, for previews and updates: a destroy gets an older config."""
        self._any_organization = Once(self._ask_for_organization, clock)
        self._new: set[str] = set()  # namespaces
        self._recent: dict[str, Once[list[CapacityClaim]]] = {}
        self._connect = connect
        self._client: Client | None = None
        self._closed = False
        self._said: set[str] = set()
        self._lock = threading.RLock()  # for the client, and what is read or shown only once

    @property
    def claims(self) -> CapacityClaims:
        """The operations of the API. The client is created on first use; most previews never need it."""
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
        """Make every further API call fail: the engine that would receive the result is gone."""
        with self._lock:
            self._closed = True
            if self._client is not None:
                self._client.close()

    def say(self, text: str) -> None:
        """Show a text to the user: one line, unless it is laid out."""
        self._show(shown(text))

    def warn(self, text: str) -> None:
        """Show a warning, each text only once."""
        with self._lock:
            if text in self._said:
                return
            self._said.add(text)
        self._warn(shown(text))

    def namespace_created(self, namespace: str) -> None:
        """Note that a namespace is new, so that no claim can have been created with it yet."""
        with self._lock:
            self._new.add(namespace)
            self._recent[namespace] = Once(list, self.clock)

    def is_new(self, namespace: str) -> bool:
        """Whether this operation created the namespace."""
        with self._lock:
            return namespace in self._new

    def recently_created(self, namespace: str) -> list[CapacityClaim]:
        """The existing claims that the stack created shortly before this operation; read only once.

        Empty if they cannot be read, which is a warning.
        """
        with self._lock:
            once = Once(partial(self._ask_for_recent, namespace), self.clock)
            ask = self._recent.setdefault(namespace, once)
        return ask()

    def refuse_wrong_organization(
        self, doing: str, resource_name: str, claim_id: str, props: Mapping[str, Any]
    ) -> None:
        """Raise `WrongOrganization` if a claim is not found because the token belongs elsewhere.

        The API shows the organization of claims only. If the token shows none, this is a warning.
        """
        expected = props.get("organizationId")
        if not expected:
            return
        held = "the claim, as far as we know; it stays in the state."
        try:
            actual = self.token_organization or self._any_organization()
        except CoreweaveError as error:  # so it is not known whether the claim is gone
            raise api_failure(doing, resource_name, claim_id, error, held=held) from None
        if not actual:
            self.warn(
                f"{labelled(resource_name, claim_id)} does not exist according to the API, which shows this "
                f"token no claim at all. If the token does not belong to the organization {expected}, the "
                "claim may still exist: run `capacity-claims list` with a token that does"
            )
        elif expected != actual:
            raise _wrong_organization(
                f"{doing} {labelled(resource_name, claim_id)}",
                f"the claim belongs to the organization {expected}, the token to {actual}",
                held,
                expected,
            )

    def refuse_second_organization(self, resource_name: str) -> None:
        """Raise `WrongOrganization` if the stack's other claims are in a different organization."""
        expected, actual = self.state_organization, self.token_organization
        if expected and actual and expected != actual:
            raise _wrong_organization(
                f"creating {labelled(resource_name, None)}",
                f"the stack's claims belong to the organization {expected}, the token to {actual}",
                "nothing new.",
                expected,
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
            # an outage may be over at the update; these are not
            lasts = isinstance(error, (Unauthenticated, InvalidSetting, UntrustedCertificate))
            if self.settings.catalogue == "error" or (self.settings.catalogue is None and lasts):
                raise failure from None
            self.warn(led_by("zones and instance types are not checked: ", str(failure)))
            return None

    def _ask_for_organization(self) -> str:
        claim = self.reads.any_claim() or next(iter(self.claims.list()), None)
        self.token_organization = claim.spec.organization_id if claim is not None else ""
        return self.token_organization

    def _ask_for_recent(self, namespace: str) -> list[CapacityClaim]:
        try:
            claims = self.listed() if self._lists_all else recently_listed(self)
        except CoreweaveError as error:
            failure = lookup_failure("looking for claims left behind by an interrupted create", error)
            self.warn(str(failure))
            return []
        if claims:
            self.token_organization = claims[0].spec.organization_id
        return claims_of_stack(namespace, claims)


def _wrong_organization(doing: str, said: str, held: str, expected: object) -> WrongOrganization:
    return WrongOrganization(
        text(
            f"{doing} failed: the token belongs to another organization.",
            said=[said],
            held=held,
            then=[
                f"use a token of the organization {expected} (COREWEAVE_API_TOKEN takes precedence over "
                "the stack's coreweave:token)"
            ],
        )
    )


_current: Operation | None = None


def begin(operation: Operation) -> None:
    """Make `operation` the current one of this process."""
    global _current
    _current = operation


def current() -> Operation:
    """The current operation of this process."""
    if _current is None:
        raise ClaimError("the provider was called before it was configured")
    return _current


def configure(settings: Settings) -> None:
    """Begin an operation, unless the current one has these settings: the SDK configures each class."""
    if _current is None or _current.settings != settings:
        abandon()
        begin(Operation(settings))


def abandon() -> None:
    """Make all API calls of this process fail, because its engine is gone."""
    if _current is not None:
        _current.close()
