"""Draws the graph of imports between the project's packages as an SVG, from the source alone.

A part is a package, a folder of `runs`, or one of three groups of modules that lie directly in
`runs`: what the engine imports of them, what the public API imports beside that, and the studies;
folders that studies and each other import in circles count as studies. A part stands one row above
the highest that it imports, imports inside functions included. An arrow that follows from others is
left out. `docs/pages.py` makes the picture a file of the site; run alone, this file prints it.
"""

import ast
from collections.abc import Iterator
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("affect", "envs", "agents", "runs")
SHARED, API, STUDIES = "shared modules", "Experiment, Result", "studies"
WIDTH, MARGIN = 720, 40  # of the picture; of its right side, for arrows past a row; in pixels
ROW, BOX, BREADTH = 74, 44, 200  # height of a row, of a box; width of a box
FILL = {"affect": "#00796b", "agents": "#3949ab", "envs": "#3949ab"}  # of a box; others are of runs
Graph = dict[str, set[str]]  # node -> the nodes that it imports


def drawing(root: Path = ROOT) -> str:
    """Picture of the import graph of a checkout, as SVG."""
    modules = module_graph(root)
    parts = parts_of(modules)
    graph = part_graph(modules, parts)
    files = {part: [module for module in parts if parts[module] == part] for part in graph}
    notes = {part: f"{len(modules)} files" for part, modules in files.items()}
    notes[SHARED] = ", ".join(module.removeprefix("runs.") for module in files[SHARED])
    return svg(rows_of(graph), reduced(graph), notes)


# --- graph --------------------------------------------------------------------------------------


def module_graph(root: Path) -> Graph:
    """Every module of the project, and the modules of the project that it imports."""
    paths = {
        ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path
        for package in PACKAGES
        for path in sorted((root / package).rglob("*.py"))
    }
    del paths["runs"]  # the package itself, which imports `Experiment` when it is first used
    return {module: set(imported(path)) & paths.keys() - {module} for module, path in paths.items()}


def imported(path: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, and of the modules that these may be names of."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_of(modules: Graph) -> dict[str, str]:
    """Module -> its part."""
    folder = {module: ".".join(module.split(".")[:2]) for module in modules}
    inner = {place for module, place in folder.items() if module.count(".") > 1}
    engine = {module for module in modules if module.startswith("runs.engine")}
    shared = reached(modules, engine)
    api = reached(modules, {"runs.experiment"}) | {"runs.experiment"}
    parts = {}
    for module in modules:
        if not module.startswith("runs."):
            parts[module] = module.split(".")[0]
        elif folder[module] in inner:
            parts[module] = folder[module].removeprefix("runs.")
        else:
            parts[module] = SHARED if module in shared else API if module in api else STUDIES
    graph = part_graph(modules, parts)
    circle = {part for part in reached(graph, {STUDIES}) if STUDIES in reached(graph, {part})}
    return {module: STUDIES if part in circle else part for module, part in parts.items()}


def reached(graph: Graph, start: set[str]) -> set[str]:
    """Nodes that some nodes import, at any distance."""
    nodes: set[str] = set()
    new = set().union(*(graph[node] for node in start))
    while new:
        nodes |= new
        new = set().union(*(graph[node] for node in new)) - nodes
    return nodes


def part_graph(modules: Graph, parts: dict[str, str]) -> Graph:
    """The parts that each part imports."""
    graph: Graph = {part: set() for part in parts.values()}
    for module, part in parts.items():
        graph[part] |= {parts[other] for other in modules[module] if other in parts} - {part}
    return graph


def reduced(graph: Graph) -> Graph:
    """The same graph without arrows that follow from others; it must have no circle."""
    return {node: graph[node] - reached(graph, graph[node]) for node in graph}


def rows_of(graph: Graph) -> list[list[str]]:
    """Rows of nodes, the lowest first: a node stands one row above the highest that it imports."""
    heights: dict[str, int] = {}
    while len(heights) < len(graph):
        ready = {node for node in graph if node not in heights and graph[node] <= heights.keys()}
        if not ready:
            raise ValueError(f"imports run in a circle: {sorted(graph.keys() - heights.keys())}")
        for node in ready:
            heights[node] = 1 + max((heights[other] for other in graph[node]), default=-1)
    rows: list[list[str]] = [[] for _ in range(max(heights.values()) + 1)]
    for node in sorted(graph):
        rows[heights[node]].append(node)
    return rows


# --- picture ------------------------------------------------------------------------------------


def svg(rows: list[list[str]], graph: Graph, notes: dict[str, str]) -> str:
    """Rows of boxes, the lowest at the bottom, and an arrow from each to what it imports.

    Args:
        rows: parts, the lowest row first.
        graph: part -> the parts to which it has an arrow.
        notes: part -> the second line in its box.
    """
    place = places(rows, graph)
    height = len(rows) * ROW
    arrows = [arrow(place[part], place[other]) for part in graph for other in sorted(graph[part])]
    boxes = [box(part, notes[part], *place[part]) for part in place]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" font-family="sans-serif" text-anchor="middle">',
            "<title>Which part of the project imports which</title>",
            '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
            'markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="#888"/></marker></defs>',
            *arrows,
            *boxes,
            "</svg>\n",
        ]
    )


def places(rows: list[list[str]], graph: Graph) -> dict[str, tuple[float, float]]:
    """Part -> (centre, top) of its box: above what it imports; last where arrows pass a row."""
    level = {part: i for i, row in enumerate(rows) for part in row}
    passed = {b for a in graph for b in graph[a] if level[a] - level[b] > 1}
    place: dict[str, tuple[float, float]] = {}
    for i, row in enumerate(rows):
        below = {part: [place[other][0] for other in graph[part]] or [0] for part in row}
        row = sorted(row, key=lambda part: (part in passed, sum(below[part]) / len(below[part])))
        room = (WIDTH - MARGIN) / len(row)
        for j, part in enumerate(row):
            place[part] = room * (j + 0.5), (len(rows) - 1 - i) * ROW + (ROW - BOX) / 2
    return place


def arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    """Arrow from a box down to another; around the right side if there are rows between."""
    (x, y), (a, b) = start, end
    if b - y < 1.5 * ROW:
        path = f"M{x:g} {y + BOX:g}L{a:g} {b:g}"
    else:
        side, edge = WIDTH - MARGIN / 4, BREADTH / 2
        path = (
            f"M{x + edge:g} {y + BOX / 2:g}C{side} {y:g} {side} {b:g} {a + edge:g} {b + BOX / 2:g}"
        )
    return f'<path d="{path}" fill="none" stroke="#888" marker-end="url(#head)"/>'


def box(part: str, note: str, x: float, y: float) -> str:
    """Box with the name of a part and a note below it, in white."""
    return (
        f'<rect x="{x - BREADTH / 2:g}" y="{y:g}" width="{BREADTH}" height="{BOX}" rx="6" '
        f'fill="{FILL.get(part, "#546e7a")}"/>'
        f'<text x="{x:g}" y="{y + 19:g}" font-size="15" fill="#fff">{escape(part)}</text>'
        f'<text x="{x:g}" y="{y + 35:g}" font-size="10.5" fill="#fff">{escape(note)}</text>'
    )


if __name__ == "__main__":
    print(drawing())
