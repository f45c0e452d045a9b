"""Which claim gets which instances, and when: zones, stock and time, as pure computation.

An `Allocation` has no clock. Every call passes the time, in whole nanoseconds, and each effect
happens at the time it was due, no matter when it is computed. The same calls at the same times give
the same result.

- A claim asks for instances when it is created or grows. After `delay` its ask is due: all of it at
  once, or one instance every `spread`.
- An instance that is due comes from the first zone of the claim that has one free.
- If no zone has one, the ask queues at every zone of the claim. A freed instance goes to the oldest
  ask in the queue, so no claim overtakes another.
- A claim that shrinks first gives up what it still waits for, newest ask first, then instances in
  its least preferred zones.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Pool = tuple[str, str]
"""A zone and an instance type: the unit of stock."""


@dataclass(slots=True)
class Ask:
    """A request for instances. `ticket` is its place in every queue."""

    ticket: int
    delayed: int
    """Instances that are not due yet."""
    due: int | None
    """When the next instances are due. None when all have been."""
    waiting: int = 0
    """Instances that are due, but not in stock."""
    opened: bool = False
    """Whether the first instance has been due."""

    @property
    def open(self) -> bool:
        return self.due is not None or self.waiting > 0


@dataclass(slots=True)
class Holding:
    """What a claim wants, and what it has."""

    instance_id: str
    zones: tuple[str, ...]
    count: int
    held: dict[str, int] = field(default_factory=dict)
    """Instances allocated, by zone."""
    asks: list[Ask] = field(default_factory=list)
    """Oldest first. An ask is removed once it is served."""

    @property
    def allocated(self) -> int:
        return sum(self.held.values())

    @property
    def missing(self) -> int:
        """Instances that are due, but not in stock."""
        return sum(ask.waiting for ask in self.asks)

    @property
    def opened(self) -> bool:
        """Whether the delay of every ask is over."""
        return all(ask.opened for ask in self.asks)


class Allocation:
    """The stock of all zones, and the claims that hold some of it or wait for it."""

    def __init__(self, stock: Mapping[str, Mapping[str, int]], *, delay: int, spread: int) -> None:
        """`delay` and `spread` are nanoseconds; `stock` is by zone and instance type."""
        self._delay = delay
        self._spread = spread
        self._stock: dict[Pool, int] = {}
        self._used: dict[Pool, int] = {}
        self._queues: dict[Pool, list[int]] = {}
        self._waiting: dict[int, tuple[str, Ask]] = {}
        self._holdings: dict[str, Holding] = {}
        self._events: list[tuple[int, int, str, Ask]] = []
        self._next_ticket = 1
        self._set_stock(stock)

    def add(self, claim: str, holding: Holding, now: int) -> None:
        """Add a claim, which asks for all its instances."""
        self._holdings[claim] = holding
        self._ask(claim, holding, holding.count, now)

    def restore(self, claim: str, holding: Holding) -> None:
        """Add a claim as it was saved, with its place in the queues."""
        self._holdings[claim] = holding
        for zone, count in holding.held.items():
            pool = (zone, holding.instance_id)
            self._used[pool] = self._used.get(pool, 0) + count
        for ask in holding.asks:
            self._next_ticket = max(self._next_ticket, ask.ticket + 1)
            if ask.due is not None:
                self._schedule(claim, ask)
            if ask.waiting:
                self._enqueue(claim, holding, ask)

    def resize(self, claim: str, count: int, now: int) -> list[str]:
        """Change the number of instances a claim wants; returns the other claims this served."""
        holding = self._holdings[claim]
        surplus = holding.count - count
        holding.count = count
        if surplus <= 0:
            self._ask(claim, holding, -surplus, now)
            return []
        for ask in reversed(holding.asks):
            dropped = min(ask.delayed, surplus)
            ask.delayed -= dropped
            surplus -= dropped
            dropped = min(ask.waiting, surplus)
            ask.waiting -= dropped
            surplus -= dropped
            if not ask.waiting:
                self._dequeue(holding, ask)
        freed: list[Pool] = []
        for zone in reversed(holding.zones):
            given = min(holding.held.get(zone, 0), surplus)
            surplus -= given
            if given:
                freed.append(self._give_back(holding, zone, given))
        holding.asks = [ask for ask in holding.asks if ask.delayed or ask.waiting or not ask.opened]
        self._ask(claim, holding, 0, now)
        return self._hand_out(freed)

    def reshape(
        self, claim: str, instance_id: str, zones: tuple[str, ...], count: int, now: int
    ) -> list[str]:
        """Change anything a claim wants; returns the other claims this served.

        The claim keeps instances of the same type in zones it still names, and asks again for the
        rest, at the end of the queues.
        """
        holding = self._holdings[claim]
        self.stop(claim)
        freed: list[Pool] = []
        kept = 0
        for zone in dict.fromkeys((*zones, *holding.held)):
            has = holding.held.get(zone, 0)
            keep = 0
            if instance_id == holding.instance_id and zone in zones:
                keep = min(has, count - kept)
            kept += keep
            if has > keep:
                freed.append(self._give_back(holding, zone, has - keep))
        holding.instance_id, holding.zones, holding.count = instance_id, zones, count
        self._ask(claim, holding, count - kept, now)
        return self._hand_out(freed)

    def stop(self, claim: str) -> None:
        """Take a claim out of the queues. It keeps the instances it has."""
        holding = self._holdings[claim]
        for ask in holding.asks:
            self._dequeue(holding, ask)
        holding.asks = []

    def remove(self, claim: str) -> list[str]:
        """Remove a claim; returns the claims that got its instances."""
        holding = self._holdings[claim]
        self.stop(claim)
        freed = [self._give_back(holding, zone, count) for zone, count in [*holding.held.items()]]
        del self._holdings[claim]
        return self._hand_out(freed)

    def set_stock(self, stock: Mapping[str, Mapping[str, int]]) -> list[str]:
        """Replace the stock; returns the claims that got instances from it.

        Less stock than is in use takes nothing away from a claim: instances are only not allocated
        again once they are freed.
        """
        self._set_stock(stock)
        return self._hand_out(list(self._stock))

    def free(self, zone: str, instance_id: str) -> int:
        """The number of instances in stock that no claim holds."""
        pool = (zone, instance_id)
        return max(0, self._stock.get(pool, 0) - self._used.get(pool, 0))

    def next_due(self) -> int | None:
        """When `step` has something to do next, if ever."""
        return self._events[0][0] if self._events else None

    def step(self) -> str | None:
        """Do what is due next; returns the claim it changed, if any."""
        due, _, claim, ask = heapq.heappop(self._events)
        holding = self._holdings.get(claim)
        if holding is None or ask.due != due or ask not in holding.asks:
            return None
        count = min(1, ask.delayed) if self._spread else ask.delayed
        ask.opened = True
        ask.delayed -= count
        ask.waiting += count
        ask.due = due + self._spread if ask.delayed else None
        self._serve(claim, holding, ask)
        if ask.due is not None:
            self._schedule(claim, ask)
        return claim

    def _set_stock(self, stock: Mapping[str, Mapping[str, int]]) -> None:
        self._stock = {
            (zone, instance_id): count
            for zone, types in stock.items()
            for instance_id, count in types.items()
        }

    def _ask(self, claim: str, holding: Holding, count: int, now: int) -> None:
        ask = Ask(self._next_ticket, delayed=count, due=now + self._delay)
        self._next_ticket += 1
        holding.asks.append(ask)
        self._schedule(claim, ask)

    def _schedule(self, claim: str, ask: Ask) -> None:
        if ask.due is not None:
            heapq.heappush(self._events, (ask.due, ask.ticket, claim, ask))

    def _serve(self, claim: str, holding: Holding, ask: Ask) -> bool:
        """Give an ask what is free now; returns whether it got anything."""
        before = ask.waiting
        for zone in holding.zones:
            given = min(ask.waiting, self.free(zone, holding.instance_id))
            if given:
                pool = (zone, holding.instance_id)
                self._used[pool] = self._used.get(pool, 0) + given
                holding.held[zone] = holding.held.get(zone, 0) + given
                ask.waiting -= given
        if ask.waiting:
            self._enqueue(claim, holding, ask)
        else:
            self._dequeue(holding, ask)
        if not ask.open:
            holding.asks.remove(ask)
        return ask.waiting < before

    def _give_back(self, holding: Holding, zone: str, count: int) -> Pool:
        pool = (zone, holding.instance_id)
        self._used[pool] -= count
        holding.held[zone] -= count
        if not holding.held[zone]:
            del holding.held[zone]
        return pool

    def _hand_out(self, pools: Sequence[Pool]) -> list[str]:
        """Give free instances in `pools` to the asks that wait, oldest first; returns the claims served."""
        served: dict[str, None] = {}
        while heads := [queue[0] for pool in pools if (queue := self._queues.get(pool)) and self.free(*pool)]:
            claim, ask = self._waiting[min(heads)]
            if self._serve(claim, self._holdings[claim], ask):
                served[claim] = None
        return list(served)

    def _enqueue(self, claim: str, holding: Holding, ask: Ask) -> None:
        if ask.ticket in self._waiting:
            return
        self._waiting[ask.ticket] = (claim, ask)
        for zone in holding.zones:
            bisect.insort(self._queues.setdefault((zone, holding.instance_id), []), ask.ticket)

    def _dequeue(self, holding: Holding, ask: Ask) -> None:
        if self._waiting.pop(ask.ticket, None) is None:
            return
        for zone in holding.zones:
            queue = self._queues[zone, holding.instance_id]
            del queue[bisect.bisect_left(queue, ask.ticket)]
