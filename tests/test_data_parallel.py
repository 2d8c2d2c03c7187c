"""Work in threads: its order, how far it goes ahead, its errors and its end."""

import threading
import time

import pytest

from gluon_ran.data.parallel import cores, map_ahead


def alive():
    return {t for t in threading.enumerate() if t.name.startswith("ThreadPoolExecutor")}


def test_there_is_a_core():
    assert cores() >= 1


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("ahead", [0, 2, 100])
def test_results_come_in_order(threads, ahead):
    def slow_at_first(number):
        time.sleep(0.01 if number == 0 else 0)
        return -number

    before = alive()
    assert list(map_ahead(slow_at_first, range(9), threads, ahead)) == [-n for n in range(9)]
    assert alive() == before
    assert list(map_ahead(slow_at_first, [], threads, ahead)) == []


def test_no_more_is_begun_than_told():
    taken = []
    results = map_ahead(str, (taken.append(n) or n for n in range(100)), 2, 3)
    assert taken == []
    for given in range(5):
        assert next(results) == str(given)
        assert taken == list(range(given + 4))
    results.close()
    assert len(taken) == 8


def test_two_threads_work_at_once():
    both = threading.Barrier(2)
    assert sorted(map_ahead(lambda _: both.wait(timeout=10), range(2), 2, 1)) == [0, 1]


def test_an_error_comes_in_its_place_and_ends_the_threads():
    before = alive()
    results = map_ahead(lambda n: 6 // n, (3, 2, 0, 1), 2, 4)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert list(results) == [] and alive() == before


def test_what_is_not_begun_is_left_when_the_iterator_is():
    done, go_on = [], threading.Event()

    def work(number):
        if number:
            go_on.wait(10)
        done.append(number)

    before = alive()
    results = map_ahead(work, range(50), 1, 20)
    next(results)
    threading.Timer(0.05, go_on.set).start()
    del results
    assert alive() == before and len(done) <= 3
