"""What a compiled flow depends on in its folder: its own files, and of other flows only what it names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from metaflow_orchestration.compile.inputs.source_files import may_run_a_flow, source_files

FLOW = "from metaflow import FlowSpec, step\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two flows, the base class of one of them, a helper and a package."""
    for name, text in {
        "train.py": f"{FLOW}from base import Base\n",
        "score.py": FLOW,
        "base.py": f"{FLOW}import roots\n",
        "roots.py": f"{FLOW}",
        "helper.py": "x = 1\n",
        "model.R": "x <- 1\n",
        "lib/__init__.py": "",
        "lib/deep/code.py": "y = 2\n",
        ".hidden/away.py": "z = 3\n",
        "notes.txt": "no source\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def names(folder: Path, flow: str) -> list[str]:
    return [str(one.path.relative_to(folder)) for one in source_files(folder / flow)]


def test_another_flow_counts_only_if_it_is_named(folder: Path) -> None:
    """All flows of a folder were compiled again, and got a new DAG version, when one of them was edited."""
    helpers = ["helper.py", "lib/__init__.py", "lib/deep/code.py", "model.R"]
    assert names(folder, "score.py") == sorted([*helpers, "score.py"])
    # By way of the base class, too.
    assert names(folder, "train.py") == sorted([*helpers, "base.py", "roots.py", "train.py"])


@pytest.mark.parametrize("text", ["def lazily():\n    import score\n", "module = import_module('score')\n"])
def test_a_flow_that_a_step_or_a_helper_imports_when_it_runs_counts(folder: Path, text: str) -> None:
    (folder / "helper.py").write_text(text)
    assert "score.py" in names(folder, "train.py")


def test_what_cannot_be_read_and_what_is_installed_beside_the_flow_does_not_count(folder: Path) -> None:
    """A dangling link, as editors make for their locks, failed the compile of each flow of the folder."""
    (folder / ".#score.py").symlink_to("ann@laptop.1234")
    (folder / "dangling.py").symlink_to("gone.py")
    (folder / "venv/lib").mkdir(parents=True)
    (folder / "venv/pyvenv.cfg").touch()
    (folder / "venv/lib/installed.py").write_text("x = 1\n")
    assert names(folder, "score.py") == ["helper.py", "lib/__init__.py", "lib/deep/code.py", "model.R", "score.py"]


def test_a_linked_folder_counts_once_and_a_circle_of_links_ends(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Metaflow packages what is behind a link."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "shared.py").write_text("x = 1\n")
    (folder / "shared").symlink_to(elsewhere)
    (folder / "circle").symlink_to(folder)
    assert "shared/shared.py" in names(folder, "score.py")
    before = [one.digest for one in source_files(folder / "score.py")]
    (elsewhere / "shared.py").write_text("x = 2\n")
    assert [one.digest for one in source_files(folder / "score.py")] != before


def test_a_module_of_base_classes_is_no_flow_file_and_a_flow_need_not_name_its_root(folder: Path) -> None:
    """The first failed all DAGs of its folder; a flow that is derived from one was passed over in silence."""
    run = '\n\nif __name__ == "__main__":\n    TrainFlow()\n'
    (folder / "roots.py").write_text(f"{FLOW}\n\nclass Root(FlowSpec):\n    pass\n")
    (folder / "train.py").write_text(f"from base import Base\n\n\nclass TrainFlow(Base):\n    pass{run}")
    (folder / "script.py").write_text(f"class TrainFlow(object):\n    pass{run}")
    found = {path.name for path in folder.glob("*.py") if may_run_a_flow(path)}
    assert found == {"train.py"}
    (folder / "bare.py").write_text("from metaflow import FlowSpec\nclass Bare(FlowSpec):\n    pass\nBare()\n")
    assert may_run_a_flow(folder / "bare.py")


def test_a_flow_of_bytes_that_are_no_text_is_read_and_one_that_is_gone_is_an_error(folder: Path) -> None:
    (folder / "score.py").write_bytes(b"\xff\xfeFlowSpec")
    assert os.fsencode("score.py") in [os.fsencode(name) for name in names(folder, "score.py")]
    with pytest.raises(OSError, match=r"gone\.py"):
        source_files(folder / "gone.py")
