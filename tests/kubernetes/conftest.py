"""Airflow with its provider for Kubernetes, and a cluster, for `make test-kubernetes`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cluster_double import ClusterDouble
from support.kubernetes_airflow import PYTHON, TaskRunner
from support.pod_sandbox import image_folders, why_not


@pytest.fixture(scope="session", autouse=True)
def _asked_for() -> None:
    """These tests need an environment of 400 MB."""
    if "KUBERNETES_TESTS" not in os.environ:
        pytest.skip("Kubernetes: not part of `make test`; `make test-kubernetes` runs these tests")
    assert PYTHON.exists()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterDouble]:
    """A cluster that knows two images: this very installation, and a shell."""
    if reason := why_not():
        pytest.skip(f"no pods can run here: {reason}")
    folder = tmp_path_factory.mktemp("cluster")
    images = {
        "airberg:installed": [sys.executable, "-m", "airberg.cli"],
        "airberg:script": ["/bin/sh", "-c", 'eval "$SCRIPT"', "airberg"],
    }
    double = ClusterDouble(folder, images, image_folders())
    yield double
    double.close()


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Airflow with its database."""
    home = tmp_path_factory.mktemp("airflow") / "home"
    TaskRunner(home, Path("/nonexistent")).prepare()
    return home


@pytest.fixture(scope="module")
def tasks(airflow_home: Path, cluster: ClusterDouble) -> TaskRunner:
    """Runs flows."""
    return TaskRunner(airflow_home, cluster.kubeconfig())
