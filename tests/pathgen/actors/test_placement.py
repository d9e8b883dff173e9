from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from pathgen.actors.placement import (
    ACTOR_OVERHEAD_BYTES,
    CORES_PER_ACTOR,
    IN_FLIGHT,
    check_disks,
    only_node,
    place_actors,
)
from pathgen.errors import InputError
from pathgen.generate.options import GenerateOptions
from pathgen.models.devices import default_device
from pathgen.store.files import open_folder


@dataclass
class FakeSession:
    """Nodes that are claimed: an embedded Ray has one."""

    offered: list[dict[str, Any]] = field(default_factory=list)
    address: str | None = None

    def nodes(self) -> list[dict[str, Any]]:
        return self.offered

    def this_node(self) -> str:
        return "here"


def node(cpus=16.0, gpus=0.0, memory=1 << 60) -> dict[str, float]:
    return {"CPU": cpus, "GPU": gpus, "memory": memory}


@pytest.fixture
def place(tmp_path):
    """Places actors for a model of so many weights."""

    def placement(device="cpu", *, jobs=100, weights=1000, memory=1 << 60, cpus=16.0, gpus=0.0, **options):
        save_file({"w": np.zeros(weights, np.float16)}, tmp_path / "model.safetensors")
        session = FakeSession([node(cpus, gpus, memory)])
        return place_actors(GenerateOptions("run", **options), device, session, tmp_path, jobs)

    return placement


@pytest.fixture
def place_on(tmp_path):
    """Places actors on a cluster's nodes."""

    def placement(nodes, device="cpu", **options):
        save_file({"w": np.zeros(1000, np.float16)}, tmp_path / "model.safetensors")
        session = FakeSession(nodes, "127.0.0.1:6379")
        return place_actors(GenerateOptions("run", **options), device, session, tmp_path, 100)

    return placement


def test_on_cpu_one_actor_for_four_cores(place):
    found = place(cpus=16)
    assert (found.num_actors, found.threads, found.resources, found.in_flight) == (4, 4, {"CPU": 4.0}, IN_FLIGHT["cpu"])
    assert (place(cpus=2).num_actors, place(cpus=2).threads) == (1, 2)


def test_no_more_actors_than_questions_and_the_cores_go_round(place):
    found = place(cpus=16, jobs=2)
    assert (found.num_actors, found.threads, found.resources) == (2, 8, {"CPU": 8.0})


def test_no_more_actors_than_fit_the_memory_but_one(place):
    each = 4 * 1000 + ACTOR_OVERHEAD_BYTES
    assert place(cpus=16, memory=3 * each).num_actors == 3
    assert place(cpus=16, memory=each // 2).num_actors == 1


def test_what_is_asked_for_is_taken(place):
    found = place(cpus=4, actors=2, threads_per_actor=1, in_flight=7)
    assert (found.num_actors, found.threads, found.in_flight) == (2, 1, 7)
    assert found.resources == {"CPU": 1.0}


def test_more_threads_than_cores_ask_ray_for_no_more_than_there_is(place):
    found = place(cpus=2, actors=2, threads_per_actor=8)
    assert (found.threads, found.resources) == (8, {"CPU": 1.0})


def test_on_cuda_one_actor_a_gpu_or_a_share_of_one(place):
    assert place("cuda", gpus=3).num_actors == 3
    found = place("cuda", gpus=2, gpus_per_actor=0.5)
    assert (found.num_actors, found.devices_per_actor, found.resources) == (4, 1, {"CPU": 1.0, "GPU": 0.5})
    large = place("cuda", gpus=8, gpus_per_actor=4)
    assert (large.num_actors, large.devices_per_actor, large.in_flight) == (2, 4, IN_FLIGHT["cuda"])


@pytest.mark.parametrize(
    ("offer", "says"),
    [
        (
            {"cpus": 2, "actors": 3},
            "3 CPUs are asked for, 1 an actor on cpu, and there are 2; .* --threads-per-actor",
        ),
        ({"device": "cuda", "gpus": 0}, "1 GPUs are asked for, 1 an actor on cuda, and there are 0"),
        (
            {"device": "cuda", "gpus": 1, "actors": 2},
            "2 GPUs are asked for, .* there are 1; .* --gpus-per-actor",
        ),
        (
            {"device": "cuda", "gpus": 2, "gpus_per_actor": 4},
            "4 GPUs are asked for, 4 an actor on cuda, .* 2",
        ),
    ],
)
def test_more_than_there_is_cannot_be_had(place, offer, says):
    with pytest.raises(InputError, match=says):
        place(**offer)


@pytest.mark.parametrize(
    ("cpus", "actors", "cores"),
    [
        ([0, 2, 2, 2], 3, 2),  # a node with few cores gets one actor all the same
        ([6, 6], 2, 6),
        ([16, 4], 5, 4),
        ([16, 6], 5, 4),  # the sixth and fifth core of the small one stay free: actors are alike
    ],
)
def test_actors_fit_on_the_nodes_not_on_their_sum(place_on, cpus, actors, cores):
    nodes = [node(count) for count in cpus]
    found = place_on(nodes)
    assert (found.num_actors, found.resources) == (actors, {"CPU": cores})
    assert found.fitting(nodes) == actors


def test_the_cores_go_round_where_the_number_is_given(place_on):
    assert place_on([node(6), node(6)], actors=3).resources == {"CPU": 3}
    assert place_on([node(6), node(6)], actors=4).resources == {"CPU": 3}
    assert place_on([node(6), node(6)], actors=5).resources == {"CPU": 2}


def test_threads_that_are_asked_for_on_a_cluster_are_cores_so_that_actors_wait_for_nodes(place_on):
    assert place_on([node(16)], actors=8, threads_per_actor=8).resources == {"CPU": 8}
    assert place_on([node(0), node(6)], actors=8, threads_per_actor=8).resources == {"CPU": 6}
    assert place_on([node(0)], actors=8, threads_per_actor=8).resources == {"CPU": 8}


def test_a_fleet_fits_what_the_cluster_has_by_now(place_on):
    found = place_on([node(4)])
    assert found.fitting([node(4), node(2), node(9)]) == 3
    assert found.fitting([node(9, memory=1)]) == 1
    assert found.fitting([]) == 0
    assert place_on([node(16)], threads_per_actor=1).fitting([node(16)]) == 4
    cuda = place_on([node(8, gpus=2)], "cuda", gpus_per_actor=0.5)
    assert cuda.num_actors == 4
    assert cuda.fitting([node(8, gpus=2), node(3, gpus=4), node(8)]) == 4 + 3


def test_a_cluster_may_be_asked_for_more_than_it_has_now(place_on):
    assert place_on([node(0)]).num_actors == 1
    assert place_on([node(0)]).resources == {"CPU": CORES_PER_ACTOR}
    assert place_on([node(0)], "cuda", actors=8).num_actors == 8
    assert place_on([node(2)], actors=5).resources == {"CPU": 1}


def test_the_device_is_cuda_where_there_is_one(monkeypatch):
    for there, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        assert default_device() == device


def test_a_fleet_follows_its_clusters_nodes_unless_its_size_or_its_node_is_given(tmp_path):
    save_file({"w": np.zeros(1000, np.float16)}, tmp_path / "model.safetensors")
    options, cluster = GenerateOptions("run"), FakeSession([node(8)], "127.0.0.1:6379")
    placement = place_actors(options, "cpu", cluster, tmp_path, 100)
    size = placement.fleet_size(options, cluster, None)
    assert callable(size)
    before = size()
    cluster.offered = [node(8), node(8)]
    assert size() == 2 * before
    assert placement.fleet_size(options, cluster, "here") == placement.num_actors
    assert placement.fleet_size(GenerateOptions("run", actors=3), cluster, None) == placement.num_actors
    assert placement.fleet_size(options, FakeSession([node(8)]), None) == placement.num_actors


def test_actors_stay_where_a_local_folder_is():
    disk, cluster = open_folder("run")[0], FakeSession([node()], "127.0.0.1:6379")
    assert only_node(disk, cluster, shared_fs=False) == "here"
    assert only_node(disk, cluster, shared_fs=True) is None
    assert only_node(disk, FakeSession([node()]), shared_fs=False) is None
    assert only_node(open_folder("memory://run")[0], cluster, shared_fs=False) is None


def test_a_local_folder_of_several_nodes_is_refused():
    disk = open_folder("run")[0]
    with pytest.raises(InputError, match="--out run is a local folder and the cluster has 2 nodes"):
        check_disks("--out run", disk, 2, shared_fs=False)
    check_disks("--out run", disk, 1, shared_fs=False)
    check_disks("--out run", disk, 2, shared_fs=True)
    check_disks("--out memory://run", open_folder("memory://run")[0], 2, shared_fs=False)
