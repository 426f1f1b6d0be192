"""The claims of `runs.inherit`: plan, seal, newborns in sealed worlds, contrasts.

What is frozen before the worlds are drawn: the plan, the parents, and the numbers of each arm. An
arm of several bodies is the mean over them, a pair at a time; the pair is the unit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd

from envs.suite import Suite
from runs.analysis import stats
from runs.analysis.contrasts import Contrast, contrasts
from runs.analysis.scores import rows_as_csv
from runs.engine.checkpoint import Checkpoints
from runs.errors import UserError
from runs.inheritance.choices import OWN, Choices, Key
from runs.inheritance.design import CONSTANT, SMALL, VALUE, InheritDesign
from runs.inheritance.homes import Place
from runs.inheritance.parent import Parent
from runs.inheritance.run import Cell, InheritRun
from runs.lock import replace_file
from runs.names import SCORES, safe_name
from runs.prereg import seal
from runs.prereg.plan_file import Plan, make_plan
from runs.prereg.splits import families

PERMUTED, ON_TRUNK, CONSTANT_ON_TRUNK = (
    "permuted",
    "trunk + critic + value",
    "trunk + critic + constant",
)
SHARE = 0.2  # of the critic's gain over the constant potential: the margin of equivalence
SEALED = "sealed"  # name of the suite among those of the run
SEALED_PLACES = 3  # families of the sealed part of a suite, at least


class Arm(NamedTuple):
    """An arm of the claims: its score is the mean over its cells.

    Attributes:
        name: of the arm.
        cells: carriers and bodies.
    """

    name: str
    cells: tuple[Key, ...]


class Claim(NamedTuple):
    """A contrast between two arms.

    Attributes:
        arm, reference: that are compared.
        mechanism: why it should hold.
        refuted: what would refute it.
        margin: of an equivalence; None for superiority. An equivalence with a margin of 0 or less
            is inconclusive.
    """

    arm: Arm
    reference: Arm
    mechanism: str
    refuted: str
    margin: float | None = None

    @property
    def title(self) -> str:
        """Names of both arms."""
        return f"{self.arm.name} less {self.reference.name}"


def make_claims(design: InheritDesign, choices: Choices) -> list[Claim]:
    """The claims, from what was chosen in development; fewer for a carrier of one's own."""
    tested, carriers = design.tested, design.carriers
    weights = [name for name in carriers if carriers[name].knows == "weights" and name != tested]
    rivals = tuple((choices.best(body, weights), body) for body in design.claimed)
    own = {name: Arm(f"own: {name}", ((name, OWN),)) for name in (tested, CONSTANT, VALUE, SMALL)}
    everywhere = Arm(f"other bodies: {tested}", tuple((tested, body) for body in design.claimed))
    best_other = Arm("other bodies: best other carrier", rivals)
    permuted = {
        name: Arm(f"permuted: {name}", ((name, PERMUTED),))
        for name in (ON_TRUNK, CONSTANT_ON_TRUNK)
    }
    claims = [
        Claim(
            own[tested],
            own[CONSTANT],
            "it knows, before the first success, how near the newborn is to one",
            "no gain over the constant potential: what helps is its shift alone",
        ),
        Claim(
            everywhere,
            best_other,
            "a value says what to strive for, and needs no weights that fit the body",
            "another carrier does as well in bodies that weights do not fit",
        ),
    ]
    if tested != VALUE:
        claim = "it carries more than the parents' critic", "no gain over the parents' critic"
        return [*claims, Claim(own[tested], own[VALUE], *claim)]
    gain = choices.chosen[VALUE, OWN].score - choices.chosen[CONSTANT, OWN].score
    on_trunk = [
        Claim(
            permuted[ON_TRUNK],
            permuted[CONSTANT_ON_TRUNK],
            "the value goes on paying when copied weights have been overwritten",
            "a constant potential adds as much to copied weights",
        )
    ]
    return [
        *claims,
        *(on_trunk if PERMUTED in design.bodies else ()),
        Claim(
            own[SMALL],
            own[VALUE],
            "forty bytes hold what the critic teaches",
            "a difference beyond the margin",
            SHARE * gain,
        ),
    ]


def arms_of(claims: Sequence[Claim]) -> dict[str, Arm]:
    """Name -> arm of all claims, each once."""
    return {arm.name: arm for claim in claims for arm in (claim.arm, claim.reference)}


def detectable(claim: Claim, choices: Choices, pairs: int) -> float:
    """Difference that is detected with probability .8, by the newborns of the development."""
    means = [np.mean([choices.areas[cell] for cell in arm.cells], 0) for arm in claim[:2]]
    return stats.detectable(float(np.nanstd(means[0] - means[1], ddof=1)), pairs)


def make_claims_plan(design: InheritDesign, choices: Choices, claims: Sequence[Claim]) -> Plan:
    """The plan that is registered: arms, contrasts, their reasons, and all chosen numbers."""
    home, name = replace(design.suite, shifts=()), design.suite.name
    shifts = design.home.sealed_shifts(name)
    pairs = [(claim.arm.name, claim.reference.name) for claim in claims]
    config = replace(design.newborn_config, seeds=design.pairs)
    plan = make_plan(home, config, list(arms_of(claims)), primary=pairs[0])
    details: dict[str, float | str] = {"base": choices.base}
    for i, claim in enumerate(claims, 1):
        power = detectable(claim, choices, design.pairs)
        details[f"claim {i}"] = f"{claim.mechanism}; refuted by: {claim.refuted}"
        details[f"claim {i} detectable"] = power
        if claim.margin is not None:
            details[f"claim {i} margin"] = claim.margin
    for carrier, body in (cell for arm in arms_of(claims).values() for cell in arm.cells):
        for name, number in choices.chosen[carrier, body].numbers.items():
            details[f"{carrier}, {body}: {name}"] = number
    return replace(
        plan,
        secondary=tuple(pairs[1:]),
        sizes=plan.sizes | details,
        shifts=shifts,
        sealed=families(shifts),
        severities=(1.0,),
    )


def run_claims(
    run: InheritRun,
    choices: Choices,
    claims: Sequence[Claim],
    others: Mapping[str, Parent] = MappingProxyType({}),
) -> pd.DataFrame:
    """Register, freeze, draw the sealed worlds, raise the newborns -> a row each, with `arm`.

    Beside the trained parents, `others` are frozen by name.

    Raises:
        UserError: if another plan is registered in the folder, or something frozen has changed.
    """
    design, out = run.design, run.out
    seal.register_unchanged(out, make_claims_plan(design, choices, claims))
    arms = arms_of(claims)
    frozen = {
        arm.name: [run.base, *(choices.chosen[cell].numbers for cell in arm.cells)]
        for arm in arms.values()
    }
    for name, content in {"parents": run.parents["trained"], **others, **frozen}.items():
        if not seal.has_checkpoint(out, name):
            Checkpoints(out / "checkpoints" / safe_name(name), keep=1).save(0, content)
    seal.freeze_agents(out)
    digest = seal.draw_sealed(out)
    suite = design.home.sealed_suite(design.suite.name, digest)
    run.suites[SEALED], key = suite, seal.seal_key(digest)
    places = [Place(SEALED, shift.name) for shift in suite.shifts]
    newborns = [(design.dev_parents + i, place) for place in places for i in range(design.pairs)]
    raised = {
        (carrier, body): run.raise_cell(
            "claims", Cell(carrier, body, [choices.chosen[carrier, body].numbers], newborns), key
        )
        for carrier, body in dict.fromkeys(cell for arm in arms.values() for cell in arm.cells)
    }
    tables = [
        raised[cell].assign(arm=arm.name, carrier=cell[0], body=cell[1])
        for arm in arms.values()
        for cell in arm.cells
    ]
    table = pd.concat(tables, ignore_index=True)
    text = rows_as_csv(sealed_rows(design, suite, table), header=True)
    replace_file(out / seal.SCORES["sealed"], text)
    seal.enter_scores(out, "sealed")
    return table


def sealed_rows(design: InheritDesign, suite: Suite, table: pd.DataFrame) -> list[dict]:
    """Score rows of the claims, means over bodies; `score` is the area, `seed` counts the pairs."""
    family_of = {shift.name: shift.family for shift in suite.shifts}
    names = ["area", "success", "harm", "length"]
    means = table.groupby(["arm", "place", "pair"], sort=False)[names].mean().reset_index()
    common = dict.fromkeys(SCORES, np.nan) | {"env": design.suite.name, "severity": 1.0}
    common["episodes"] = design.config.episodes
    return [
        common
        | {"arm": row.arm, "shift": row.place, "family": family_of[row.place]}
        | {"seed": row.pair - design.dev_parents, "score": row.area}
        | {"success": row.success, "harm": row.harm, "length": row.length}
        for row in means.itertuples()
    ]


def planned_newborns(design: InheritDesign) -> int:
    """Newborns of all claims, about."""
    return (5 + 2 * len(design.claimed)) * SEALED_PLACES * design.pairs


class Verdict(NamedTuple):
    """Result of one claim.

    Attributes:
        claim: that was made.
        areas: of the arm and of its reference, means over pairs in which both are finite.
        contrast: estimate with its interval, p, and p after Holm over all claims.
        holds: whether it stands: p after Holm is below .05, and the difference above 0 if it is a
            claim of superiority.
    """

    claim: Claim
    areas: tuple[float, float]
    contrast: Contrast
    holds: bool


def verdicts(claims: Sequence[Claim], table: pd.DataFrame) -> list[Verdict]:
    """Contrasts of the claims over pairs: areas are means over sealed worlds and bodies first.

    Raises:
        UserError: if fewer than 3 pairs of a claim have finite areas.
    """
    by_pair = table.groupby(["arm", "pair"])["area"].mean().unstack("pair")
    scores: Mapping[str, np.ndarray] = {arm: row.to_numpy() for arm, row in by_pair.iterrows()}
    pairs = [(claim.arm.name, claim.reference.name) for claim in claims]
    rows = contrasts(scores, pairs, paired=True)
    for claim, row in zip(claims, rows, strict=True):
        if row.estimate is None:
            raise UserError(
                f"{claim.title}: fewer than {stats.FEWEST} pairs have finite areas; "
                "start again in another --out with more --seeds"
            )
    p_values = {
        i: row.p_value if claim.margin is None else p_equivalent(scores, claim)
        for i, (claim, row) in enumerate(zip(claims, rows, strict=True))
    }
    adjusted, results = stats.holm(p_values), []
    for i, (claim, row) in enumerate(zip(claims, rows, strict=True)):
        row = row._replace(p_value=p_values[i], p_holm=adjusted[i])
        better = claim.margin is not None or row.estimate.value > 0
        both = np.array([scores[arm] for arm in pairs[i]])
        areas = tuple(both[:, np.isfinite(both).all(0)].mean(1).tolist())
        results.append(Verdict(claim, areas, row, bool(row.p_holm < 0.05 and better)))
    return results


def p_equivalent(scores: Mapping[str, np.ndarray], claim: Claim) -> float:
    """P of two one-sided paired t tests (Schuirmann, 1987) of a difference within the margin."""
    from statsmodels.stats.weightstats import ttost_paired

    if not claim.margin > 0:
        return 1.0
    x, y = scores[claim.arm.name], scores[claim.reference.name]
    return float(ttost_paired(x, y, -claim.margin, claim.margin)[0])
