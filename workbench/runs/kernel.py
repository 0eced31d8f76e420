"""Execute one notebook with papermill, on the interpreter that runs this code, and say what went
wrong in one line.

The kernel works in the notebook's own folder (as in JupyterLab), imports this very checkout of the
package, and finds its kernel in a temporary kernelspec: an installed `python3` kernel that points
elsewhere is never used. What kernels write to the terminal (crashes of native code, say) goes to
kernel.log in the run's folder.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from workbench.runs.content import root

KERNEL = "workbench-run"
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    # other people's bars would stay in the outputs; ours are shown by `run.track`
    "TQDM_DISABLE": "1",
    "PYTHONWARNINGS": "ignore:IProgress not found",
}


def execute(
    notebook: Path, executed: Path, parameters: Mapping[str, object], folder: Path
) -> str | None:
    """Run a notebook into `executed`; returns None, or the error as one line. `folder` takes the
    run's output."""
    import papermill

    with (
        _kernel_environment(folder, notebook.resolve().parents[1]),
        _stderr_into(folder / "kernel.log"),
    ):
        try:
            done = papermill.execute_notebook(
                _literal(notebook),
                _literal(executed),
                dict(parameters),
                kernel_name=KERNEL,
                language="python",
                cwd=str(notebook.parent),
                progress_bar=False,
                start_timeout=300,
            )
        except papermill.PapermillExecutionError as error:
            return f"cell [{error.exec_count}]: {error.ename}: {_first_line(error.evalue)}"
        except (
            Exception
        ) as error:  # a kernel that died, a notebook that is no notebook, a full disk
            return f"{type(error).__name__}: {_first_line(str(error))}"
    return unfinished(done)


def unfinished(executed) -> str | None:
    """Why an executed notebook is not complete: a code cell failed or was never reached (as after
    `sys.exit(0)`)."""
    cells = [cell for cell in executed.cells if cell.cell_type == "code" and cell.source.strip()]
    for cell in cells:
        for output in cell.outputs:
            if output.output_type == "error":
                return (
                    f"cell [{cell.execution_count}]: {output.ename}: {_first_line(output.evalue)}"
                )
    pending = sum(cell.execution_count is None for cell in cells)
    return f"{pending} of {len(cells)} code cells were not executed" if pending else None


@contextmanager
def _stderr_into(path: Path) -> Iterator[None]:
    """Send this process's stderr, which kernels inherit, to a file."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(terminal, 2)
        os.close(terminal)


def _literal(path: Path) -> str:
    """papermill fills in `{...}` in paths; doubled braces stand for themselves."""
    return str(path.resolve()).replace("{", "{{").replace("}", "}}")


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


@contextmanager
def _kernel_environment(folder: Path, base: Path) -> Iterator[None]:
    """Set the environment that the kernel inherits, and take it back afterwards."""
    with tempfile.TemporaryDirectory(prefix="workbench-kernel-") as place:
        _write_kernelspec(Path(place))
        before = dict(os.environ)
        os.environ.update(
            OFFLINE, WORKBENCH_RUN_DIR=str(folder.resolve()), WORKBENCH_ROOT=str(base)
        )
        os.environ["JUPYTER_PATH"] = os.pathsep.join(
            filter(None, [place, before.get("JUPYTER_PATH")])
        )
        os.environ["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(root()), before.get("PYTHONPATH")])
        )
        os.environ.pop("MPLBACKEND", None)  # the kernel's own default is inline
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _write_kernelspec(place: Path) -> None:
    from ipykernel.kernelspec import get_kernel_dict

    spec = get_kernel_dict()
    spec["argv"][0] = sys.executable
    folder = place / "kernels" / KERNEL
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps(spec))
