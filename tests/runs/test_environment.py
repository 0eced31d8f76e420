"""Where a run happens."""

from workbench.runs import environment


def test_git_state_says_when_files_were_changed(tmp_path):
    assert environment.git_state(tmp_path) == "no git"
    state = environment.git_state(environment.root())
    assert state == "no git" or len(state.removesuffix("-dirty")) >= 7
