"""Damage to files: bits, lengths, types, names, truncation. Every choice comes from the Generator."""

from __future__ import annotations

import copy
import csv
import io
import json
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

Rng = np.random.Generator
EXTREMES = (0, 1, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


def pick(rng: Rng, items: Any) -> Any:
    return items[int(rng.integers(len(items)))]


def odd_value(rng: Rng) -> Any:
    """What a field of a file should not hold."""
    deep: Any = 0
    for _ in range(50):
        deep = [deep]
    numbers = (0, -1, 1, 3, 10**6, 2**31, 2**63, 10**18, 10**30, 10**400, 0.5, -0.0, 1e-300, 1e300)
    texts = ("", "x", "7", "nan", "\0", "a/b", "../../x", "/etc/passwd", "$\\x$", "\x1b[2J", "line\nbreak")
    more = ("é" * 300, "\ud800", "{chunk_index:9d}", None, True, False, float("nan"), float("inf"))
    nested = ([], {}, [None], [1, "a"], [[1], [2, 3]], {"a": {"b": []}}, [0.0] * 1000, deep)
    return pick(rng, (*numbers, *texts, *more, *nested))


def damage_bytes(data: bytes, rng: Rng) -> bytes:
    """Bits, numbers, runs and lengths changed; sometimes cut off."""
    changed = bytearray(data)
    size = len(changed)
    if not size:
        return bytes(rng.integers(0, 256, int(rng.integers(1, 64)), np.uint8))
    start = int(rng.integers(size)) if rng.random() < 0.6 else int(rng.integers(min(size, 4096)))
    run = int(rng.integers(1, 65))
    match int(rng.integers(9)):
        case 0 | 1:  # bits
            for _ in range(int(rng.integers(1, 9))):
                changed[int(rng.integers(size))] ^= 1 << int(rng.integers(8))
        case 2:  # a run of anything
            changed[start : start + run] = rng.bytes(len(changed[start : start + run]))
        case 3:  # a run of one byte
            changed[start : start + run] = bytes([pick(rng, (0, 255))]) * len(changed[start : start + run])
        case 4:  # an extreme number
            width = pick(rng, (1, 2, 4, 8))
            number = (pick(rng, EXTREMES) % 256**width).to_bytes(width, pick(rng, ("little", "big")))
            changed[start : start + width] = number
        case 5:  # a number of text
            digits = [i for i, value in enumerate(changed) if 48 <= value <= 57]
            if digits:
                changed[pick(rng, digits)] = 48 + int(rng.integers(10))
        case 6:  # cut off
            del changed[start:]
        case 7:  # left out, or twice
            piece = changed[start : start + run]
            changed[start : start + run] = b"" if rng.random() < 0.5 else piece + piece
        case 8:  # garbage behind, or cut off and filled with zeros
            changed = changed + rng.bytes(run) if rng.random() < 0.5 else changed[:start].ljust(size, b"\0")
    return bytes(changed)


def damage_tree(tree: Any, rng: Rng) -> Any:
    """A value of nested lists and dicts with one place changed: another value, another name, gone, twice."""
    tree = copy.deepcopy(tree)
    places: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            places.append((node, key))
            visit(node[key])

    visit(tree)
    if not places or rng.random() < 0.02:
        return odd_value(rng)
    node, key = pick(rng, places)
    value = node[key]
    match int(rng.integers(6)):
        case 0:
            del node[key]
        case 1 if isinstance(node, dict):
            node[pick(rng, (str(key).upper(), f"{key}x", "", "a/b", "\0"))] = node.pop(key)
        case 2 if isinstance(value, (int, float)):
            factor = pick(rng, (-1, 0, 2, 0.5, 1e9, 1e300))
            with suppress(OverflowError):
                node[key] = type(value)(value * factor)
        case 2 | 3 if isinstance(value, (list, str)):
            node[key] = value + value if rng.random() < 0.5 else value[:-1]
        case 4:
            node[key] = pick(rng, ([value], str(value), {"value": value}))
        case _:
            node[key] = odd_value(rng)
    return tree


def damage_json(data: bytes, rng: Rng) -> bytes:
    return json.dumps(damage_tree(json.loads(data), rng)).encode()


def damage_lines(data: bytes, rng: Rng) -> bytes:
    """JSON lines: one of them changed, gone or out of place."""
    lines = data.splitlines()
    place = int(rng.integers(len(lines)))
    match int(rng.integers(5)):
        case 0:
            del lines[place]
        case 1:
            lines.append(lines[place])
        case _:
            lines[place] = damage_json(lines[place], rng)
    return b"\n".join(lines) + b"\n" * int(rng.random() < 0.9)


def damage_yaml(data: bytes, rng: Rng) -> bytes:
    import yaml

    if rng.random() < 0.15:
        lines = data.decode().splitlines()
        place = int(rng.integers(len(lines)))
        extra = pick(
            rng, ("a: ${oc.env:HOME}", "a: &x [1]", "b: *x", "? [", "!!python/name:os.system", "\t- x")
        )
        lines.insert(place, extra)
        return "\n".join(lines).encode()
    return yaml.safe_dump(damage_tree(yaml.safe_load(data), rng)).encode("utf-8", "surrogatepass")


def damage_csv(data: bytes, rng: Rng) -> bytes:
    table = list(csv.reader(io.StringIO(data.decode())))
    row = pick(rng, table)
    match int(rng.integers(5)):
        case 0:
            row.pop()
        case 1:
            table.remove(row)
        case 2:
            table.insert(int(rng.integers(len(table))), list(row))
        case _:
            row[int(rng.integers(len(row)))] = str(odd_value(rng)).encode("utf-8", "replace").decode()
    written = io.StringIO()
    csv.writer(written).writerows(table)
    return written.getvalue().encode()


def damage_safetensors(data: bytes, rng: Rng) -> bytes:
    """The header, still JSON, and once more in the right place; also JSON within its metadata."""
    length = int.from_bytes(data[:8], "little")
    head, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    inside = [name for name, text in head.get("__metadata__", {}).items() if text.startswith("{")]
    if inside and rng.random() < 0.6:
        name = pick(rng, inside)
        head["__metadata__"][name] = damage_json(head["__metadata__"][name].encode(), rng).decode()
    elif rng.random() < 0.3:  # numbers that are none
        place = 4 * int(rng.integers(max(1, len(body) // 4)))
        body = (
            body[:place]
            + pick(rng, (b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\xff\xff\x7f\x7f"))
            + body[place + 4 :]
        )
    else:
        head = damage_tree(head, rng)
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + body


def damage_zip(data: bytes, rng: Rng) -> bytes:
    """One member changed, gone, twice or called differently, in an archive that is whole."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    place = int(rng.integers(len(members)))
    name, content = members[place]
    match int(rng.integers(5)):
        case 0:
            del members[place]
        case 1:
            members[place] = f"{name}x", content
        case 2:
            members[place] = name, pick(rng, members)[1]
        case _:
            changed = damage_bytes(content, rng)
            if name.endswith(".npy"):
                changed = damage_array(content, rng)
            elif content.startswith(b"{"):
                changed = damage_json(content, rng)
            members[place] = name, changed
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return written.getvalue()


def other_array(values: np.ndarray, rng: Rng) -> np.ndarray:
    """Another type, shape or length, or numbers that are none."""
    match int(rng.integers(8)):
        case 0:
            return values.astype(pick(rng, ("float16", "complex64", "int8", "uint64", "bool", "S3", "U5")))
        case 1:
            return values[: int(rng.integers(len(values) + 1))] if values.ndim else values[None]
        case 2:
            return values.reshape(-1)
        case 3:
            return values[..., None]
        case 4:
            return np.concatenate([values, values]) if values.ndim else np.stack([values, values])
        case 5:
            return values.T
        case 6:
            return np.zeros(0, values.dtype)
        case _:
            odd = values.astype(np.float64).reshape(-1)
            if len(odd):
                odd[int(rng.integers(len(odd)))] = pick(rng, (np.nan, np.inf, -1.0, 1e300, 2.0**62))
            return odd.reshape(values.shape)


def damage_array(data: bytes, rng: Rng) -> bytes:
    written = io.BytesIO()
    np.save(written, other_array(np.load(io.BytesIO(data)), rng), allow_pickle=False)
    return written.getvalue()


def damage_torch(data: bytes, rng: Rng) -> bytes:
    """A state dict with one entry that is none: another kind of tensor, or no tensor at all."""
    import torch

    state = torch.load(io.BytesIO(data), weights_only=True)
    name = pick(rng, list(state))
    value = state[name]
    number = float(pick(rng, (np.nan, np.inf, 1e38)))
    kinds: list[Callable[[], Any]] = [
        lambda: value.to("meta"), value.to_sparse, lambda: value.to(torch.float8_e4m3fn), value.to_dense,
        lambda: value.double() * 1e300, lambda: value.to(torch.complex64), lambda: value[None],
        lambda: number, lambda: None, lambda: [value], lambda: {"a": value},
        lambda: torch.full_like(value, number),
        lambda: torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8), lambda: value[..., :0],
        lambda: value.float().expand(3, *value.shape), lambda: value.bool(), lambda: str(name),
    ]  # fmt: skip
    state[pick(rng, (name, name, name, f"{name}.x", 7, "", name.upper()))] = pick(rng, kinds)()
    written = io.BytesIO()
    torch.save(pick(rng, (state, state, state, list(state.values()), {"state_dict": state})), written)
    return written.getvalue()


def damage_hdf5(path: Path, rng: Rng) -> None:
    """A data set or an attribute changed: gone, called differently, of another type, shape or length."""
    import h5py

    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        name = pick(rng, names)
        item = file[name]
        match int(rng.integers(6)):
            case 0:
                del file[name]
            case 1:
                file.move(name, f"{name}{pick(rng, ('x', '/x', ' ', 'é'))}")
            case 2 | 3 if isinstance(item, h5py.Dataset):
                values = np.asarray(item[()])
                del file[name]
                if values.dtype.kind in "fiub":
                    file[name] = other_array(values, rng)
                else:
                    file[name] = pick(rng, (b"x", 5, np.zeros((3, 2))))
            case _:
                owner = pick(rng, [file, *(file[name] for name in names)])
                known = list(owner.attrs) or ["action_low"]
                wanted = (*known, "format_version", "state_names", "action_low", "env_args", "control_hz")
                value = odd_value(rng)
                with suppress(TypeError, ValueError, OverflowError):
                    owner.attrs[pick(rng, wanted)] = json.dumps(value) if rng.random() < 0.5 else value


def damage_parquet(path: Path, rng: Rng) -> None:
    """A column gone, called differently, of another type, with gaps; rows gone, twice or out of order."""
    import pyarrow as pa
    from pyarrow import parquet

    table = parquet.read_table(path)
    place = int(rng.integers(table.num_columns))
    name, values = table.column_names[place], table.column(place).to_pylist()
    match int(rng.integers(7)):
        case 0:
            table = table.drop_columns([name])
        case 1:
            table = table.rename_columns([f"{n}x" if n == name else n for n in table.column_names])
        case 2:
            table = table.slice(0, int(rng.integers(len(table) + 1)))
        case 3:
            table = table.take(rng.integers(0, max(len(table), 1), len(table)))
        case 4:
            table = table.set_column(place, name, pa.array([json.dumps(v, default=str) for v in values]))
        case _:
            if values:
                row = int(rng.integers(len(values)))
                value = values[row]
                odd: list[Any] = [None]
                if isinstance(value, list):
                    odd += [[], value + value, value[:-1], [None] * len(value)]
                elif isinstance(value, (int, float)):
                    odd += [-value - 1, 2**31, 2**62, 0]
                    odd += [float("nan"), 1e300, float("inf")] if isinstance(value, float) else []
                elif isinstance(value, dict):
                    odd += [{key: None for key in value}]
                values[row] = pick(rng, odd)
                with suppress(pa.ArrowInvalid, pa.ArrowTypeError):
                    table = table.set_column(place, name, pa.array(values))
    parquet.write_table(table, path)


STRUCTURED: dict[str, Callable[[bytes, Rng], bytes]] = {
    ".json": damage_json, ".jsonl": damage_lines, ".yaml": damage_yaml, ".csv": damage_csv,
    ".safetensors": damage_safetensors, ".zip": damage_zip, ".npz": damage_zip, ".pt": damage_torch,
}  # fmt: skip
IN_PLACE: dict[str, Callable[[Path, Rng], None]] = {
    ".h5": damage_hdf5, ".hdf5": damage_hdf5, ".parquet": damage_parquet,
}  # fmt: skip


def damage(path: Path, rng: Rng) -> None:
    """Damage the file: half of the time its bytes, otherwise what its format says."""
    if rng.random() < 0.5:
        with suppress(
            ValueError, KeyError, IndexError, TypeError, RuntimeError, NotImplementedError, OSError
        ):
            if path.suffix in IN_PLACE:
                IN_PLACE[path.suffix](path, rng)
                return
            if path.suffix in STRUCTURED:
                path.write_bytes(STRUCTURED[path.suffix](path.read_bytes(), rng))
                return
    path.write_bytes(damage_bytes(path.read_bytes(), rng))
