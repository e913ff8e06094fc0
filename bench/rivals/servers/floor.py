"""The local AWS by itself: one post for each frame, and nothing else."""

from __future__ import annotations

from pathlib import Path

from bench.rivals.servers import naive

if __name__ == "__main__":
    naive.main(Path(__file__).with_name("floor_functions.py"))
