"""Tests against theory, published numbers and human data: one file a question.

A target is a value derived, measured or published elsewhere, and our value.
"""

from typing import NamedTuple


class Target(NamedTuple):
    """One row of the table of targets.

    Attributes:
        number: of the target, such as "T5".
        what: the quantity compared, in a few words.
        expected: the published or exact value, as text with its unit.
        ours: our value, as text, with its interval and number of seeds where it has them.
        passed: whether ours agrees with the expected one.
    """

    number: str
    what: str
    expected: str
    ours: str
    passed: bool
