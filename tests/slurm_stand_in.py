"""Stands in for a Slurm without accounting: jobs are processes of this machine, and sacct fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

COMMANDS = {
    "sbatch": r"""
script="${@: -1}" id=$(($(ls "$JOBS" | wc -l) + 1))
last=$(sed -n 's/#SBATCH --array=0-\([0-9]*\).*/\1/p' "$script")
mkdir "$JOBS/$id"
export SLURM_JOB_ID=$id SLURM_NTASKS=1 SLURM_PROCID=0
for task in $(seq 0 ${last:-0}); do
    name=$id
    if [ "$last" ]; then
        name=${id}_$task
        export SLURM_ARRAY_JOB_ID=$id SLURM_ARRAY_TASK_ID=$task
    fi
    bash "$script" > /dev/null 2>&1 &
    echo $! > "$JOBS/$id/$name"
done
echo Submitted batch job $id""",
    "srun": """
while [[ $1 == --* ]]; do
    [ $1 != --unbuffered ] && shift
    shift
done
exec "$@" """,
    "squeue": """
for file in "$JOBS"/*/*; do
    kill -0 $(cat "$file") 2> /dev/null && echo "${file##*/} RUNNING"
done
exit 0""",
    "sacct": "exit 1",
}


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the commands into a folder of the search path."""
    (folder / "bin").mkdir()
    (folder / "queue").mkdir()
    for name, script in COMMANDS.items():
        (folder / "bin" / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("JOBS", str(folder / "queue"))
