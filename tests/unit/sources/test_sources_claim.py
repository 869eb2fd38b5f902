"""Hosts that share a folder build one after the other, and none waits for a dead one."""

from __future__ import annotations

import threading
from pathlib import Path

from airberg.sources.claim import CLAIM, Claim, claimed_elsewhere, kernel_lock, this_kernel


def test_claim_of_a_living_host_is_waited_for(tmp_path: Path) -> None:
    """The second host gets it when the first has given it up, and both were never at it at once."""
    file, order = tmp_path / CLAIM, []
    first = Claim(file, "first", beat_s=0.01, silent_s=60)
    assert first.take(unless=lambda: False)
    looked = threading.Event()

    def nothing_to_do() -> bool:
        looked.set()
        return False

    def second() -> None:
        with Claim(file, "second", beat_s=0.01, silent_s=60) as claim:
            assert claim.take(nothing_to_do)
            order.append("second")

    waiting = threading.Thread(target=second)
    waiting.start()
    assert looked.wait(30)
    order.append("first")
    first.release()
    waiting.join(30)
    assert order == ["first", "second"]
    assert not file.exists()


def test_waiting_ends_when_the_other_host_has_built(tmp_path: Path) -> None:
    """Then there is nothing left to do, and the claim stays the other's."""
    with Claim(tmp_path / CLAIM, "first", beat_s=0.01) as first:
        assert first.take(unless=lambda: False)
        answers = iter([False, False, True])
        with Claim(tmp_path / CLAIM, "second", beat_s=0.01) as second:
            assert not second.take(lambda: next(answers))
        assert (tmp_path / CLAIM).exists()


def test_claim_of_a_silent_host_is_passed_over(tmp_path: Path) -> None:
    """It was killed: its number does not grow."""
    (tmp_path / CLAIM).write_text("first 4711 3\n")
    with Claim(tmp_path / CLAIM, "second", beat_s=0.01, silent_s=0.05) as claim:
        assert claim.take(unless=lambda: False)
        assert (tmp_path / CLAIM).read_text().startswith("second ")


def test_claim_of_this_kernel_is_that_of_a_dead_process(tmp_path: Path) -> None:
    """The caller has the kernel's lock, so there is nobody to wait for, however long silence would count."""
    (tmp_path / CLAIM).write_text(f"{this_kernel()} 4711 3\n")
    with Claim(tmp_path / CLAIM, silent_s=100_000) as claim:
        assert claim.take(unless=lambda: False)
    assert not (tmp_path / CLAIM).exists()


def test_claim_that_was_passed_over_is_left_alone(tmp_path: Path) -> None:
    """Who was taken for dead and comes back does not take away the claim of the next."""
    slow = Claim(tmp_path / CLAIM, "slow", beat_s=3_600)
    assert slow.take(unless=lambda: False)
    with Claim(tmp_path / CLAIM, "quick", beat_s=0.01, silent_s=0.05) as quick:
        assert quick.take(unless=lambda: False)
        slow.release()
        assert (tmp_path / CLAIM).read_text().startswith("quick ")


def test_what_another_kernel_claims_is_seen(tmp_path: Path) -> None:
    """Only its claim counts, not our own and not none."""
    assert not claimed_elsewhere(tmp_path)
    (tmp_path / CLAIM).write_text(f"{this_kernel()} 1 1\n")
    assert not claimed_elsewhere(tmp_path)
    (tmp_path / CLAIM).write_text("another 1 1\n")
    assert claimed_elsewhere(tmp_path)


def test_lock_is_held_once(tmp_path: Path) -> None:
    """A second one gets nothing until the first is closed."""
    held = kernel_lock(tmp_path / "1.0.lock")
    assert held is not None
    assert kernel_lock(tmp_path / "1.0.lock") is None
    held.close()
    again = kernel_lock(tmp_path / "1.0.lock")
    assert again is not None
    again.close()
