"""Identities and names that nobody else has."""

from __future__ import annotations

import os
import socket
import time

from services.base.identity import replica_name


def test_two_containers_with_one_host_name_and_process_id_1_started_together_have_names_of_their_own(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "worker")
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    names = {replica_name() for _ in range(100)}
    assert len(names) == 100
    assert all(name.startswith("worker-1-") for name in names)


def test_a_very_long_host_name_leaves_room_for_the_rest(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "x" * 253)
    assert len(replica_name()) <= 128
    assert replica_name() != replica_name()
