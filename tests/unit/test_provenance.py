"""The modules of a stage are found from its source, and their hash follows their bytes."""

from pathlib import Path

import pytest

from stradavit import provenance


def test_closure_follows_imports_and_leaves_out_what_has_no_effect(repository: Path) -> None:
    names = {
        path.relative_to(repository / "stradavit").as_posix()
        for path in provenance.imported_files("stradavit.evaluation.probe")
    }
    assert "evaluation/probe.py" in names
    assert "evaluation/folds.py" in names
    assert not any(name.startswith(("settings/", "training/", "paper/", "cli")) for name in names)


def test_hash_changes_with_an_indirect_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "stradavit"
    package.mkdir()
    (package / "a.py").write_text("from stradavit.b import x\n")
    (package / "b.py").write_text("def x():\n    from stradavit import c\n")
    (package / "c.py").write_text("y = 1\n")
    (package / "d.py").write_text("z = 1\n")
    monkeypatch.setattr(provenance, "PACKAGE_DIR", package)

    def fresh_hash() -> str:
        provenance._imports_of.cache_clear()
        provenance._file_of.cache_clear()
        return provenance.code_hash("stradavit.a")

    before = fresh_hash()
    (package / "d.py").write_text("z = 2\n")
    assert fresh_hash() == before
    (package / "c.py").write_text("y = 2\n")
    assert fresh_hash() != before
    provenance._imports_of.cache_clear()
    provenance._file_of.cache_clear()
