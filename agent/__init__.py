"""What learns and acts: the world model, its training, and the Agent that plans inside it.

    from latent_planner import Agent

    agent = Agent.from_pretrained("pusht")
    agent.reset()
    agent.set_goal(goal_pixels)        # uint8 (H, W, 3)
    action = agent.act(pixels)         # float32 (A,), in the environment's units

Everything else is imported from its own module.
"""

from __future__ import annotations

TYPE_CHECKING = False  # true for type checkers; typing is not imported, so that commands start quickly
if TYPE_CHECKING:
    from .agent import Agent as Agent

__all__ = ["Agent"]


def __getattr__(name: str) -> object:
    """Load torch only when the Agent is wanted, so that `import latent_planner.goal_image` stays quick."""
    if name == "Agent":
        import gc

        collecting = gc.isenabled()
        gc.disable()  # modules that load leave no garbage: looking for it takes a tenth of their time
        try:
            from .agent import Agent
        finally:
            if collecting:
                gc.enable()
        return Agent
    raise AttributeError(f"module 'agent' has no attribute {name!r}")
