"""Reach a goal picture: `python plan.py --goal goal.png`. The work is in cli/plan.py."""

import sys

try:
    from latent_planner.cli.__main__ import main
except ModuleNotFoundError as error:
    if error.name != "latent_planner":
        raise
    sys.exit("error: the project is not installed for this Python; run: python -m pip install -e .")

if __name__ == "__main__":
    sys.exit(main(["plan", *sys.argv[1:]]))
