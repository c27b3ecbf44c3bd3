"""The console command: `latent-planner COMMAND ...`, also as `python -m latent_planner.cli COMMAND ...`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from latent_planner.common.starting import StopsAtOnce


class Command(NamedTuple):
    module: str  # below latent_planner; its `main(words)` runs the command and returns the exit code
    about: str


COMMANDS = {
    "train": Command("cli.train", "record a world, learn it, test what was learned"),
    "plan": Command("cli.plan", "reach a goal picture; run the benchmark"),
    "play": Command("cli.play.command", "set goals with the mouse on a page, watch the agent think"),
    "evaluate": Command("cli.scale.evaluate", "test many checkpoints on many goals, on many machines"),
    "report": Command("cli.report", "one page on what a trained model knows"),
    "looks": Command("cli.upkeep.looks", "measure what a model's frames look like: other goals are noticed"),
    "serve": Command("deploy.serve", "a policy server that openpi's client can talk to"),
    "export": Command("deploy.export", "write a checkpoint as ONNX or torch.export"),
    "collect": Command("envs.recordings.collect_command", "record a world under its behaviour policy"),
    "merge": Command("envs.recordings.sharded.merging", "check a folder of shards, make one file of it"),
    "relook": Command("envs.looks.relook", "draw a recording's frames once more in other looks"),
    "inspect": Command("envs.recordings.inspection", "what is in a recording, and a picture of some frames"),
    "convert": Command("envs.recordings.convert", "write any recording that is read here as a file of ours"),
    "from-videos": Command(
        "envs.recordings.from_videos", "make a recording of videos and a table of actions"
    ),
    "lewm": Command("checkpoints.lewm", "make a checkpoint of published LeWorldModel weights"),
    "landmarks": Command("cli.upkeep.landmarks", "let an older checkpoint plan to far goals"),
    "robust": Command("cli.upkeep.robust", "let a checkpoint see the same in other colours and light"),
    "coverage": Command("envs.coverage", "what the behaviour policy of a world covers"),
    "shifts": Command("envs.shifts", "the factors of variation of each world"),
    "pairs": Command("envs.goals.pairs", "write the benchmark's start/goal pairs again"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a sub-command. Returns its exit code: 0, 2 on a user error, 130 after Ctrl-C."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0
    name, *rest = words
    if name not in COMMANDS:
        print(f"error: there is no command {name!r}; choose from {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        with StopsAtOnce():
            command = importlib.import_module(f"latent_planner.{COMMANDS[name].module}")
        return command.main(rest)
    except KeyboardInterrupt:  # where the command itself does not catch it
        print("stopped", file=sys.stderr)
        return 130


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name.ljust(width)}  {command.about}" for name, command in COMMANDS.items()]
    return "\n".join(["usage: latent-planner COMMAND ...", "", *lines, "", "Each takes --help."])


if __name__ == "__main__":
    sys.exit(main())
