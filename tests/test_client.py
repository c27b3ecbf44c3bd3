"""The wire format: what openpi's clients write and read, and what is refused before anything is allocated."""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np
import pytest

from latent_planner.deploy.client import WireError, pack, unpack


def array_map(data: Any = b"\0" * 6, dtype: Any = "|u1", shape: Any = (1, 2, 3)) -> bytes:
    return msgpack.packb({b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape})


@pytest.mark.parametrize("dtype", ["|b1", "|u1", "|i1", "<i2", "<u4", "<i8", "<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3, 4)])
def test_arrays_come_back_as_they_were(dtype: str, shape: tuple) -> None:
    array = np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape)
    found = unpack(pack({"a": array}))["a"]
    assert found.dtype == array.dtype and found.shape == shape and np.array_equal(found, array)


def test_plain_values_and_numpy_numbers_come_back() -> None:
    value = {"s": "text", "i": 3, "f": 0.5, "n": None, "t": True, "l": [1, [2, {"x": b"raw"}]]}
    assert unpack(pack(value)) == value
    found = unpack(pack({"a": np.float32(0.25), "b": np.int64(-7), "c": np.bool_(True)}))
    assert (found["a"].dtype, found["b"].dtype, found["c"].dtype) == (np.float32, np.int64, np.bool_)
    assert (found["a"], found["b"], found["c"]) == (0.25, -7, True)


def test_the_bytes_are_those_of_openpi() -> None:
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    theirs = msgpack.packb(
        {"image": {b"__ndarray__": True, b"data": picture.tobytes(), b"dtype": "|u1", b"shape": (2, 2, 3)}}
    )
    assert pack({"image": picture}) == theirs
    assert pack(np.float32(2)) == msgpack.packb({b"__npgeneric__": True, b"data": 2.0, b"dtype": "<f4"})
    turned = picture.transpose(1, 0, 2)[:, ::-1]
    assert np.array_equal(unpack(pack(turned)), turned), "also of arrays that are not contiguous"


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.array([1j]),
        np.array(["t"]),
        np.zeros(2, "M8[s]"),
        np.zeros(1, "i4,f4"),
        {1, 2},
    ],
)
def test_only_numbers_are_packed(value: Any) -> None:
    with pytest.raises(WireError, match="cannot be sent"):
        pack({"a": value})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (array_map(dtype="|O8"), "numbers or truth values"),
        (array_map(dtype="O"), "numbers or truth values"),
        (array_map(dtype="<c8"), "numbers or truth values"),
        (array_map(dtype="V6"), "numbers or truth values"),
        (array_map(dtype="u1,u1"), "numbers or truth values"),
        (array_map(dtype="(2,3)u1"), "numbers or truth values"),
        (array_map(dtype=["u1"]), "numbers or truth values"),
        (array_map(dtype="<b8"), "no data type"),
        (array_map(shape=(2, 2, 3)), r"uint8 \(2, 2, 3\) comes with 6 bytes"),
        (array_map(shape=(10**12,)), "comes with 6 bytes"),
        (array_map(shape=(2**62, 2**62)), "comes with 6 bytes"),
        (array_map(shape=(-1, 6)), "short list of whole numbers"),
        (array_map(shape=(True, 6)), "short list of whole numbers"),
        (array_map(shape=(1.0, 6)), "short list of whole numbers"),
        (array_map(shape=[1] * 40 + [6]), "short list of whole numbers"),
        (array_map(shape=6), "short list of whole numbers"),
        (array_map(data="text"), "no bytes"),
        (array_map(data=None), "no bytes"),
        (msgpack.packb({b"__ndarray__": True}), "numbers or truth values"),
        (msgpack.packb({b"__npgeneric__": True, b"data": "1", b"dtype": "<f4"}), "must be a number"),
        (msgpack.packb({b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}), "does not fit"),
        (b"", "not msgpack"),
        (b"\xc1", "not msgpack"),
        (b"\xdd\xff\xff\xff\xff", "not msgpack"),  # a list of 4 G entries
        (b"\xdf\xff\xff\xff\xff", "not msgpack"),
        (b"\xc6\xff\xff\xff\xff\x00", "not msgpack"),  # 4 GB of bytes
        (b"\x91" * 2000, "not msgpack"),  # lists in lists
        (msgpack.packb([[]] * 1000), "more than 256"),
        (b"\x81\x90\x01", "not msgpack"),  # a list as a key
        (b"\xa1\xff", "not msgpack"),  # text that is not UTF-8
        (pack({"a": 1}) + b"\x00", "not msgpack"),
        (pack({"a": 1})[:-1], "not msgpack"),
        (msgpack.packb(msgpack.ExtType(5, b"12")), "not msgpack"),
        (msgpack.packb("x" * 20_000), "not msgpack"),
    ],
)
def test_what_is_not_in_the_format_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(WireError, match=message):
        unpack(data)


def test_random_bytes_are_read_or_refused_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    good = bytearray(
        pack({"observation/image": np.zeros((4, 4, 3), np.uint8), "timestamp": 1.5, "reset": True})
    )
    for _ in range(3000):
        data = bytearray(good)
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            data[place] = rng.integers(256)
        for bad in (bytes(data), rng.bytes(int(rng.integers(1, 60)))):
            try:
                unpack(bad)
            except WireError as error:
                assert "\n" not in str(error)
