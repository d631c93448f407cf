"""How much of the package `birefnet remove` of one picture crosses: files and functions.

    python benchmarks/path.py [--engine onnx openvino torch] [--model nano] [--list]

Counts the functions of this package that run, in all threads, and the files that they are in; what
runs while modules are imported is left out, and so are comprehensions and lambdas. Each engine has
a process of its own. `--list` prints the files with their functions.
"""

from __future__ import annotations

import argparse
import inspect
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from pathlib import Path
from types import FrameType

SOURCE = Path(__file__).resolve().parents[1] / "src"
PACKAGE = str(SOURCE / "birefnet")
EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "coffee.jpg"


def traced(arguments: list[str]) -> dict[str, set[str]]:
    """Run the command in this process: file, relative to the package → functions that ran."""
    sys.path.insert(0, str(SOURCE))
    from birefnet.cli.main import main as command

    functions: dict[str, set[str]] = defaultdict(set)

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        is_function = code.co_flags & inspect.CO_OPTIMIZED and not code.co_name.startswith("<")
        if event == "call" and is_function and code.co_filename.startswith(PACKAGE):
            while (caller := frame.f_back) is not None:
                if caller.f_code.co_name == "<module>" and PACKAGE in caller.f_code.co_filename:
                    return
                frame = caller
            functions[code.co_filename[len(PACKAGE) + 1 :]].add(code.co_qualname)

    threading.setprofile(note)
    sys.setprofile(note)
    sys.argv = ["birefnet", *arguments]
    try:
        command()
    except SystemExit as ended:
        if ended.code:
            raise
    finally:
        sys.setprofile(None)
    return functions


def main() -> None:
    """Print a table, a row for each engine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", nargs="+", default=["onnx", "openvino", "torch"])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--list", action="store_true", help="each file with its functions")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.one:
        print("| engine | files | functions |\n|---|--:|--:|", flush=True)
        for engine in options.engine:
            flags = ["--list"] * options.list
            command = [__file__, "--one", "--engine", engine, "--model", options.model, *flags]
            subprocess.run([sys.executable, *command], check=True)
        return
    (engine,) = options.engine
    with tempfile.TemporaryDirectory() as folder:
        wanted = ["--model", options.model, "--engine", engine, "--device", "cpu"]
        files = traced(["remove", str(EXAMPLE), "-o", f"{folder}/cutout.png", *wanted])
    print(f"| {engine} | {len(files)} | {sum(map(len, files.values()))} |")
    for file in sorted(files) if options.list else ():
        print(f"{file:<50} {', '.join(sorted(files[file]))}")


if __name__ == "__main__":
    main()
