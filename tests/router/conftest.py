"""A folder of paths that the tests of commands share."""

import pytest


@pytest.fixture
def no_ray(monkeypatch):
    """Features are there already: nothing may start Ray."""

    def refuse(*args, **kwargs):
        raise AssertionError("this must not be reached")

    monkeypatch.setattr("pathgen.actors.fleet_run.connect", refuse)


@pytest.fixture(scope="session")
def paths(tmp_path_factory, tiny_model):
    """A folder of 24 questions, half of which skip the first layer and half repeat the second; features included."""
    from router_commands import fill_features, path_folder, records

    out = path_folder(tmp_path_factory.mktemp("paths") / "run", tiny_model, records(24))
    fill_features(out, tiny_model)
    return out
