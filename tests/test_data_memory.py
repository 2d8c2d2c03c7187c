"""Memory that is used again: never while an array, or a part of one, is still there."""

import gc

import numpy as np

from gluon_ran.data.memory import Memory


def address(array):
    return array.__array_interface__["data"][0]


def test_arrays_have_their_shape_and_can_be_written():
    array = Memory().array((2, 3, 4))
    array[...] = np.arange(24).reshape(2, 3, 4)
    assert array.dtype == np.float32 and array.flags.c_contiguous
    assert array.sum() == np.arange(24).sum()


def test_memory_is_used_again_once_the_array_is_gone():
    memory = Memory()
    first = memory.array((4, 5))
    second = memory.array((4, 5))
    assert address(first) != address(second)
    where = address(first)
    del first
    gc.collect()
    assert address(memory.array((2, 5))) == where


def test_a_part_keeps_all_of_it():
    memory = Memory()
    for part_of in (lambda a: a[1], lambda a: a.reshape(-1)[3:], lambda a: a.T[None][..., :1]):
        array = memory.array((3, 4))
        array[:] = 7
        part = part_of(array)
        del array
        gc.collect()
        others = [memory.array((3, 4)) for _ in range(3)]
        for other in others:
            other[:] = 0
        assert (part == 7).all()


def test_what_is_too_small_is_not_used():
    memory = Memory()
    memory.array((2,))
    gc.collect()
    large = memory.array((1000, 1000))
    large[:] = 1
    assert large.sum() == 1e6


def test_a_block_that_another_thread_took_first_is_none():
    class Taken(list):
        """As between a look at a list and a pop from it."""

        def pop(self):
            super().clear()
            return super().pop()

    memory = Memory()
    memory._free = Taken([np.empty(4, np.float32)])
    assert memory.array((2, 2)).shape == (2, 2)


def test_arrays_outlive_their_memory():
    array = Memory().array((5,))
    array[:] = 3
    gc.collect()
    assert (array == 3).all()
