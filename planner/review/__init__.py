"""The capacity-planning review: what a plan decides, what it costs to be wrong, and what comes next.

`review` makes the content from a plan and the catalogue; `sections` puts it into words and tables. Drawing and layout
belong to the shell.
"""

from planner.review.content import Review
from planner.review.sections import sections
from planner.review.story import review

__all__ = ["Review", "review", "sections"]
