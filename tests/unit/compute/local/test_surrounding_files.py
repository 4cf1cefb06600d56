"""What lies around a flow is linked to where its package is unpacked, and the search for it has an end."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_metaflow.compute.local import surrounding_files
from airflow_provider_metaflow.compute.local.surrounding_files import content_path, link_surroundings


def files(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def shown(flows: Path, tmp_path: Path, **packaged: str) -> Path:
    """Unpack a package of these files and show what lies around it; return its folder."""
    content = tmp_path / "cache" / content_path(flows)
    files(content, **{"flow_py": "old", **packaged})
    link_surroundings(flows, content)
    return content


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    folder = tmp_path / "project/flows"
    files(folder, flow_py="new", data_csv="1", model__weights_bin="w", model__net_py="new")
    files(tmp_path / "project", shared_yaml="a: 1")
    return folder


def test_data_beside_the_flow_and_above_it_is_there_and_code_is_that_of_the_package(
    flows: Path, tmp_path: Path
) -> None:
    content = shown(flows, tmp_path)
    assert (content / "flow.py").read_text() == "old"
    assert (content / "data.csv").read_text() == "1"
    assert (content / "../shared.yaml").resolve().read_text() == "a: 1"
    assert (content / "model/weights.bin").read_text() == "w"
    assert not (content / "model/net.py").exists()


def test_links_that_lead_back_or_to_themselves_end(flows: Path, tmp_path: Path) -> None:
    (flows / "again").symlink_to(".")
    (flows / "model/up").symlink_to("../..")
    (flows / "itself").symlink_to("itself")
    content = shown(flows, tmp_path)
    assert (content / "data.csv").read_text() == "1"
    assert not (content / "again").exists()
    assert not (content / "model/up").exists()


def test_a_folder_that_is_linked_into_the_project_is_shown_like_one_of_its_own(flows: Path, tmp_path: Path) -> None:
    files(tmp_path / "library", code_py="new", table_csv="2")
    (flows / "library").symlink_to(tmp_path / "library")
    content = shown(flows, tmp_path, library__code_py="old")
    assert (content / "library/code.py").read_text() == "old"
    assert (content / "library/table.csv").read_text() == "2"


def test_a_flow_in_the_root_of_the_file_system_gets_nothing_linked(tmp_path: Path) -> None:
    link_surroundings(Path("/"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_tree_that_is_no_project_is_not_walked_to_its_end(
    flows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surrounding_files, "_MOST_FOLDERS", 3)
    for number in range(9):
        files(flows / f"z{number}", code_py="new", table_csv="2")
    content = shown(flows, tmp_path)
    tables = [path for path in content.glob("z*/table.csv") if path.exists()]
    assert len(tables) == 1, "the flow's folder, that of its model, and one more"


def test_a_folder_of_very_many_files_is_data(flows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surrounding_files, "_MOST_LOOKED_AT", 5)
    for number in range(9):
        files(flows / "images", **{f"a{number}_png": "p"})
    assert (shown(flows, tmp_path) / "images").is_symlink()
