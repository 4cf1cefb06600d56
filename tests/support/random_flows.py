"""A Hypothesis strategy that writes legal flow files of random shape."""

from __future__ import annotations

import linecache
import textwrap
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from metaflow_orchestration.graph.model import FlowGraph

# A block is ("line",), ("gang",), ("split", branches), ("foreach", size, body), ("switch", chosen, cases) or
# ("loop", rounds).
# A body is a list of blocks.
Block = tuple[Any, ...]


def _blocks(children: st.SearchStrategy[Block]) -> st.SearchStrategy[Block]:
    body = st.lists(children, min_size=0, max_size=2)
    return st.one_of(
        st.tuples(st.just("split"), st.lists(body, min_size=2, max_size=2)),
        st.tuples(st.just("foreach"), st.integers(1, 3), body),
        st.tuples(st.just("switch"), st.integers(0, 1), st.lists(body, min_size=2, max_size=2)),
    )


def bodies(*, gangs: bool = False, most_tasks: int = 20) -> st.SearchStrategy[list[Block]]:
    """Bodies of whole flows, small enough to run.

    :param gangs: whether there are `@parallel` steps, whose tasks have no one order.
    :param most_tasks: how many tasks a run may have.
    """
    leaf: st.SearchStrategy[Block] = st.one_of(st.just(("line",)), st.tuples(st.just("loop"), st.integers(1, 3)))
    if gangs:
        leaf = st.one_of(leaf, st.just(("gang",)))
    block = st.recursive(leaf, _blocks, max_leaves=5)
    return st.lists(block, min_size=1, max_size=3).filter(lambda body: 3 <= _tasks(body) <= most_tasks)


def _tasks(body: list[Block]) -> int:
    """How many Metaflow tasks a body makes at most."""
    total = 0
    for block in body:
        match block:
            case ("line",):
                total += 1
            case ("loop", rounds):
                total += rounds + 1
            case ("gang",):
                total += 5
            case ("split", branches):
                total += 2 + sum(1 + _tasks(branch) for branch in branches)
            case ("foreach", size, inner):
                total += 2 + size * (1 + _tasks(inner))
            case ("switch", _, cases):
                total += 2 + max(1 + _tasks(case) for case in cases)
    return total


@dataclass
class _Writer:
    """Writes steps in order; every block is entered by one step and left to one step."""

    steps: list[str] = field(default_factory=list)
    count: int = 0

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def step(self, name: str, code: str, next_call: str, *, join: bool = False) -> None:
        body = f'{code}\nself.trace = self.trace + ["{name}"]' if not join else code
        arguments = "self, inputs" if join else "self"
        text = f"@step\ndef {name}({arguments}):\n" + textwrap.indent(body + f"\n{next_call}", "    ")
        self.steps.append(text)

    def body(self, blocks: list[Block], after: str) -> str:
        """Write blocks that lead to the step `after`; return the step that enters them."""
        for block in reversed(blocks):
            after = self.block(block, after)
        return after

    def block(self, block: Block, after: str) -> str:
        match block:
            case ("line",):
                entry = self.name("line")
                self.step(entry, "pass", f"self.next(self.{after})")
                return entry
            case ("loop", rounds):
                return self._loop(rounds, after)
            case ("gang",):
                return self._gang(after)
            case ("split", branches):
                return self._split(branches, after)
            case ("foreach", size, inner):
                return self._foreach(size, inner, after)
            case ("switch", chosen, cases):
                return self._switch(chosen, cases, after)
        raise AssertionError(block)

    def _leading_line(self, after: str) -> str:
        return self.block(("line",), after)

    def _loop(self, rounds: int, after: str) -> str:
        # A switch may not lead straight to a join.
        out, entry = self._leading_line(after), self.name("loop")
        code = (
            f'key = "{entry}"\nself.rounds = {{**self.rounds, key: self.rounds.get(key, 0) + 1}}\n'
            f'self.again = "yes" if self.rounds[key] % {rounds} else "no"'
        )
        self.step(entry, code, f'self.next({{"yes": self.{entry}, "no": self.{out}}}, condition="again")')
        return entry

    def _gang(self, after: str) -> str:
        join, entry, node = self.name("join"), self.name("fan"), self.name("node")
        self._join(join, self._leading_line(after))
        self.step(node, "pass", f"self.next(self.{join})")
        self.steps[-1] = f"@parallel\n{self.steps[-1]}"
        self.step(entry, "pass", f"self.next(self.{node}, num_parallel=2)")
        return entry

    def _split(self, branches: list[list[Block]], after: str) -> str:
        join, entry = self.name("join"), self.name("split")
        self._join(join, self._leading_line(after))
        firsts = [self._leading_line(self.body(branch, self._leading_line(join))) for branch in branches]
        self.step(entry, "pass", f"self.next({', '.join(f'self.{first}' for first in firsts)})")
        return entry

    def _foreach(self, size: int, inner: list[Block], after: str) -> str:
        join, entry, first = self.name("join"), self.name("fan"), self.name("item")
        self._join(join, self._leading_line(after))
        next_step = self.body(inner, self._leading_line(join) if inner else join)
        self.step(first, "self.trace = self.trace + [self.input]", f"self.next(self.{next_step})")
        self.step(
            entry, f"self.{entry}_items = list(range({size}))", f'self.next(self.{first}, foreach="{entry}_items")'
        )
        return entry

    def _switch(self, chosen: int, cases: list[list[Block]], after: str) -> str:
        meet, entry = self._leading_line(after), self.name("switch")
        firsts = [self._leading_line(self.body(case, meet)) for case in cases]
        arms = ", ".join(f'"case{number}": self.{first}' for number, first in enumerate(firsts))
        self.step(entry, f'self.case = "case{chosen}"', f'self.next({{{arms}}}, condition="case")')
        return entry

    def _join(self, name: str, after: str) -> None:
        # Sorted, since Metaflow's own scheduler promises no order.
        code = (
            "self.trace = [sorted((inp.trace for inp in inputs), key=str)]\n"
            "self.rounds = {key: value for inp in inputs for key, value in inp.rounds.items()}"
        )
        self.step(name, code, f"self.next(self.{after})", join=True)


def flow_source(name: str, body: list[Block]) -> str:
    """Return the source of a flow with that body."""
    writer = _Writer()
    first = writer.body(body, "end")
    start = f"@step\ndef start(self):\n    self.trace = []\n    self.rounds = {{}}\n    self.next(self.{first})"
    end = "@step\ndef end(self):\n    pass"
    steps = "\n\n".join([start, *reversed(writer.steps), end])
    return (
        f"from metaflow import FlowSpec, parallel, step\n\n\nclass {name}(FlowSpec):\n"
        + textwrap.indent(steps, "    ")
        + f'\n\n\nif __name__ == "__main__":\n    {name}()\n'
    )


def random_graph(name: str, source: str) -> FlowGraph:
    """Return the graph of a flow that stands in no file, as the compiler reads it, without a process of its own.

    :param name: name of the flow.
    :param source: what :func:`flow_source` made.
    :raises metaflow.lint.LintWarn: if the flow is not legal.
    """
    from metaflow.lint import linter

    from metaflow_orchestration.compile.reading.reader import read_graph

    file = f"<{name}>"
    # Metaflow reads the source of each step.
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    namespace: dict[str, Any] = {"__name__": "random_flow"}
    exec(compile(source, file, "exec"), namespace)
    flow = namespace[name](use_cli=False)
    linter.run_checks(flow._graph)
    return read_graph(flow, flow._graph)
