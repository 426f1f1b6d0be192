"""A target: a value that somebody else derived, measured or published, and what we get."""

from typing import NamedTuple


class Target(NamedTuple):
    """One row of the table of targets.

    Attributes:
        number: of the target in the science, such as "T5".
        what: is compared, in a few words.
        expected: the published or exact value, as text with its unit.
        ours: what we get, as text, with its interval and number of seeds where it has them.
        passed: whether it is as it should be.
    """

    number: str
    what: str
    expected: str
    ours: str
    passed: bool
