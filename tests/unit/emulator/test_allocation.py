"""Which claim gets which instances, and when."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from coreweave_inference.emulator.allocation import Allocation, Holding

SECOND = 1_000_000_000
ZONES = ("A", "B", "C")
TYPES = ("gpu", "tpu")
STOCK = {"A": {"gpu": 4}, "B": {"gpu": 2}}


def allocation(
    stock: Mapping[str, Mapping[str, int]] = STOCK, *, delay: int = 0, spread: int = 0
) -> Allocation:
    return Allocation(stock, delay=delay * SECOND, spread=spread * SECOND)


def add(to: Allocation, claim: str, count: int, zones: tuple[str, ...] = ("A", "B"), now: int = 0) -> Holding:
    holding = Holding("gpu", zones, count)
    to.add(claim, holding, now * SECOND)
    return holding


def run_until(subject: Allocation, now: int) -> list[str]:
    changed = []
    while (due := subject.next_due()) is not None and due <= now * SECOND:
        step = subject.step()
        if step is not None:
            changed.append(step)
    return changed


def test_the_first_zone_is_filled_before_the_second() -> None:
    subject = allocation()
    claim = add(subject, "one", 5)
    run_until(subject, 0)
    assert claim.held == {"A": 4, "B": 1}


def test_each_claim_has_its_own_order_of_zones() -> None:
    subject = allocation()
    claim = add(subject, "one", 3, zones=("B", "A"))
    run_until(subject, 0)
    assert claim.held == {"B": 2, "A": 1}


def test_nothing_is_allocated_before_the_delay_is_over() -> None:
    subject = allocation(delay=10)
    claim = add(subject, "one", 2)
    run_until(subject, 9)
    assert claim.allocated == 0
    run_until(subject, 10)
    assert claim.allocated == 2


def test_a_spread_allocates_one_instance_at_a_time() -> None:
    subject = allocation(delay=10, spread=2)
    claim = add(subject, "one", 3)
    seen = []
    for now in (9, 10, 11, 12, 14):
        run_until(subject, now)
        seen.append(claim.allocated)
    assert seen == [0, 1, 1, 2, 3]
    assert not claim.asks


def test_a_freed_instance_goes_to_the_longest_waiting_claim() -> None:
    subject = allocation()
    add(subject, "holder", 6)
    first = add(subject, "first", 2)
    second = add(subject, "second", 2)
    run_until(subject, 0)
    assert subject.resize("holder", 3, SECOND) == ["first", "second"]
    assert (first.allocated, second.allocated) == (2, 1)


def test_instances_freed_together_go_to_the_oldest_ask_in_its_zone_order() -> None:
    subject = allocation({"A": {"gpu": 0}, "B": {"gpu": 0}})
    first = add(subject, "first", 1, zones=("B", "A"))
    second = add(subject, "second", 1, zones=("A",))
    third = add(subject, "third", 1, zones=("B", "A"))
    run_until(subject, 0)
    assert subject.set_stock({"A": {"gpu": 1}, "B": {"gpu": 1}}) == ["first", "second"]
    assert (first.held, second.held, third.held) == ({"B": 1}, {"A": 1}, {})


def test_the_oldest_ask_is_served_first_in_any_zone() -> None:
    subject = allocation({"A": {"gpu": 0}, "B": {"gpu": 0}})
    first = add(subject, "first", 1, zones=("B",))
    second = add(subject, "second", 2, zones=("A", "B"))
    run_until(subject, 0)
    assert subject.set_stock({"A": {"gpu": 1}, "B": {"gpu": 1}}) == ["first", "second"]
    assert (first.held, second.held) == ({"B": 1}, {"A": 1})


def test_a_new_claim_does_not_overtake_one_that_waits_in_another_zone() -> None:
    subject = allocation({"A": {"gpu": 1}, "B": {"gpu": 1}})
    add(subject, "holder", 1, zones=("B",))
    add(subject, "other", 1, zones=("A",))
    waiting = add(subject, "waiting", 1, zones=("A", "B"))
    newcomer = add(subject, "newcomer", 1, zones=("B",))
    run_until(subject, 0)
    assert subject.remove("holder") == ["waiting"]
    assert (waiting.held, newcomer.held) == ({"B": 1}, {})


def test_a_shrink_frees_the_least_preferred_zones_first() -> None:
    subject = allocation()
    claim = add(subject, "one", 6)
    run_until(subject, 0)
    subject.resize("one", 3, SECOND)
    assert claim.held == {"A": 3}


def test_a_shrink_gives_up_pending_instances_before_allocated_ones() -> None:
    subject = allocation()
    claim = add(subject, "one", 8)
    run_until(subject, 0)
    subject.resize("one", 6, SECOND)
    run_until(subject, 1)
    assert (claim.allocated, claim.missing, claim.asks) == (6, 0, [])


def test_growth_waits_behind_older_asks_of_others() -> None:
    subject = allocation({"A": {"gpu": 2}})
    grown = add(subject, "grown", 1, zones=("A",))
    other = add(subject, "other", 2, zones=("A",))
    run_until(subject, 0)
    subject.resize("grown", 2, SECOND)
    run_until(subject, 1)
    assert subject.set_stock({"A": {"gpu": 3}}) == ["other"]
    assert (grown.allocated, other.allocated) == (1, 2)


def test_more_stock_serves_waiting_claims_and_less_takes_nothing_away() -> None:
    subject = allocation({"A": {"gpu": 1}})
    claim = add(subject, "one", 2, zones=("A",))
    run_until(subject, 0)
    assert claim.missing == 1
    assert subject.set_stock({"A": {"gpu": 5}}) == ["one"]
    subject.set_stock({"A": {"gpu": 0}})
    assert (claim.allocated, subject.free("A", "gpu")) == (2, 0)


def test_new_zones_keep_instances_in_zones_still_named() -> None:
    subject = allocation({"A": {"gpu": 2}, "B": {"gpu": 2}, "C": {"gpu": 2}})
    claim = add(subject, "one", 3)
    run_until(subject, 0)
    subject.reshape("one", "gpu", ("C", "A"), 3, SECOND)
    assert claim.held == {"A": 2}
    run_until(subject, 1)
    assert claim.held == {"A": 2, "C": 1}


def test_another_instance_type_releases_all_instances() -> None:
    subject = allocation({"A": {"gpu": 2, "tpu": 1}})
    claim = add(subject, "one", 2, zones=("A",))
    run_until(subject, 0)
    subject.reshape("one", "tpu", ("A",), 2, SECOND)
    run_until(subject, 1)
    assert (claim.held, claim.missing, subject.free("A", "gpu")) == ({"A": 1}, 1, 2)


def test_a_restored_allocation_continues_where_it_stopped() -> None:
    plain, restored = allocation(delay=1, spread=1), allocation(delay=1, spread=1)
    before = {name: add(plain, name, 4, now=now) for name, now in (("one", 0), ("two", 1))}
    run_until(plain, 3)
    copies = {}
    for name, held in before.items():
        copies[name] = Holding(held.instance_id, held.zones, held.count, dict(held.held), list(held.asks))
        copies[name].asks = [type(ask)(*_values(ask)) for ask in held.asks]
        restored.restore(name, copies[name])
    for subject in (plain, restored):
        run_until(subject, 20)
        subject.remove("one")
    assert copies["two"] == before["two"]
    assert copies["two"].allocated == 4


def _values(ask: object) -> list[object]:
    return [getattr(ask, name) for name in ("ticket", "delayed", "due", "waiting", "opened")]


zones = st.lists(st.sampled_from(ZONES), min_size=1, max_size=3, unique=True).map(tuple)
counts = st.integers(0, 6)
stocks = st.fixed_dictionaries(
    {zone: st.fixed_dictionaries({kind: st.integers(0, 6) for kind in TYPES}) for zone in ZONES}
)
names = st.sampled_from(["one", "two", "three", "four"])
actions = st.one_of(
    st.tuples(st.just("add"), names, st.sampled_from(TYPES), zones, counts),
    st.tuples(st.just("resize"), names, counts),
    st.tuples(st.just("reshape"), names, st.sampled_from(TYPES), zones, counts),
    st.tuples(st.just("stop"), names),
    st.tuples(st.just("remove"), names),
    st.tuples(st.just("stock"), stocks),
    st.tuples(st.just("wait"), st.integers(1, 5)),
)


class World:
    """An allocation and its claims, changed by random actions."""

    def __init__(self, stock: dict[str, dict[str, int]], delay: int = 0, spread: int = 0) -> None:
        self.subject = allocation(stock, delay=delay, spread=spread)
        self.stock = stock
        self.claims: dict[str, Holding] = {}
        self.stopped: set[str] = set()
        self.now = 0

    def act(self, action: tuple[object, ...]) -> None:
        kind, *rest = action
        match kind, rest:
            case "add", [str(name), str(instance), tuple(wanted), int(count)]:
                if name not in self.claims:
                    self.claims[name] = Holding(instance, wanted, count)
                    self.subject.add(name, self.claims[name], self.now * SECOND)
            case "stock", [dict(stock)]:
                self.stock = stock
                self.subject.set_stock(stock)
            case "wait", [int(seconds)]:
                self.now += seconds
            case _, [str(name), *_] if name not in self.claims:
                return
            case "remove", [str(name)]:
                self.subject.remove(name)
                del self.claims[name]
                self.stopped.discard(name)
            case "stop", [str(name)]:
                self.subject.stop(name)
                self.stopped.add(name)
            case _, [str(name), *_] if name in self.stopped:
                return
            case "resize", [str(name), int(count)]:
                self.subject.resize(name, count, self.now * SECOND)
            case "reshape", [str(name), str(instance), tuple(wanted), int(count)]:
                self.subject.reshape(name, instance, wanted, count, self.now * SECOND)
        run_until(self.subject, self.now)

    def used(self, zone: str, instance: str) -> int:
        return sum(claim.held.get(zone, 0) for claim in self.claims.values() if claim.instance_id == instance)

    def state(self) -> object:
        return {
            name: (claim.held, [_values(ask) for ask in claim.asks]) for name, claim in self.claims.items()
        }


@given(stocks, st.lists(actions, max_size=40), st.integers(0, 2), st.integers(0, 2))
def test_allocation_never_exceeds_the_stock(
    stock: dict[str, dict[str, int]],
    steps: list[tuple[object, ...]],
    delay: int,
    spread: int,
) -> None:
    world = World(stock, delay, spread)
    for step in steps:
        before = {(z, t): world.used(z, t) for z in ZONES for t in TYPES}
        world.act(step)
        for (zone, kind), used in before.items():
            assert world.used(zone, kind) <= max(used, world.stock[zone][kind])


@given(stocks, st.lists(actions, max_size=40), st.integers(0, 2), st.integers(0, 2))
def test_allocated_plus_pending_is_the_declared_count(
    stock: dict[str, dict[str, int]],
    steps: list[tuple[object, ...]],
    delay: int,
    spread: int,
) -> None:
    world = World(stock, delay, spread)
    for step in steps:
        world.act(step)
        for name, claim in world.claims.items():
            if name not in world.stopped:
                pending = sum(ask.delayed + ask.waiting for ask in claim.asks)
                assert claim.allocated + pending == claim.count
            assert claim.held.keys() <= set(claim.zones)
            assert all(count > 0 for count in claim.held.values())


@given(stocks, st.lists(actions, max_size=40), st.integers(0, 2), st.integers(0, 2))
def test_no_claim_waits_while_an_instance_for_it_is_free(
    stock: dict[str, dict[str, int]],
    steps: list[tuple[object, ...]],
    delay: int,
    spread: int,
) -> None:
    world = World(stock, delay, spread)
    for step in steps:
        world.act(step)
        for claim in world.claims.values():
            if claim.missing:
                assert not any(world.subject.free(z, claim.instance_id) for z in claim.zones)


@given(stocks, st.lists(st.tuples(zones, st.integers(1, 4)), min_size=1, max_size=6))
def test_claims_are_served_in_the_order_they_came(
    stock: dict[str, dict[str, int]], wanted: list[tuple[tuple[str, ...], int]]
) -> None:
    subject = allocation(stock)
    claims = [Holding("gpu", each, count) for each, count in wanted]
    for number, claim in enumerate(claims):
        subject.add(str(number), claim, 0)
    run_until(subject, 0)
    left = {zone: stock[zone]["gpu"] for zone in ZONES}
    for claim in claims:
        expected, missing = {}, claim.count
        for zone in claim.zones:
            given_here = min(missing, left[zone])
            left[zone] -= given_here
            missing -= given_here
            if given_here:
                expected[zone] = given_here
        assert claim.held == expected


@given(stocks, st.lists(actions, max_size=40), st.integers(0, 2), st.integers(0, 2))
def test_the_result_does_not_depend_on_how_often_it_is_read(
    stock: dict[str, dict[str, int]],
    steps: list[tuple[object, ...]],
    delay: int,
    spread: int,
) -> None:
    often, rarely = World(stock, delay, spread), World(stock, delay, spread)
    for step in steps:
        rarely.act(step)
        if step[0] == "wait":
            for _ in range(int(str(step[1]))):
                often.act(("wait", 1))
        else:
            often.act(step)
        assert often.state() == rarely.state()
