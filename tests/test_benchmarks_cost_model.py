import pytest
from benchmark_modules import imported


@pytest.fixture
def cost_model(monkeypatch):
    with imported(monkeypatch, "cost_model") as (module,):
        yield module


def test_the_page_has_the_tables_of_today(cost_model, capsys):
    """If this fails, run `python benchmarks/cost_model.py`."""
    assert cost_model.main(["--check"]) == 0
    assert capsys.readouterr().out == "up to date\n"


def test_a_ring_sends_twice_the_gradients_less_what_is_a_workers_own(cost_model, monkeypatch):
    monkeypatch.setattr(cost_model, "MESSAGE_SECONDS", 0)
    assert cost_model.ring_seconds(10**9, 2, 8e9) == pytest.approx(1.0)
    assert cost_model.ring_seconds(10**9, 64, 8e9) == pytest.approx(2 * 63 / 64)
    assert cost_model.ring_seconds(10**9, 1, 8e9) == 0


def test_servers_share_the_gradients(cost_model, monkeypatch):
    monkeypatch.setattr(cost_model, "MESSAGE_SECONDS", 0)
    seconds = [cost_model.server_seconds(10**9, 8, servers, 8e9) for servers in (1, 2, 8, 16)]
    assert seconds == pytest.approx([16, 8, 2, 2])


def test_messages_take_their_time(cost_model):
    assert cost_model.ring_seconds(0, 64, 1e9) == pytest.approx(2 * 126 * 50e-6)
    assert cost_model.server_seconds(0, 64, 1, 1e9) == pytest.approx(4 * 50e-6)


def test_a_larger_batch_leaves_more_of_the_speed(cost_model):
    job = cost_model.Job("some", "here", 32, 0.1, 10**6)
    assert cost_model.efficiency(job, 0.1) == pytest.approx(0.5)
    assert cost_model.batch_for(0.5, job, 0.1) == 32
    assert cost_model.batch_for(0.9, job, 0.1) == pytest.approx(288, abs=1)


def test_measured_steps_come_first_and_gradients_are_float32(cost_model):
    row = {
        "job": "training", "form": "bfloat16", "model": "attention56", "batch_size": 8,
        "images_per_second": {"median": 16.0},
    }  # fmt: skip
    first, *others = cost_model.jobs({"results": [row, {**row, "form": "float32"}]})
    assert (first.batch, first.seconds, first.gradients) == (8, 0.5, 4 * 31_810_728)
    assert [job.where for job in others] == ["a GPU, assumed"] * 4
