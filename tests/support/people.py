"""Histories with acts of people: they rename, target, move, clone, protect, retain, and edit states by hand.

There are two stacks in one organization. What one of them manages, the other one must leave alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from support.machine import NAMES, SCARCE, STOCK, Histories, Stack, contents, deaths
from support.model import Death, Declared, Entry

counts = st.sampled_from([None, 1, 2, 3, 4])
"""How many instances a claim is declared with again; None: as many as before."""


class People(Histories):
    """Two stacks, and people who do with them what the CLI offers."""

    @rule(
        name=st.sampled_from(NAMES),
        count=counts,
        how=st.sampled_from(["target", "before", "after"]),
        resources=st.one_of(st.none(), contents),
    )
    def reuse_a_name(self, name: str, count: int | None, how: str, resources: dict[str, Any] | None) -> None:
        """Rename a claim by an alias, declare another one with the old name, and bring up only that one."""
        Histories.steps += 1
        if name not in self.program or self.program[name].name is not None:
            return
        self._up()
        self.rename(name, first=False)
        renamed = self.program.get("r")
        if renamed is None or name in self.program or self.engine.state.current("r") is None:
            return
        declared = Declared(resources or renamed.resources)
        self.program = (
            {name: declared, **self.program} if how == "before" else {**self.program, name: declared}
        )
        if count is not None:
            self._set_count(self.program, name, count)
        self._up(targets={name} if how == "target" else None)

    @rule(name=st.sampled_from([*NAMES, "r"]), death=deaths)
    def target(self, name: str, death: Death | None) -> None:
        Histories.steps += 1
        if name in self.program:
            self._up(targets={name}, death=death)

    @rule(name=st.sampled_from(NAMES), declared=st.booleans())
    def delete_from_the_state(self, name: str, declared: bool) -> None:
        """`pulumi state delete`, where the program still declares the claim or not."""
        Histories.steps += 1
        self.engine.forget(name)
        if not declared:
            self.program.pop(name, None)

    @rule(name=st.sampled_from(NAMES), kept=st.booleans(), count=counts)
    def move(self, name: str, kept: bool, count: int | None) -> None:
        """`pulumi state move`; the declaration moves, too, or is forgotten (`kept`) where it was."""
        Histories.steps += 1
        entry = self.engine.state.current(name)
        taken = any(each.name == name for each in self.other.engine.state.entries)
        if entry is None or taken or name not in self.program or not self._is_settled(entry):
            return
        declared = replace(self.program[name], alias=None, deleted_with=None)
        self.touched.add(entry.id)  # its content may be posted again by who declares it still
        self.engine.move(name, self.other.engine)
        self.other.program[name] = declared
        if not kept:
            del self.program[name]
        elif count is not None:
            self._set_count(self.program, name, count)
        self._up(self.other)
        self._up()

    @rule(removed=st.sampled_from(["claims and namespace", "claims", "nothing"]), count=counts)
    def clone(self, removed: str, count: int | None) -> None:
        """Copy the stack into the other one; then what the docs say, or less."""
        Histories.steps += 1
        if self.other.engine.state.entries or self.other.engine.cut_off or self.engine.cut_off:
            return
        if not self._up():
            return
        copy = self.other
        copy.program = {
            name: replace(each, name=None, alias=None, protect=False) for name, each in self.program.items()
        }
        self.engine.clone(copy.engine)
        if removed == "nothing":
            copy.program = dict(self.program)
            steps = copy.engine.preview(copy.program)
            assert not steps, f"a copy of a stack is not up to date: {steps}"
            copy.program = {}
        if count is not None and removed != "nothing":
            for name in copy.program:
                self._set_count(copy.program, name, count)
        for entry in list(copy.engine.state.entries):
            copy.engine.forget(entry.name)
        if removed != "claims":
            copy.engine.remove_namespace()
        copy.engine.let_go.clear()  # the other stack holds them
        self._up(copy)
        if "a claim with this id exists with" in self.error:
            copy.engine.remove_namespace()  # as the error's text says
            self._up(copy)

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 4), death=deaths)
    def scale_in_the_other_stack(self, name: str, count: int, death: Death | None) -> None:
        Histories.steps += 1
        if name in self.other.program:
            self._set_count(self.other.program, name, count)
            self._up(self.other, death=death)

    @rule(name=st.sampled_from(NAMES), resources=contents)
    def change_in_the_other_stack(self, name: str, resources: dict[str, Any]) -> None:
        Histories.steps += 1
        if name in self.other.program:
            self.other.program[name] = replace(self.other.program[name], resources=resources)
            self._up(self.other)

    @rule(death=deaths)
    def destroy_the_other_stack(self, death: Death | None) -> None:
        Histories.steps += 1
        self.other.engine.unprotect()
        self._destroy(self.other, death=death)

    @rule(name=st.sampled_from(NAMES), option=st.sampled_from(["protect", "retain"]), on=st.booleans())
    def set_an_option(self, name: str, option: str, on: bool) -> None:
        Histories.steps += 1
        if name in self.program:
            changed: dict[str, Any] = {option: on}
            self.program[name] = replace(self.program[name], **changed)

    @rule(one=st.sampled_from(NAMES), another=st.sampled_from([None, *NAMES]))
    def set_deleted_with(self, one: str, another: str | None) -> None:
        Histories.steps += 1
        if one in self.program and one != another:
            self.program[one] = replace(self.program[one], deleted_with=another)

    @rule(name=st.sampled_from(NAMES))
    def replace_what_has_failed(self, name: str) -> None:
        """Get some instances only, be told that the claim has failed, and follow the advice."""
        Histories.steps += 1
        if name not in self.program or self.settings["shortage"] != "failed":
            return
        self._set_count(self.program, name, 4)
        self.emulator.set_inventory(SCARCE)
        self._up()
        self.emulator.set_inventory(STOCK)
        if "STATUS_FAILED" in self.error:
            self._up(replaced={name})

    # How it is done

    def _is_settled(self, entry: Entry) -> bool:
        """Whether a claim has one entry, and no create for it was cut off."""
        of_name = [each for each in self.engine.state.entries if each.name == entry.name]
        return of_name == [entry] and not entry.pending_replacement and not self.engine.cut_off

    def _up(self, stack: Stack | None = None, **options: Any) -> bool:
        ended = super()._up(stack, **options)
        self._give_up_what_is_shared()
        return ended

    def _give_up_what_is_shared(self) -> None:
        """Two stacks hold a claim, unchanged: who reads "adopted" removes the newer entry from its state.

        If a stack was copied with its namespace, that is removed from the copy as well.
        """
        ones, others = self.engine.state.entries, self.other.engine.state.entries
        for one in ones:
            for another in others:
                if one.id == another.id and not one.delete and not another.delete:
                    newer = max(one, another, key=lambda entry: entry.number)
                    stack = self.stack if newer is one else self.other
                    stack.engine.forget(newer.name)
                    stack.engine.let_go.discard(newer.id)
                    stack.program.pop(newer.name, None)
                    if self.engine.state.namespace == self.other.engine.state.namespace:
                        self.other.engine.remove_namespace()
