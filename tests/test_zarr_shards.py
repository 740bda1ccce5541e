"""Shards of compressed chunks: their room is claimed ahead, as far as there is any."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.disk import DISK_BYTES, small_disk
from mda_writers.errors import DiskFullError
from mda_writers.formats.zarr.shards import CLAIM_BYTES, MOST_CLAIMED_BYTES, Shard


def new_shard(folder: Path, data_bytes: int) -> Shard:
    return Shard(folder / "shard", 100, data_bytes, claim=False)


def claims(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note what is claimed."""
    claimed: list[int] = []
    claim = shard.file.claim

    def noted(offset: int, nbytes: int) -> None:
        claim(offset, nbytes)
        assert offset == sum(claimed), "claims follow one another"
        claimed.append(nbytes)

    monkeypatch.setattr(shard.file, "claim", noted)
    return claimed


def test_a_few_claims_are_enough_for_many_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = new_shard(tmp_path, 1 << 40)
    claimed = claims(shard, monkeypatch)
    for _ in range(2000):
        shard.append(100_000)
    shard.close()
    assert shard.end == 200_000_000
    assert claimed[0] == CLAIM_BYTES
    assert max(claimed) == MOST_CLAIMED_BYTES
    assert len(claimed) < 15
    assert shard.end <= sum(claimed) < shard.end + MOST_CLAIMED_BYTES


def test_no_more_is_claimed_than_the_shard_can_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = new_shard(tmp_path, 1_000_000)
    claimed = claims(shard, monkeypatch)
    for _ in range(10):
        shard.append(100_000)
    shard.close()
    assert sum(claimed) == 1_000_000


def test_a_disk_that_is_nearly_full_takes_chunks_as_long_as_they_fit(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as folder:
        shard = new_shard(folder, 1 << 40)
        with pytest.raises(DiskFullError):
            for _ in range(DISK_BYTES // 50_000 + 1):
                shard.append(50_000)
        shard.close()
        assert shard.end > 0.95 * DISK_BYTES
