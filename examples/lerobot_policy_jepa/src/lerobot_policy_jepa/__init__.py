"""Plans to a goal picture inside a world model, as a LeRobot policy called `jepa`.

Importing this package registers it. LeRobot imports every installed distribution called lerobot_policy_…, and
finds the policy and its processors by the names of the modules beside `configuration_jepa`.
"""

from lerobot_policy_jepa.configuration_jepa import JepaConfig

__all__ = ["JepaConfig"]
