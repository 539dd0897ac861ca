"""Runs a notebook in a folder of its own and fails where a cell does. `run-notebook.py NOTEBOOK`"""

import sys
import tempfile

import nbformat
from nbclient import NotebookClient


def main(path: str) -> None:
    notebook = nbformat.read(path, as_version=4)
    outputs = [cell for cell in notebook.cells if cell.cell_type == "code" and (cell.outputs or cell.execution_count)]
    if outputs:
        sys.exit(f"{path}: save it without outputs")
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()


if __name__ == "__main__":
    main(sys.argv[1])
