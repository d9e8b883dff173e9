import pytest

from pathgen.errors import InputError
from pathgen.options import GenerateOptions
from pathgen.placement import ACTOR_OVERHEAD_BYTES, IN_FLIGHT, default_device, place_actors


@pytest.fixture
def place(tmp_path):
    """Places actors for a model of so many bytes."""

    def placement(device="cpu", *, jobs=100, weights=1000, memory=1 << 60, cpus=16.0, gpus=0.0, **options):
        (tmp_path / "model.safetensors").write_bytes(bytes(weights))
        offered = {"CPU": cpus, "GPU": gpus, "memory": memory}
        return place_actors(GenerateOptions("run", **options), device, offered, tmp_path, jobs)

    return placement


def test_on_cpu_one_actor_for_four_cores(place):
    found = place(cpus=16)
    assert (found.num_actors, found.threads, found.resources, found.in_flight) == (4, 4, {"CPU": 4.0}, IN_FLIGHT["cpu"])
    assert (place(cpus=2).num_actors, place(cpus=2).threads) == (1, 2)


def test_no_more_actors_than_questions_and_the_cores_go_round(place):
    found = place(cpus=16, jobs=2)
    assert (found.num_actors, found.threads, found.resources) == (2, 8, {"CPU": 8.0})


def test_no_more_actors_than_fit_the_memory_but_one(place):
    each = 2 * 1000 + ACTOR_OVERHEAD_BYTES
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
        ({"cpus": 2, "actors": 3}, "--actors 3 on cpu asks for 3 CPUs and there are 2"),
        ({"device": "cuda", "gpus": 0}, "--actors 1 on cuda asks for 1 GPUs and there are 0"),
        ({"device": "cuda", "gpus": 1, "actors": 2}, "asks for 2 GPUs and there are 1"),
        ({"device": "cuda", "gpus": 2, "gpus_per_actor": 4}, "asks for 4 GPUs and there are 2"),
    ],
)
def test_more_than_there_is_cannot_be_had(place, offer, says):
    with pytest.raises(InputError, match=says):
        place(**offer)


def test_the_device_is_cuda_where_there_is_one(monkeypatch):
    for there, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        assert default_device(None) == device
