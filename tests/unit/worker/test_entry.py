import pytest

from lando_worker import entry
from lando_worker.result import WorkflowFailure


@pytest.fixture
def clone(tmp_path):
    clone = tmp_path / "toy"
    (clone / "inner" / "toy").mkdir(parents=True)
    (clone / "w.cwl").touch()
    (clone / "inner" / "v.cwl").touch()
    (clone / "out").symlink_to("/etc")
    (clone / "passwd").symlink_to("/etc/passwd")
    (clone / "alias").symlink_to("inner")
    return clone


@pytest.mark.parametrize(
    ("cd", "where"),
    [
        (".", ""),
        ("toy", ""),
        ("toy/inner", "inner"),
        ("inner", "inner"),
        ("./inner/", "inner"),
        ("inner/toy", "inner/toy"),
        ("alias", "alias"),
        ("inner/../inner", "inner"),
    ],
)
def test_cd_is_the_clone_or_a_directory_in_it(clone, cd, where):
    assert entry.directory(clone, cd).resolve() == (clone / where).resolve()


@pytest.mark.parametrize("cd", ["..", "../..", "/etc", "toy/../..", "out", "inner/../../x"])
def test_cd_may_not_leave_the_clone(clone, cd):
    with pytest.raises(WorkflowFailure, match=r"cd: .* is outside the clone"):
        entry.directory(clone, cd)


def test_a_missing_directory_lists_the_existing_ones(clone):
    with pytest.raises(WorkflowFailure, match=r"no directory iner; the directories in it: alias, inner, out"):
        entry.directory(clone, "iner")


def test_document_and_fragment(clone):
    assert entry.document(clone, clone, "w.cwl#main") == f"{clone}/w.cwl#main"
    assert entry.document(clone, clone / "inner", "../w.cwl") == f"{clone}/inner/../w.cwl"


@pytest.mark.parametrize("run_cwl", ["/etc/passwd", "../../etc/passwd", "passwd", "out/passwd"])
def test_run_cwl_may_not_leave_the_clone(clone, run_cwl):
    with pytest.raises(WorkflowFailure, match=r"run_cwl: .* is outside the clone"):
        entry.document(clone, clone, run_cwl)


@pytest.mark.parametrize("run_cwl", ["x.cwl", "inner", ""])
def test_a_missing_document_lists_the_existing_ones(clone, run_cwl):
    with pytest.raises(WorkflowFailure, match=r"no file .*; the CWL documents in it: w.cwl"):
        entry.document(clone, clone, run_cwl)


@pytest.mark.parametrize("name", ["n" * 300, "d/" * 3000])
def test_a_name_that_is_too_long_is_not_there(clone, name):
    with pytest.raises(WorkflowFailure, match="the clone has no directory"):
        entry.directory(clone, name)
    with pytest.raises(WorkflowFailure, match="there is no file"):
        entry.document(clone, clone, name)
