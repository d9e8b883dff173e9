from __future__ import annotations

import secrets

import pytest


@pytest.fixture(scope="session", autouse=True)
def ray_token(tmp_path_factory):
    """Ray keeps its token here, not in the home directory."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("ray") / "token"
        path.write_text(secrets.token_hex(32))
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(path))
        yield


@pytest.fixture(scope="module")
def local_ray():
    """One Ray with two CPUs for a module's tests; gives its address. Others connect for themselves afterwards."""
    import ray

    context = ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield context.address_info["gcs_address"]
    ray.shutdown()
