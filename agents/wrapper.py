"""Base of agents that are another agent but for a change of what it observes, does or learns."""

from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class AgentWrapper:
    """Agent that is the one inside, with the same state, but for what a subclass changes.

    Attributes:
        agent: the one inside. Settings and methods that the wrapper does not have are those of it.
    """

    agent: Any

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "agent":  # the latter while a copy is being made
            raise AttributeError(name)
        return getattr(self.agent, name)


def with_settings(agent: Any, **settings: Any) -> Any:
    """The agent with other settings; those that a wrapper does not have are of the agent inside.

    Raises:
        TypeError: for a setting that the agent does not have.
    """
    if not settings:
        return agent
    if isinstance(agent, AgentWrapper):
        inside = settings.keys() - {field.name for field in fields(agent)}
        changed = with_settings(agent.agent, **{name: settings.pop(name) for name in inside})
        settings = {"agent": changed} | settings
    return replace(agent, **settings)
