"""What a user of train, plan and report may do wrong: errors whose message is one sentence for them."""

from __future__ import annotations

from latent_planner.checkpoints.checkpoint import CheckpointError
from latent_planner.checkpoints.sb3 import PolicyFileError
from latent_planner.common.engines.outcomes import EngineError
from latent_planner.envs import WorldError
from latent_planner.envs.recordings.journal import RecordingError
from latent_planner.goal_image import GoalImageError
from latent_planner.planners import PlanError
from latent_planner.report.registry import ReportError
from latent_planner.training.dataset import DatasetError
from latent_planner.training.run_state import TrainingError

from .overrides import ConfigError

USER_ERRORS: tuple[type[Exception], ...] = (
    CheckpointError,
    ConfigError,
    DatasetError,
    EngineError,
    GoalImageError,
    PlanError,
    PolicyFileError,
    RecordingError,
    ReportError,
    TrainingError,
    WorldError,
)
