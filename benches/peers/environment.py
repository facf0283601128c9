"""Programs that install what they measure: the virtual environment they run in."""

import os
import subprocess
import sys
from pathlib import Path


def enter(venv, packages):
    """Starts the program again in the environment, which is made when it is not there; what cannot be installed is left out."""
    if Path(sys.prefix).resolve() == Path(venv).resolve():
        return
    python = Path(venv) / "bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        for package in packages:
            if subprocess.run([python, "-m", "pip", "install", "-q", package]).returncode:
                print(f"{package} cannot be installed here and is left out", file=sys.stderr)
    os.execv(python, [str(python), *sys.argv])
